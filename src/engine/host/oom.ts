/** Who killed a VMM: the kernel's log names every process that its out-of-memory killer ends. */
import { closeSync, constants, openSync, readSync } from "node:fs";

const US_PER_TICK = 10_000;

/**
 * True when the log says so, of the process that was started `startTime` ticks after the host's boot. False as well where the
 * log cannot be read.
 */
export function killedForMemory(pid: number, startTime: number, log = "/dev/kmsg"): boolean {
  let file: number;
  try {
    file = openSync(log, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch {
    return false;
  }
  try {
    return scan(file, new RegExp(`[Oo]ut of memory: Killed process ${pid} `), startTime * US_PER_TICK);
  } finally {
    closeSync(file);
  }
}

/** One read is one record, "<level>,<number>,<µs since boot>,…;<text>". EPIPE: a record was overwritten meanwhile, the next one follows. EAGAIN: the end. */
function scan(file: number, wanted: RegExp, afterUs: number): boolean {
  const record = Buffer.alloc(8192);
  for (let i = 0; i < 100_000; i++) {
    try {
      const length = readSync(file, record, 0, record.length, null);
      if (length === 0) return false;
      const text = record.toString("latin1", 0, length);
      if (wanted.test(text) && Number(text.split(",")[2]) >= afterUs) return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EPIPE") return false;
    }
  }
  return false;
}
