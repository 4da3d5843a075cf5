const MAX_LINE_BYTES = 4096;

/** Cuts chunks into lines, as a serial console ends them too (\r\n); a line over 4 KiB becomes several. */
export class LineGatherer {
  #rest = Buffer.alloc(0);

  /** Lines that `chunk` completes, without their newlines; invalid UTF-8 is replaced. */
  add(chunk: Buffer): string[] {
    let bytes = Buffer.concat([this.#rest, chunk]);
    const lines: string[] = [];
    for (;;) {
      const newline = bytes.indexOf(0x0a);
      const end = newline < 0 || newline > MAX_LINE_BYTES ? MAX_LINE_BYTES : newline;
      if (end >= bytes.length) break;
      lines.push(bytes.toString("utf8", 0, endOfText(bytes, end)));
      bytes = bytes.subarray(end === newline ? end + 1 : end);
    }
    this.#rest = bytes;
    return lines;
  }
}

/** Without carriage returns before `end`. */
function endOfText(bytes: Buffer, end: number): number {
  let last = end;
  while (last > 0 && bytes[last - 1] === 0x0d) last -= 1;
  return last;
}
