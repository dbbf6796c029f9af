/** Keeps what this process holds out of core dumps: one of the daemon would hold secrets that were in use, and their key. */
import { dlopen } from "bun:ffi";

const PR_SET_DUMPABLE = 4;

/** prctl(PR_SET_DUMPABLE, 0), see prctl(2). Programs that are started have their own setting. Returns whether the kernel did it. */
export function neverDumped(): boolean {
  const { symbols } = dlopen("libc.so.6", {
    prctl: { args: ["i32", "u64", "u64", "u64", "u64"], returns: "i32" },
  });
  return symbols.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) === 0;
}
