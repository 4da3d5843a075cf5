/** Text of strangers inside messages: in quotes, short, and in ASCII, so that look-alikes and controls show. */
const MAX_SHOWN = 80;

export function quoteText(text: string): string {
  const shown = text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}...` : text;
  return JSON.stringify(shown).replaceAll(
    /[^ -~]/g,
    (found) => `\\u${found.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
