/** How full the file system of guests' disks may become before somebody's writing is stopped. */
import { existsSync, readFileSync, statfsSync, statSync } from "node:fs";
import { rm, writeFile } from "node:fs/promises";
import { run } from "../lib/run.ts";
import { imageOf, isAllocated, mountedAt } from "./reserve.ts";

export interface Levels {
  /** Below this the largest grower stops, bytes. */
  low: number;
  /** Above this it goes on; and less than this is promised to nobody. */
  high: number;
}

const MIN_LOW = 512 << 20;
const MAX_LOW = 4 * 2 ** 30;
const SHARE = 0.04;

/** `totalBytes` of the file system. */
export function levelsOf(totalBytes: number): Levels {
  const low = Math.min(MAX_LOW, Math.max(MIN_LOW, Math.floor(totalBytes * SHARE)));
  return { low, high: Math.floor(low * 1.5) };
}

/**
 * Bytes that writes may still take in `dir`: what is free, less what was written and has no place yet (btrfs finds it when
 * it writes back; by then it is too late), and no more than the host's disk has below a file that is not allocated.
 */
export function availableBytes(dir: string): number {
  const fs = statfsSync(dir);
  const free = fs.bavail * fs.bsize - pendingBytes(dir);
  const image = imageBelow(dir);
  if (!image || !existsSync(image) || isAllocated(image)) return free;
  const below = statfsSync(image);
  return Math.min(free, below.bavail * below.bsize);
}

// What `dir` lies in does not change while the daemon has files open there, and the table of mounts grows with each sandbox.
const images = new Map<string, string | null>();

function imageBelow(dir: string): string | null {
  const known = images.get(dir);
  if (known !== undefined) return known;
  const image = imageOf(dir);
  images.set(dir, image);
  return image;
}

const uuids = new Map<string, string | null>();

function pendingBytes(dir: string): number {
  const uuid = uuidOf(dir);
  if (!uuid) return 0;
  try {
    return Number(readFileSync(`/sys/fs/btrfs/${uuid}/allocation/data/bytes_may_use`, "utf8"));
  } catch {
    return 0;
  }
}

/** Of the btrfs that `dir` lies in; null for another file system. */
function uuidOf(dir: string): string | null {
  const known = uuids.get(dir);
  if (known !== undefined) return known;
  let at = dir;
  while (at !== "/" && !mountedAt(at)) at = at.slice(0, at.lastIndexOf("/")) || "/";
  const device = (mountedAt(at) ?? "").split("/").at(-1) ?? "";
  const found = Bun.spawnSync(["sh", "-c", `ls -d /sys/fs/btrfs/*/devices/${device}`]).stdout.toString();
  const uuid = /^[a-z0-9]+$/.test(device) ? (found.match(/btrfs\/([0-9a-f-]{36})\//)?.[1] ?? null) : null;
  uuids.set(dir, uuid);
  return uuid;
}

/**
 * Space that is held until everything else is gone. A program of the host that fills the disk meets its end before it does;
 * then it is given to the guests that write on.
 */
export class Ballast {
  private readonly file: string;
  private readonly dir: string;

  constructor(
    dataDir: string,
    private readonly bytes: number,
  ) {
    this.dir = dataDir;
    this.file = `${dataDir}/ballast`;
  }

  held(): boolean {
    return (statSync(this.file, { throwIfNoEntry: false })?.blocks ?? 0) * 512 >= this.bytes;
  }

  /** Fails quietly where there is no room: it is tried again. */
  async take(): Promise<void> {
    if (this.held()) return;
    try {
      await writeFile(this.file, "", { mode: 0o600 });
      await run(["fallocate", "-l", String(this.bytes), this.file]);
    } catch {
      await rm(this.file, { force: true }).catch(() => {});
    }
  }

  async release(): Promise<void> {
    await rm(this.file, { force: true });
    // btrfs gives the space back with its next transaction.
    await run(["sync", "-f", this.dir]).catch(() => {});
  }
}
