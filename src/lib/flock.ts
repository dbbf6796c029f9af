/** flock(2): a lock on an open file that the kernel drops when the last process that holds it open ends. */
import { dlopen, FFIType } from "bun:ffi";

const LOCK_EX_NB = 2 | 4;

/** Whether `fd` now holds the exclusive lock; false when another open of the file does. */
export function flock(fd: number): boolean {
  const libc = dlopen("libc.so.6", { flock: { args: [FFIType.i32, FFIType.i32], returns: FFIType.i32 } });
  return libc.symbols.flock(fd, LOCK_EX_NB) === 0;
}
