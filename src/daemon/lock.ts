/** One daemon per data directory: two would restore the same memory twice. */
import { closeSync, mkdirSync, openSync } from "node:fs";
import { flock } from "../lib/flock.ts";

/** Takes flock(2) on `<data>/lock`, which the kernel drops with the process. Throws when another daemon holds it. */
export function lockDataDir(dataDir: string): () => void {
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  const fd = openSync(`${dataDir}/lock`, "a", 0o600);
  if (!flock(fd)) {
    closeSync(fd);
    throw new Error(`another bhatti daemon uses ${dataDir}`);
  }
  return () => closeSync(fd);
}
