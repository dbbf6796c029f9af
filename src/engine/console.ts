/** What a guest printed on its console (engine.ts, consoleFile), by boot, and as lines for people. */
import { rename, rm } from "node:fs/promises";
import { consoleFile } from "./engine.ts";
import { ringTail } from "./ring.ts";

/** As much as is kept for sure, bytes. */
export const CONSOLE_KEPT = 128 << 10;

const previousFile = (dir: string): string => `${dir}/console.prev.log`;

/** A new boot begins: the console of the one before is kept beside it. */
export async function beginConsole(dir: string): Promise<void> {
  for (const part of ["", ".1"]) {
    await rm(previousFile(dir) + part, { force: true });
    await rename(consoleFile(dir) + part, previousFile(dir) + part).catch(() => {});
  }
}

/** The end of the console, at most `bytes`; "" when there is none. Whatever the guest wrote: never trust it. */
export function readConsole(dir: string, bytes = CONSOLE_KEPT, previous = false): string {
  return ringTail(previous ? previousFile(dir) : consoleFile(dir), bytes).toString("utf8");
}

/** The last lines with something on them, for an error message: bounded, without control characters. */
export function lastLines(text: string, count: number, width = 200): string[] {
  return (
    text
      .split(/[\r\n]+/)
      // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is removed
      .map((line) => line.replace(/\x1b\[[0-9;]*[A-Za-z]/g, "").replace(/[\x00-\x1f\x7f-\x9f]/g, ""))
      .map((line) => line.trim().slice(0, width))
      .filter(Boolean)
      .slice(-count)
  );
}
