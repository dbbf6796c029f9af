/** Keeps a log bounded while its writer goes on: what is full is copied aside and emptied in place. */
import { copyFileSync, renameSync, statSync, truncateSync } from "node:fs";

/** Generations kept beside the file: `<file>.1` is the newest. */
const KEEP = 3;

/**
 * Writers hold the file open for appending: emptied, it goes on at its beginning without a hole. A line written between copy and
 * emptying is lost. Returns whether it happened; never throws (a full disk must not end the supervisor).
 */
export function rotate(file: string, maxBytes: number): boolean {
  try {
    if (statSync(file).size <= maxBytes) return false;
    for (let n = KEEP - 1; n >= 1; n--) move(`${file}.${n}`, `${file}.${n + 1}`);
    copyFileSync(file, `${file}.1`);
  } catch {
    // No room for a copy, or no file. What is there must not grow for ever all the same.
    if (tooFar(file, maxBytes)) empty(file);
    return false;
  }
  return empty(file);
}

const tooFar = (file: string, maxBytes: number): boolean => {
  try {
    return statSync(file).size > 2 * maxBytes;
  } catch {
    return false;
  }
};

function empty(file: string): boolean {
  try {
    truncateSync(file, 0);
    return true;
  } catch {
    return false;
  }
}

function move(from: string, to: string): void {
  try {
    renameSync(from, to);
  } catch {
    // not that many yet
  }
}
