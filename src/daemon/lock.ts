/** One daemon per data directory: two would restore the same memory twice. */
import { dlopen, FFIType } from "bun:ffi";
import { closeSync, mkdirSync, openSync } from "node:fs";

const LOCK_EX_NB = 2 | 4;

/** Takes flock(2) on `<data>/lock`, which the kernel drops with the process. Throws when another daemon holds it. */
export function lockDataDir(dataDir: string): () => void {
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  const fd = openSync(`${dataDir}/lock`, "a", 0o600);
  const libc = dlopen("libc.so.6", { flock: { args: [FFIType.i32, FFIType.i32], returns: FFIType.i32 } });
  if (libc.symbols.flock(fd, LOCK_EX_NB) !== 0) {
    closeSync(fd);
    throw new Error(`another bhatti daemon uses ${dataDir}`);
  }
  return () => closeSync(fd);
}
