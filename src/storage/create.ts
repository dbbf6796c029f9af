/** The one implementation of Storage: plain files on one file system. */
import { statfsSync } from "node:fs";
import { mkdir, open, rename, rm, stat, truncate, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { AppError } from "../lib/errors.ts";
import { hex } from "../lib/ids.ts";
import { run } from "../lib/run.ts";
import { noSpaceError } from "./no-space.ts";
import { reserveDir } from "./reserve.ts";
import type { Reservation, Storage } from "./storage.ts";
import { availableBytes, levelsOf } from "./watermark.ts";

/** Probes `dataDir` for reflinks once and decides the mode. `floor`: space that is never promised to anybody, bytes. */
export async function createStorage(dataDir: string, floor?: number): Promise<Storage> {
  await mkdir(dataDir, { recursive: true, mode: 0o700 });
  const { blocks, bsize } = statfsSync(dataDir);
  floor ??= levelsOf(blocks * bsize).high;
  return new FileStorage(dataDir, await probe(dataDir), floor);
}

/** statfs types of file systems that can reflink: for a disk too full to try. */
const REFLINK_TYPES = new Set([0x9123683e /* btrfs */, 0x58465342 /* xfs */]);

async function probe(dir: string): Promise<"reflink" | "copy"> {
  const from = `${dir}/.probe-${hex(4)}`;
  const to = `${from}-copy`;
  try {
    await writeFile(from, "x".repeat(65536));
    await run(["cp", "--reflink=always", from, to]);
    return "reflink";
  } catch (error) {
    const full = noSpaceError(error) !== null;
    return full && REFLINK_TYPES.has(statfsSync(dir).type) ? "reflink" : "copy";
  } finally {
    await rm(from, { force: true });
    await rm(to, { force: true });
  }
}

class FileStorage implements Storage {
  private reserved = 0;

  constructor(
    private readonly dataDir: string,
    readonly mode: "reflink" | "copy",
    private readonly floor: number,
  ) {}

  async clone(from: string, to: string, signal?: AbortSignal): Promise<void> {
    const staging = `${to}.${hex(4)}.tmp`;
    // Within the reserve copies are always reflinks; from one file system to another they never are.
    const near = (await stat(from)).dev === (await stat(dirname(to))).dev;
    const reflinks = this.mode === "reflink" || to.startsWith(`${reserveDir(this.dataDir)}/`);
    const how = near && reflinks ? ["--reflink=always"] : ["--reflink=never", "--sparse=always"];
    try {
      await run(["cp", ...how, "--no-preserve=all", from, staging], { signal });
      await rename(staging, to);
    } catch (error) {
      await rm(staging, { force: true });
      throw noSpaceError(error) ?? error;
    }
  }

  reserve(bytes: number, what: string): Reservation {
    const freeBytes = availableBytes(this.dataDir);
    if (this.reserved + bytes + this.floor > freeBytes) {
      const mb = (n: number) => Math.max(0, Math.floor(n / 1048576));
      throw new AppError(
        "disk_full",
        `no disk space for ${what}: ${mb(bytes)} MB needed, ${mb(freeBytes - this.reserved - this.floor)} MB free`,
        {
          remedy: "destroy sandboxes or snapshots you no longer need, or give the server more disk",
        },
      );
    }
    this.reserved += bytes;
    let held = true;
    return {
      release: () => {
        if (held) this.reserved -= bytes;
        held = false;
      },
    };
  }

  tryReserve(bytes: number): Reservation | null {
    try {
      return this.reserve(bytes, "");
    } catch (error) {
      if (error instanceof AppError) return null;
      throw error;
    }
  }

  async growFile(path: string, sizeMb: number): Promise<void> {
    const bytes = sizeMb * 1024 * 1024;
    const { size } = await stat(path);
    if (bytes < size)
      throw new AppError("bad_request", `a disk cannot shrink: it has ${Math.ceil(size / 1048576)} MB`);
    await truncate(path, bytes);
  }

  async usage(path: string) {
    const allocatedBytes = Number((await run(["du", "-s", "--block-size=1", path])).split("\t")[0]);
    if (this.mode !== "reflink") return { allocatedBytes, exclusiveBytes: allocatedBytes };
    try {
      const line = (await run(["btrfs", "filesystem", "du", "-s", "--raw", path])).trim().split("\n").at(-1)!;
      return { allocatedBytes, exclusiveBytes: Number(line.trim().split(/\s+/)[1]) };
    } catch {
      return { allocatedBytes, exclusiveBytes: null };
    }
  }

  async sync(paths: string[]): Promise<void> {
    for (const path of [...paths, ...new Set(paths.map(dirname))]) {
      const handle = await open(path, "r");
      try {
        await handle.sync();
      } finally {
        await handle.close();
      }
    }
  }

  free() {
    const fs = statfsSync(this.dataDir);
    return {
      freeBytes: fs.bavail * fs.bsize,
      totalBytes: fs.blocks * fs.bsize,
      reservedBytes: this.reserved,
    };
  }
}
