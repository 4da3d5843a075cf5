// What was proven, what was not, and why something was refused. Text only: nothing of a document becomes markup.

export function showVerdict(place, document, policy, atMs) {
  const isPast = Math.abs(Date.now() - atMs) > 60_000;
  place.replaceChildren(
    heading("good", "Verified"),
    list("Proven", [
      `It was signed under the root ${document.rootSha256}`,
      `All certificates were valid at ${new Date(atMs).toISOString()}`,
      ...(policy.measurements === undefined ? [] : ["The registers are those that you gave"]),
      ...(policy.nonce === undefined ? [] : ["It repeats your nonce"]),
    ]),
    list("Not proven", [
      ...(isPast ? ["That it is good now: you asked about the past"] : []),
      ...(policy.measurements === undefined ? ["Which image it is: no registers were compared"] : []),
      ...(policy.nonce === undefined ? ["That it was made for you: no nonce was asked for"] : []),
      ...(document.isDebug ? ["Anything about secrets: the enclave runs in debug mode"] : []),
      "Whom a page or a program is connected to",
    ]),
    facts([
      ["Module", document.moduleId],
      ["Time", new Date(document.timestampMs).toISOString()],
      ...[...document.pcrs].map(([index, value]) => [`PCR${index}`, toHex(value)]),
      ["Public key", toHex(document.publicKey) || "none"],
      ["User data", toHex(document.userData) || "none"],
      ["Nonce", toHex(document.nonce) || "none"],
    ]),
  );
}

export function showRefusal(place, error) {
  const code = typeof error.code === "string" ? error.code : "";
  const title = code.startsWith("E_UNMET_") ? "Genuine, but not what you asked for" : "Refused";
  place.replaceChildren(
    heading("bad", title),
    facts([
      ...(code === "" ? [] : [["Code", code]]),
      ["Reason", error.message],
      ...(typeof error.hint === "string" ? [["What to do", error.hint]] : []),
    ]),
  );
}

function heading(kind, text) {
  const element = document.createElement("h2");
  element.className = kind;
  element.textContent = text;
  return element;
}

function list(title, lines) {
  const part = document.createElement("section");
  const head = document.createElement("h3");
  head.textContent = title;
  const items = document.createElement("ul");
  items.append(...lines.map((line) => withText("li", line)));
  part.append(head, items);
  return part;
}

function facts(rows) {
  const element = document.createElement("dl");
  for (const [name, value] of rows) element.append(withText("dt", name), withText("dd", value));
  return element;
}

function withText(tag, text) {
  const element = document.createElement(tag);
  element.textContent = text;
  return element;
}

function toHex(bytes) {
  return [...(bytes ?? [])].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
