/** File modes as chmod takes them: octal (`2750`) or symbolic (`u=rwx,g+s,o-rwx`). */

const OCTAL = /^[0-7]{1,5}$/;
const CLAUSE = /^([ugoa]*)([+=-])([rwxXst]*)$/;
const MAX_CHARACTERS = 64;

const WHO = ["u", "g", "o"] as const;
const UMASK = 0o022;
const SHIFT = { u: 6, g: 3, o: 0 } as const;
const SPECIAL = { u: 0o4000, g: 0o2000, o: 0 } as const;

export function isModeChange(text: string): boolean {
  if (text.length > MAX_CHARACTERS) return false;
  return OCTAL.test(text) || text.split(",").every((clause) => CLAUSE.test(clause));
}

/**
 * The mode that `change` makes of `mode`. As chmod does, an octal change of up to four digits keeps a directory's
 * setuid and setgid bits; without a class, the umask is taken as 0022.
 * @throws RangeError for what isModeChange refuses.
 */
export function changeMode(mode: number, change: string, isDirectory: boolean): number {
  if (!isModeChange(change)) throw new RangeError(`not a mode: ${change}`);
  if (OCTAL.test(change)) {
    const kept = isDirectory && change.length < 5 ? mode & 0o6000 : 0;
    return (Number.parseInt(change, 8) & 0o7777) | kept;
  }
  return change.split(",").reduce((current, clause) => applyClause(current, clause, isDirectory), mode);
}

function applyClause(mode: number, clause: string, isDirectory: boolean): number {
  const [, classes = "", operator = "", letters = ""] = CLAUSE.exec(clause) ?? [];
  const concerned = WHO.filter((who) => classes === "" || classes.includes(who) || classes.includes("a"));
  const mayExecute = isDirectory || (mode & 0o111) !== 0;
  const wanted = concerned.reduce((bits, who) => bits | bitsOf(letters, who, mayExecute), 0);
  const bits = classes === "" ? wanted & ~UMASK : wanted;
  if (operator === "+") return mode | bits;
  if (operator === "-") return mode & ~bits;
  const all = concerned.reduce((mask, who) => mask | (0o7 << SHIFT[who]) | SPECIAL[who], 0);
  return (mode & ~all) | bits;
}

function bitsOf(letters: string, who: keyof typeof SHIFT, mayExecute: boolean): number {
  let permissions = 0;
  if (letters.includes("r")) permissions |= 4;
  if (letters.includes("w")) permissions |= 2;
  if (letters.includes("x") || (letters.includes("X") && mayExecute)) permissions |= 1;
  const setId = letters.includes("s") ? SPECIAL[who] : 0;
  const sticky = letters.includes("t") && who === "o" ? 0o1000 : 0;
  return (permissions << SHIFT[who]) | setId | sticky;
}
