/** A text that an enclave gave, on one line and without control characters: it ends up in records and on terminals. */
export function toOneLine(text: string): string {
  // oxlint-disable-next-line no-control-regex -- control characters are what is looked for
  return text.replaceAll(/[\u0000-\u001F\u007F-\u009F]+/g, " ").trim();
}
