/** One daemon per data directory: two would restore the same memory twice. */
import { closeSync, mkdirSync, openSync } from "node:fs";
import { conflict } from "../lib/errors.ts";
import { flock } from "../lib/flock.ts";

/** Taken by a daemon, and by a local command that opens the database while no daemon runs; null when somebody holds it. */
export function tryLock(dataDir: string): (() => void) | null {
  const fd = openSync(`${dataDir}/lock`, "a", 0o600);
  if (flock(fd)) return () => closeSync(fd);
  closeSync(fd);
  return null;
}

/** Throws when another daemon holds the directory. */
export function lockDataDir(dataDir: string): () => void {
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  const unlock = tryLock(dataDir);
  if (!unlock) throw conflict(`another bhatti daemon uses ${dataDir}`, "sudo bhatti host service stop");
  return unlock;
}
