/** Names of files in a guest: any bytes but NUL, while arguments and terminals are text. */
import { readFileSync } from "node:fs";
import type { GuestEntry } from "../../client/files.ts";
import { clean } from "../base/output.ts";

const REPLACEMENT = "\ufffd";

/**
 * A path as the server takes it: `base64:…` for an argument that is not UTF-8, whose bytes the runtime has replaced and the
 * kernel still knows. Anything else, `base64:…` included, stays as it is.
 */
export function guestPath(argument: string, commandLine: () => Buffer = own): string {
  if (!argument.includes(REPLACEMENT)) return argument;
  let rest: Buffer;
  try {
    rest = commandLine();
  } catch {
    return argument;
  }
  for (let end = rest.indexOf(0); end >= 0; end = rest.indexOf(0)) {
    const raw = rest.subarray(0, end);
    rest = rest.subarray(end + 1);
    const text = raw.toString();
    if (text === argument && !Buffer.from(text).equals(raw)) return `base64:${raw.toString("base64")}`;
  }
  return argument;
}

const own = () => readFileSync("/proc/self/cmdline");

/** For people: control characters, and bytes that are no UTF-8, as \xNN; a backslash of the name itself is two (ls -b). */
export function shown(text: string, base64?: string): string {
  if (base64 === undefined) return clean(text.replaceAll("\\", "\\\\"));
  const latin = Buffer.from(base64, "base64").toString("latin1").replaceAll("\\", "\\\\");
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  return latin.replace(/[\x00-\x1f\x7f-\xff]/g, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, "0")}`);
}

const LETTERS: Record<string, string> = {
  dir: "d",
  symlink: "l",
  char_device: "c",
  block_device: "b",
  fifo: "p",
  socket: "s",
};

/** A line of a listing: kind and mode, size (numbers of a device), name, target. */
export function line(e: GuestEntry): string {
  const size = e.device ?? String(e.size);
  const target = e.kind === "symlink" ? ` -> ${shown(e.target ?? "", e.target_b64)}` : "";
  const letter = LETTERS[e.kind] ?? (e.is_dir ? "d" : "-");
  return `${letter}${clean(e.mode)} ${size.padStart(8)} ${shown(e.name, e.name_b64)}${target}`;
}
