/** Old guest kernels: kept for the sandboxes and snapshots whose memory needs them, removed when none is left. */
import { readdirSync, readlinkSync, rmSync, statSync } from "node:fs";

/** A directory younger than this may belong to an installation that has not switched to it yet, ms. */
const SETTLED_MS = 60 * 60_000;

/** Removes installed versions that are neither current nor in `used`; returns their names. */
export function collectKernels(dataDir: string, used: ReadonlySet<string>): string[] {
  const root = `${dataDir}/kernel`;
  const current = readlinkSync(`${root}/current`);
  const removed: string[] = [];
  for (const entry of readdirSync(root, { withFileTypes: true })) {
    const path = `${root}/${entry.name}`;
    const isVersion = entry.isDirectory() && /^\d/.test(entry.name);
    if (!isVersion || entry.name === current || used.has(entry.name)) continue;
    if (Date.now() - statSync(path).mtimeMs < SETTLED_MS) continue;
    rmSync(path, { recursive: true, force: true });
    removed.push(entry.name);
  }
  return removed;
}
