/** Firecracker and its jailer, as they are installed: `<dir>/firecracker` and `<dir>/jailer`. */

import { createHash } from "node:crypto";
import { closeSync, existsSync, openSync, readFileSync, readSync } from "node:fs";
import { EngineError } from "../engine.ts";

export interface Binaries {
  firecracker: string;
  jailer: string;
  version: string;
  /** SHA-256 of Firecracker: a state is only restored by the program that saved it. */
  digest: string;
}

/** 1.16 restores with `clock_realtime` and finds VMGenID on every kernel; what comes later is proved by the probe. */
const OLDEST: [number, number] = [1, 16];

/** Until when its project keeps a release in repair at least, by minor version: the table of its release policy. */
const SUPPORTED_UNTIL: Record<string, string> = { "1.16": "2026-12-03" };

/** A date, or null for a release that this program does not know. */
export const supportedUntil = (version: string): string | null =>
  SUPPORTED_UNTIL[version.split(".").slice(0, 2).join(".")] ?? null;

/** Throws EngineError that says what is wrong and what helps. */
export function findBinaries(dir: string): Binaries {
  const [firecracker, jailer] = [`${dir}/firecracker`, `${dir}/jailer`];
  const versions = [firecracker, jailer].map((path) => {
    if (!existsSync(path)) throw new EngineError(`${path} is not installed`);
    if (!isStatic(path))
      throw new EngineError(
        `${path} is not linked statically: it cannot start in its jail, and has no seccomp filter`,
      );
    const version = versionOf(path);
    const [major = 0, minor = 0] = version.split(".").map(Number);
    if (major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1]))
      throw new EngineError(
        `${path}: version ${OLDEST.join(".")} or later is needed, found ${version || "none"}`,
      );
    return version;
  });
  if (versions[0] !== versions[1])
    throw new EngineError(`Firecracker ${versions[0]} and jailer ${versions[1]} are not of one release`);
  const digest = createHash("sha256").update(readFileSync(firecracker)).digest("hex");
  return { firecracker, jailer, version: versions[0]!, digest };
}

const versionOf = (path: string): string =>
  /\bv(\d+\.\d+\.\d+)/.exec(Bun.spawnSync([path, "--version"], { env: {} }).stdout.toString())?.[1] ?? "";

const PT_INTERP = 3;

/** Whether an ELF program (64 bits, little endian) asks for no dynamic linker. */
export function isStatic(path: string): boolean {
  const file = openSync(path, "r");
  try {
    const head = Buffer.alloc(4096);
    readSync(file, head, 0, head.length, 0);
    if (head.readUInt32BE(0) !== 0x7f454c46 || head[4] !== 2 || head[5] !== 1) return false;
    const [at, size, count] = [
      Number(head.readBigUInt64LE(32)),
      head.readUInt16LE(54),
      head.readUInt16LE(56),
    ];
    for (let i = 0; i < count && at + i * size + 4 <= head.length; i++) {
      if (head.readUInt32LE(at + i * size) === PT_INTERP) return false;
    }
    return true;
  } finally {
    closeSync(file);
  }
}
