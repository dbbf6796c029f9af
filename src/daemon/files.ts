/** Where the daemon keeps what must be writable at 0 bytes free: in the reserve. */
import { existsSync } from "node:fs";
import { mountedAt, reserveDir } from "../storage/reserve.ts";

/** Pid, address and version of the running daemon. */
export const daemonFile = (dataDir: string): string => `${reserveDir(dataDir)}/daemon.json`;

/** Opens stored secrets; a folder of its own where `age_key_file` says so. */
export const ageKeyFile = ({ dataDir, ageKeyFile: file }: { dataDir: string; ageKeyFile: string }): string =>
  file || `${dataDir}/age.key`;

/** Local commands of root; the file system lets nobody else connect. */
export const adminSocket = (dataDir: string): string => `${reserveDir(dataDir)}/admin.sock`;

/** Sockets between daemon and edge; the file system of the edge's process. */
export const edgeDir = (dataDir: string): string => `${reserveDir(dataDir)}/edge`;

/**
 * The database. Beside the reserve only where none is (an installation that was never started, or by an older version).
 * Throws when there is a reserve that is not mounted: a second database would come into being below its mount point.
 */
export function databaseFile(dataDir: string): string {
  if (!existsSync(reserveDir(dataDir))) return `${dataDir}/state.db`;
  if (!mountedAt(reserveDir(dataDir)))
    throw new Error("the server's file system is mounted by the daemon: start it");
  return `${reserveDir(dataDir)}/state.db`;
}
