/** Everything that is printed goes through here: synchronous, in order, byte-exact; results to stdout, the rest to stderr. */
import { writeSync } from "node:fs";
import { isatty } from "node:tty";
import { CliError, EXIT, reason } from "./errors.ts";

let json = false;

/** With --json, stdout gets exactly one JSON value and notices become JSON lines on stderr. */
export function setJson(on: boolean): void {
  json = on;
}

export function jsonMode(): boolean {
  return json;
}

/** Writes all of it. A reader that has gone away (EPIPE) ends the process quietly, as SIGPIPE would. */
export function write(fd: 1 | 2, data: string | Uint8Array): void {
  let rest = typeof data === "string" ? Buffer.from(data) : data;
  while (rest.length > 0) {
    try {
      rest = rest.subarray(writeSync(fd, rest));
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      if (code === "EAGAIN")
        Bun.sleepSync(2); // someone made the pipe non-blocking, and it is full
      else if (code === "EPIPE") process.exit(EXIT.brokenPipe);
      else if (fd === 2)
        return; // nowhere left to complain
      else
        throw new CliError(`cannot write the output: ${reason(error)}`, {
          code: "no_output",
          cause: error,
        });
    }
  }
}

/** A line of human output; swallowed under --json. */
export function say(line = ""): void {
  if (!json) write(1, `${line}\n`);
}

/** Something worth knowing that is not the result. */
export function notice(text: string): void {
  write(2, json ? `${JSON.stringify({ notice: text })}\n` : `${dim("note:", 2)} ${text}\n`);
}

/** The one JSON value of a command; nothing in human mode. Returns whether it was printed. */
export function printJson(value: unknown): boolean {
  if (json) write(1, `${JSON.stringify(value, null, 2)}\n`);
  return json;
}

/** Text of others (guests, servers) must not move the cursor or recolour the terminal. Tabs and newlines become visible too. */
export function clean(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  return text.replace(/[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g, (c) => {
    const code = c.charCodeAt(0);
    return code < 256 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16)}`;
  });
}

/** The same for a text of many lines, which keeps its lines and tabs and always ends with a newline. */
export function visible(text: string): string {
  const shown = text.split(/\r*\n/).map((line) => line.split("\t").map(clean).join("\t"));
  return `${shown.join("\n").replace(/\n+$/, "")}\n`;
}

/** Aligned columns, two spaces apart, no trailing blanks. `right`: indexes of right-aligned columns. */
export function table(header: string[], rows: string[][], right: number[] = []): void {
  const cells = [header, ...rows.map((row) => row.map((cell) => clean(cell)))];
  const widths = header.map((_, i) => Math.max(...cells.map((row) => Bun.stringWidth(row[i] ?? ""))));
  cells.forEach((row, r) => {
    const line = row
      .map((cell, i) => {
        const fill = " ".repeat(widths[i]! - Bun.stringWidth(cell));
        return right.includes(i) ? fill + cell : cell + fill;
      })
      .join("  ")
      .trimEnd();
    say(r === 0 ? bold(line) : line);
  });
}

/** "Label:  value" lines with the values aligned; undefined values are left out. */
export function fields(pairs: [string, string | undefined][], indent = ""): void {
  const shown = pairs.filter((pair): pair is [string, string] => pair[1] !== undefined);
  const width = Math.max(...shown.map(([label]) => label.length)) + 1;
  for (const [label, value] of shown) say(`${indent}${`${label}:`.padEnd(width)} ${clean(value)}`);
}

/** Whether escape sequences belong on this stream. https://no-color.org */
export function colourful(fd: 1 | 2): boolean {
  if (json || process.env.NO_COLOR || process.env.TERM === "dumb") return false;
  return isTty(fd);
}

export const isTty = (fd: 0 | 1 | 2): boolean => isatty(fd);

const paint = (on: string, off: string, text: string, fd: 1 | 2) =>
  colourful(fd) ? `\x1b[${on}m${text}\x1b[${off}m` : text;

export const bold = (text: string, fd: 1 | 2 = 1) => paint("1", "22", text, fd);
export const dim = (text: string, fd: 1 | 2 = 1) => paint("2", "22", text, fd);
export const red = (text: string, fd: 1 | 2 = 1) => paint("31", "39", text, fd);
export const green = (text: string, fd: 1 | 2 = 1) => paint("32", "39", text, fd);
export const yellow = (text: string, fd: 1 | 2 = 1) => paint("33", "39", text, fd);
