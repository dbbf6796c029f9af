/** Where the data lives: a directory that can reflink, or a btrfs loopback file mounted there. */
import { appendFileSync, existsSync, readFileSync, statfsSync, statSync } from "node:fs";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { hex } from "../lib/ids.ts";
import { changedByOthers } from "../lib/root-only.ts";
import { run } from "../lib/run.ts";
import { createStorage } from "../storage/create.ts";
import { imageOf, isAllocated, unmountReserve } from "../storage/reserve.ts";

export interface StorageChoice {
  dataDir: string;
  /** Directory for the loopback file. */
  storage: string;
  loopback: boolean;
  /** Size of the reserve that will lie beside it, MiB. */
  reserveMb: number;
}

/** Directory of the loopback file, as chosen at installation. */
export function storageDir(): string {
  try {
    return readFileSync("/etc/bhatti/storage", "utf8").trim();
  } catch {
    return "/var/lib";
  }
}

export const loopFile = (storage: string): string => `${storage}/bhatti.btrfs`;

export const isMounted = (dir: string): boolean =>
  readFileSync("/proc/mounts", "utf8")
    .split("\n")
    .some((line) => line.split(" ")[1] === dir);

/** Idempotent. Never touches a directory that already holds data. */
export async function prepareStorage(choice: StorageChoice, note: (text: string) => void): Promise<void> {
  const { dataDir } = choice;
  await mkdir(dataDir, { recursive: true, mode: 0o700 });
  if (isMounted(dataDir)) {
    await allocateOld(dataDir, note);
    return note(`${dataDir} is mounted`);
  }
  const file = loopFile(choice.storage);
  if (!existsSync(file)) {
    if (["state.db", "lock"].some((name) => existsSync(`${dataDir}/${name}`)))
      return note(`${dataDir} holds data already: kept as it is`);
    if ((await createStorage(dataDir)).mode === "reflink")
      return note(`${dataDir} can reflink: used directly`);
    if (!choice.loopback)
      return note(`${dataDir} has no reflink and --no-loopback was given: copies will be slower`);
    await mkdir(choice.storage, { recursive: true });
    rootsAlone(choice.storage);
    const fs = statfsSync(choice.storage);
    const freeGiB = Math.floor((fs.bavail * fs.bsize) / 2 ** 30);
    if (freeGiB < 8)
      throw new Error(
        `${choice.storage} has ${freeGiB} GiB free; at least 8 are needed (choose another place with --storage DIR)`,
      );
    // Allocated, not sparse: what guests may write is there, whatever else fills the host's disk.
    const size = Math.max(6, Math.floor((freeGiB - choice.reserveMb / 1024) / 2));
    note(`creating ${file}: btrfs, ${size} GiB`);
    const staging = `${file}.${hex(4)}`;
    await writeFile(staging, "", { mode: 0o600, flag: "wx" });
    await run(["fallocate", "-l", `${size}GiB`, staging]);
    await run(["mkfs.btrfs", "-q", "-K", "-L", "bhatti", staging]);
    await run(["mv", staging, file]);
  }
  await mountStorage(choice);
  if (existsSync("/run/systemd/system") && !readFileSync("/etc/fstab", "utf8").includes(` ${dataDir} `)) {
    appendFileSync("/etc/fstab", `${file} ${dataDir} btrfs loop,noatime,nofail 0 0\n`);
  }
  note(`${dataDir} is btrfs on ${file}`);
}

/** Left free on the host's disk when a sparse file of an older version is filled up, bytes. */
const SPARE = 5 * 2 ** 30;

/** Fills the holes of a file that an older version made, where the disk has room for them. */
async function allocateOld(dataDir: string, note: (text: string) => void): Promise<void> {
  const image = imageOf(dataDir);
  if (!image || !existsSync(image) || isAllocated(image)) return;
  const { size, blocks } = statSync(image);
  const fs = statfsSync(dirname(image));
  if (fs.bavail * fs.bsize - (size - blocks * 512) < SPARE)
    return note(`${image} is sparse and the disk has no room to allocate it: keep some free (bhatti doctor)`);
  await run(["fallocate", "-l", String(size), image]);
  await run(["mount", "-o", "remount,nodiscard", dataDir]).catch(() => {});
  if (existsSync("/etc/fstab")) {
    const text = readFileSync("/etc/fstab", "utf8");
    const changed = text.replace(
      ` ${dataDir} btrfs loop,noatime,discard=async,`,
      ` ${dataDir} btrfs loop,noatime,`,
    );
    if (changed !== text) await writeFile("/etc/fstab", changed);
  }
  note(`${image} is allocated now`);
}

/** Mounts the loopback file, if there is one; also at each start of the supervised daemon. */
export async function mountStorage({
  dataDir,
  storage,
}: {
  dataDir: string;
  storage: string;
}): Promise<void> {
  const file = loopFile(storage);
  if (!existsSync(file) || isMounted(dataDir)) return;
  rootsAlone(file);
  const discard = isAllocated(file) ? "" : ",discard=async";
  await run(["mount", "-o", `loop,noatime${discard}`, file, dataDir]);
  await run(["chmod", "700", dataDir]);
}

/** Whoever can change what is mounted decides who is an operator here. @throws Error. */
export function rootsAlone(path: string): void {
  const at = changedByOthers(path);
  if (at !== null)
    throw new Error(
      `${path} is not safe for data: ${at} can be changed by others than root (choose another place with --storage DIR)`,
    );
}

/** Unmounts and deletes everything. */
export async function removeStorage({
  dataDir,
  storage,
}: {
  dataDir: string;
  storage: string;
}): Promise<void> {
  await unmountReserve(dataDir);
  await rm(`${storage}/bhatti-memory.img`, { force: true });
  if (isMounted(dataDir)) await run(["umount", dataDir]).catch(() => run(["umount", "-l", dataDir]));
  await rm(loopFile(storage), { force: true });
  // Whatever somebody mounted below it is not ours to empty.
  await run(["rm", "-rf", "--one-file-system", dataDir]);
  if (existsSync("/etc/fstab")) {
    const lines = readFileSync("/etc/fstab", "utf8").split("\n");
    const kept = lines.filter((line) => !line.startsWith(`${loopFile(storage)} `));
    if (kept.length !== lines.length) await writeFile("/etc/fstab", kept.join("\n"));
  }
}
