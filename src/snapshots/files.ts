/** The files of a snapshot, and how damage to them is noticed before anybody boots from them. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { chmod, lstat } from "node:fs/promises";

export interface FileFacts {
  size: number;
  mtimeMs: number;
  /** Known of imported files. */
  sha256?: string;
}

export const namesOf = (kind: "memory" | "disk"): string[] =>
  kind === "memory" ? ["mem", "state", "disk"] : ["disk"];

/** Takes away write permission and notes what the files look like. */
export async function seal(dir: string, kind: "memory" | "disk"): Promise<Record<string, FileFacts>> {
  const facts: Record<string, FileFacts> = {};
  for (const name of namesOf(kind)) {
    await chmod(`${dir}/${name}`, 0o400);
    const s = await lstat(`${dir}/${name}`);
    if (!s.isFile() || s.nlink !== 1) throw new Error(`${name} is not a plain file`);
    facts[name] = { size: s.size, mtimeMs: s.mtimeMs };
  }
  return facts;
}

/** SHA-256 of a file, hex, streamed. */
export async function hashFile(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  return hash.digest("hex");
}

/**
 * What is wrong with the files, for people; null when nothing is. An untouched file is trusted; a touched one only when its
 * hash is known and right: hashing gigabytes at every snapshot would cost more than it is worth.
 */
export async function damage(dir: string, facts: Record<string, FileFacts>): Promise<string | null> {
  for (const [name, known] of Object.entries(facts)) {
    const s = await lstat(`${dir}/${name}`).catch(() => null);
    if (!s?.isFile()) return `${name} is missing`;
    if (s.size !== known.size) return `${name} is truncated`;
    if (s.mtimeMs === known.mtimeMs) continue;
    if (!known.sha256 || (await hashFile(`${dir}/${name}`)) !== known.sha256) return `${name} was changed`;
  }
  return null;
}
