/** The reserve of this installation, mounted and with the database in it, before anything else is built. */
import { Database } from "bun:sqlite";
import { existsSync, rmSync } from "node:fs";
import { rename } from "node:fs/promises";
import { loopFile, storageDir } from "../host/storage.ts";
import { run } from "../lib/run.ts";
import { hostMemory } from "../sandboxes/memory.ts";
import {
  defaultReserveMb,
  keepAllocated,
  mountReserve,
  type ReserveChoice,
  reserveDir,
} from "../storage/reserve.ts";
import { refuseForeign } from "../store/foreign.ts";
import { type Config, DEFAULTS } from "./config.ts";
import { databaseFile } from "./files.ts";

/** File and size as configured, or by default. */
export function reserveChoice(config: Config): ReserveChoice {
  const { dataDir } = config;
  const beside = dataDir === DEFAULTS.dataDir && existsSync(loopFile(storageDir()));
  const image =
    config.memoryPoolFile || (beside ? `${storageDir()}/bhatti-memory.img` : `${dataDir}/memory.img`);
  const sizeMb =
    config.memoryPoolMb || (existsSync(image) ? 0 : defaultReserveMb(image, hostMemory().totalMb));
  return { dataDir, image, sizeMb };
}

/** Mounts it, made first if there is none. Throws in a folder that is another program's, before anything is made there. */
export async function mountOwnReserve(config: Config, note: (text: string) => void): Promise<void> {
  const old = `${config.dataDir}/state.db`;
  if (existsSync(old) && !existsSync(reserveDir(config.dataDir))) refuse(old);
  await mountReserve(reserveChoice(config), note);
  await keepAllocated(config.dataDir);
}

/** Mounts it and brings an older version's database there. The directory is locked. */
export async function openReserve(config: Config, note: (text: string) => void): Promise<void> {
  await mountOwnReserve(config, note);
  const old = `${config.dataDir}/state.db`;
  const now = databaseFile(config.dataDir);
  if (!existsSync(old) || existsSync(now)) return; // one that appears there later is another program's (v1)
  refuse(old);
  // The log goes first: without its database it is nothing, and a database without it is an older one.
  if (existsSync(`${old}-wal`)) await run(["cp", "--no-preserve=all", `${old}-wal`, `${now}-wal`]);
  await run(["cp", "--no-preserve=all", old, `${now}.new`]);
  await run(["sync", "-f", reserveDir(config.dataDir)]);
  await rename(`${now}.new`, now);
  await run(["sync", "-f", reserveDir(config.dataDir)]);
  for (const name of ["state.db", "state.db-wal", "state.db-shm", "daemon.json"])
    rmSync(`${config.dataDir}/${name}`, { force: true });
  note("the database moved into the reserve");
}

function refuse(file: string): void {
  const database = new Database(file);
  try {
    refuseForeign(database, file);
  } finally {
    database.close();
  }
}
