/** Where the data lives: a directory that can reflink, or a btrfs loopback file mounted there. */
import { appendFileSync, existsSync, readFileSync, statfsSync } from "node:fs";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { hex } from "../lib/ids.ts";
import { changedByOthers } from "../lib/root-only.ts";
import { run } from "../lib/run.ts";
import { createStorage } from "../storage/create.ts";

export interface StorageChoice {
  dataDir: string;
  /** Directory for the loopback file. */
  storage: string;
  loopback: boolean;
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
  if (isMounted(dataDir)) return note(`${dataDir} is mounted`);
  const file = loopFile(choice.storage);
  if (!existsSync(file)) {
    if (existsSync(`${dataDir}/state.db`)) return note(`${dataDir} holds data already: kept as it is`);
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
    const size = Math.max(7, Math.floor(freeGiB * 0.7));
    note(`creating ${file}: btrfs, ${size} GiB at most (sparse)`);
    const staging = `${file}.${hex(4)}`;
    await writeFile(staging, "", { mode: 0o600, flag: "wx" });
    await run(["truncate", "-s", `${size}G`, staging]);
    await run(["mkfs.btrfs", "-q", "-L", "bhatti", staging]);
    await run(["mv", staging, file]);
  }
  await mountStorage(choice);
  if (existsSync("/run/systemd/system") && !readFileSync("/etc/fstab", "utf8").includes(` ${dataDir} `)) {
    appendFileSync("/etc/fstab", `${file} ${dataDir} btrfs loop,noatime,discard=async,nofail 0 0\n`);
  }
  note(`${dataDir} is btrfs on ${file}`);
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
  await run(["mount", "-o", "loop,noatime,discard=async", file, dataDir]);
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
  if (isMounted(dataDir)) await run(["umount", dataDir]).catch(() => run(["umount", "-l", dataDir]));
  await rm(loopFile(storage), { force: true });
  await rm(dataDir, { recursive: true, force: true });
  if (existsSync("/etc/fstab")) {
    const lines = readFileSync("/etc/fstab", "utf8").split("\n");
    const kept = lines.filter((line) => !line.startsWith(`${loopFile(storage)} `));
    if (kept.length !== lines.length) await writeFile("/etc/fstab", kept.join("\n"));
  }
}
