/**
 * Text that an enclave had a hand in, fit for a terminal: colours stay, everything else that moves the cursor or changes
 * the terminal goes. Newlines and tabs stay.
 */
export function toPrintable(text: string): string {
  // oxlint-disable-next-line no-control-regex -- control characters are what is looked for
  return text.replaceAll(/\u001B\[[0-9;]*m|[\u0000-\u0008\u000B-\u001F\u007F-\u009F]/g, (found) =>
    found.endsWith("m") ? found : "",
  );
}
