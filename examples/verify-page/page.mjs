// The page: a form, a place to drop a file, and the verifier. Nothing is sent anywhere.
import { createWebCrypto, DocumentVerifier } from "../../attest/browser-entry.ts";
import { readDocument, readPolicy, readTime } from "./fields.mjs";
import { showRefusal, showVerdict } from "./report.mjs";

const verifier = new DocumentVerifier(createWebCrypto());
const form = document.querySelector("#form");
const place = document.querySelector("#result");
const drop = document.querySelector("#drop");

async function verify() {
  place.replaceChildren();
  try {
    const policy = readPolicy(form.elements);
    const atMs = readTime(form.elements);
    const bytes = await readDocument(form.elements);
    showVerdict(place, await verifier.verify(bytes, policy, atMs), policy, atMs);
  } catch (error) {
    showRefusal(place, error);
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  void verify();
});
form.elements.file.addEventListener("change", () => void verify());
form.elements.text.addEventListener("input", () => (form.elements.file.value = ""));
drop.addEventListener("dragover", (event) => {
  event.preventDefault();
  drop.classList.add("over");
});
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  if (event.dataTransfer.files.length === 0) return;
  form.elements.file.files = event.dataTransfer.files;
  void verify();
});
