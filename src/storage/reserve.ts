/**
 * The reserve: a file system of its own in a fully allocated file, mounted at `<data>/reserved`. What was promised lives
 * here (guest memory, device states, the database), where no guest's disk and no other program of the host can take its space.
 *
 * XFS, because it counts exactly: blocks are shared and given back one by one (btrfs keeps an extent as long as any piece of
 * it is in use, so that a guest could pin many times its memory), and with an extent size hint a page fault takes real
 * blocks instead of a worst-case reservation for its bookkeeping.
 */
import { existsSync, readFileSync, statfsSync, statSync } from "node:fs";
import { chmod, mkdir, rename, rm, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { conflict } from "../lib/errors.ts";
import { hex } from "../lib/ids.ts";
import { changedByOthers } from "../lib/root-only.ts";
import { run } from "../lib/run.ts";

export interface ReserveChoice {
  dataDir: string;
  /** The file, on the host's disk. */
  image: string;
  /** MiB; 0 = `defaultReserveMb`. Only what a new reserve gets: one that is there keeps its size (`growReserve`). */
  sizeMb: number;
}

/** mkfs.xfs makes none below 300 MiB. */
const MIN_MB = 512;
/** Blocks of 4 KiB: faults take 64 KiB at a time, in holes and in shared pages alike. */
const HINT = 16;

export const reserveDir = (dataDir: string): string => `${dataDir}/reserved`;

/**
 * MiB. Memory that runs is bounded by the host's memory; beside it lie templates, snapshots and memory that sleeps, which
 * moves out to the data file system when room is needed. Never more than a quarter of what is free where it will lie.
 */
export function defaultReserveMb(image: string, totalMemoryMb: number): number {
  const wanted = totalMemoryMb + Math.max(4096, Math.floor(totalMemoryMb / 4));
  return Math.max(MIN_MB, Math.min(wanted, Math.floor(freeMb(dirname(image)) / 4)));
}

const freeMb = (dir: string): number => {
  const fs = statfsSync(dir);
  return (fs.bavail * fs.bsize) / 1048576;
};

/** Device mounted at `dir`, or null. */
export function mountedAt(dir: string): string | null {
  const lines = readFileSync("/proc/mounts", "utf8").split("\n");
  return (
    lines
      .map((line) => line.split(" "))
      .find(([, at]) => at === dir)
      ?.at(0) ?? null
  );
}

/** Makes the file if there is none, mounts it, and sees to it that every byte of it is allocated. Idempotent. */
export async function mountReserve(choice: ReserveChoice, note: (text: string) => void): Promise<void> {
  const dir = reserveDir(choice.dataDir);
  const { image } = choice;
  if (!mountedAt(dir)) {
    await mkdir(dir, { recursive: true, mode: 0o700 });
    if (!existsSync(image)) {
      note(`creating ${image}: ${choice.sizeMb} MiB, allocated, for guest memory and the database`);
      await makeImage(image, choice.sizeMb);
    }
    const changer = changedByOthers(image);
    if (changer)
      throw new Error(`${image} is not safe for data: ${changer} can be changed by others than root`);
    await allocate(image);
    // Somebody else's mount namespace may hold the file system that we unmounted: a second device of it would not be mounted.
    const device = (await attachedTo(image)) ?? (await run(["losetup", "--find", "--show", image])).trim();
    try {
      // Guest memory is in the page cache once: not a second time below the loop device. Some file systems cannot.
      await run(["losetup", "--direct-io=on", device]).catch(() => {});
      await run(["mount", "-t", "xfs", "-o", "noatime,nodev,nosuid,noexec", device, dir]);
      await chmod(dir, 0o700);
    } finally {
      // Lazily: the device goes when the file system is unmounted.
      await run(["losetup", "--detach", device]).catch(() => {});
    }
  }
  await neverGiveBack(mountedAt(dir)!);
}

async function attachedTo(image: string): Promise<string | null> {
  const listed = await run(["losetup", "--noheadings", "--output", "NAME", "--associated", image]);
  return listed.trim().split("\n")[0]?.trim() || null;
}

async function makeImage(image: string, sizeMb: number): Promise<void> {
  if (sizeMb < MIN_MB) throw new Error(`memory_pool_mb: at least ${MIN_MB} MiB, not ${sizeMb}`);
  await mkdir(dirname(image), { recursive: true, mode: 0o700 });
  const staging = `${image}.${hex(4)}`;
  try {
    await writeFile(staging, "", { mode: 0o600, flag: "wx" });
    // On a copy-on-write file system allocated bytes are written in place only with this.
    await run(["chattr", "+C", staging]).catch(() => {});
    await run(["fallocate", "-l", `${sizeMb}MiB`, staging]);
    await run([
      ...["mkfs.xfs", "-q", "-K", "-L", "bhatti", "-m", "reflink=1"],
      ...["-d", `extszinherit=${HINT},cowextsize=${HINT}`, staging],
    ]);
    await rename(staging, image);
  } catch (error) {
    await rm(staging, { force: true });
    throw error;
  }
}

/** Fills what somebody's trim made holes of. Fails when the host's disk has no room for it. */
async function allocate(image: string): Promise<void> {
  if (!isAllocated(image)) await run(["fallocate", "-l", String(statSync(image).size), image]);
}

/** Space that a file in it frees stays in the image: a discard (fstrim.timer) would hand it to the host. */
async function neverGiveBack(device: string): Promise<void> {
  await limitDiscards(device, "0");
}

/** The limit outlives the use of a loop device: whoever gets it next has it as it was. */
export async function unmountReserve(dataDir: string): Promise<void> {
  const dir = reserveDir(dataDir);
  const device = mountedAt(dir);
  if (!device) return;
  await run(["umount", dir]).catch(() => run(["umount", "-l", dir]));
  await limitDiscards(device, "4294966784").catch(() => {});
}

async function limitDiscards(device: string, bytes: string): Promise<void> {
  const name = loopName(device);
  if (name) await writeFile(`/sys/block/${name}/queue/discard_max_bytes`, bytes);
}

const loopName = (device: string): string | undefined => device.match(/^\/dev\/(loop\d+)$/)?.[1];

/** Whether every byte of the file has its place on the disk. */
export function isAllocated(image: string): boolean {
  const { size, blocks } = statSync(image);
  return blocks * 512 >= size;
}

/** The file behind the file system mounted at `dir`; null when that is no loop device. */
export function imageOf(dir: string): string | null {
  const name = loopName(mountedAt(dir) ?? "");
  return name ? readFileSync(`/sys/block/${name}/loop/backing_file`, "utf8").trim() : null;
}

/** For the data's own file: allocated once, it stays so. A sparse one (older installations) is left as it is. */
export async function keepAllocated(dir: string): Promise<void> {
  const image = imageOf(dir);
  if (image && existsSync(image) && isAllocated(image)) await neverGiveBack(mountedAt(dir)!);
}

/** Makes the reserve larger while it is in use; MiB. Throws when it is that large already, or the disk has no room. */
export async function growReserve({ dataDir, image, sizeMb }: ReserveChoice): Promise<void> {
  const device = mountedAt(reserveDir(dataDir));
  if (!device) throw conflict("the reserve is not mounted", "sudo bhatti host service start");
  const bytes = sizeMb * 1048576;
  if (bytes <= statSync(image).size)
    throw conflict(
      `${image} has ${statSync(image).size / 1048576} MiB already`,
      "ask for more: it is only made larger",
    );
  await run(["fallocate", "-l", String(bytes), image]);
  await run(["losetup", "--set-capacity", device]);
  await run(["xfs_growfs", "-d", reserveDir(dataDir)]);
}
