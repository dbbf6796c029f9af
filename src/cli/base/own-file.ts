/** Reads a settings file of the person at the keyboard. Under sudo root reads what a user may have laid out as a trap. */
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { CliError } from "./errors.ts";

const MAX_BYTES = 64 * 1024;

/**
 * Text and mode of a regular file that belongs to the caller, to root or to the person behind sudo. Never waits (FIFO), never
 * reads without end (/dev/zero). @throws CliError when it is something else; system errors as they are.
 */
export function readOwn(file: string): { text: string; mode: number } {
  const fd = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  try {
    const { uid, mode, size } = fstatSync(fd);
    const refuse = (what: string, remedy: string) =>
      new CliError(`${file} ${what}`, { code: "config", remedy });
    if ((mode & 0o170000) !== 0o100000) throw refuse("is not a file", "run: bhatti setup");
    if (size > MAX_BYTES) throw refuse("is too large to be a configuration", "run: bhatti setup");
    const caller = process.getuid?.() ?? 0;
    const invoker = caller === 0 ? Number(process.env.SUDO_UID ?? 0) : caller;
    if (![0, caller, invoker].includes(uid))
      throw refuse(
        `belongs to uid ${uid}: whoever that is would decide where your key goes`,
        `chown it, or remove it`,
      );
    const bytes = Buffer.alloc(MAX_BYTES);
    return { text: bytes.toString("utf8", 0, readSync(fd, bytes)), mode };
  } finally {
    closeSync(fd);
  }
}
