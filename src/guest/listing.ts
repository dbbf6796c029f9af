/** What names of the guest stand for. */
import { type Connection, errorOf, protocolError } from "./connection.ts";
import { pathMembers } from "./files.ts";
import { FRAME, type Frame } from "./frames.ts";
import type { FileEntry, FileKind, GuestPath } from "./guest.ts";

const KINDS = ["file", "dir", "symlink", "char_device", "block_device", "fifo", "socket", "unknown"];
/** A name has 255 bytes at most, the target of a link 4095; each may be 3 bytes of UTF-8 or base64. */
const MAX_TEXT = 16_384;

/** One entry, every member checked: a guest that sends something else broke the protocol. */
export function entryOf(value: unknown): FileEntry {
  if (typeof value !== "object" || value === null) throw protocolError();
  const r = value as Record<string, unknown>;
  const text = (key: string): string => {
    const found = r[key];
    if (typeof found !== "string" || found.length > MAX_TEXT) throw protocolError();
    return found;
  };
  const number = (key: string): number => {
    const found = r[key];
    if (typeof found !== "number" || !Number.isFinite(found)) throw protocolError();
    return found;
  };
  const kind = text("kind");
  const optional = (key: string) => (r[key] === undefined ? undefined : text(key));
  return {
    name: text("name"),
    nameB64: optional("name_b64"),
    kind: (KINDS.includes(kind) ? kind : "unknown") as FileKind,
    target: optional("target"),
    targetB64: optional("target_b64"),
    size: number("size"),
    mode: text("mode").slice(0, 8),
    uid: number("uid"),
    gid: number("gid"),
    links: number("links"),
    device: optional("device")?.slice(0, 32),
    isDir: kind === "dir",
    mtime: number("mtime"),
  };
}

export async function statPath(c: Connection, path: GuestPath): Promise<FileEntry> {
  await c.request("file.stat", pathMembers(path));
  return entryOf(await c.result());
}

/** `done` runs once the listing was read to its end; until then it owns the connection. */
export async function listDirectory(
  c: Connection,
  path: GuestPath,
  limit: number | undefined,
  done: () => void,
): Promise<AsyncGenerator<FileEntry[], void>> {
  await c.request("file.list", { ...pathMembers(path), limit });
  const first = await c.next();
  if (first.type === FRAME.error) throw errorOf(first);
  return entries(c, first, limit ?? Number.POSITIVE_INFINITY, done);
}

async function* entries(c: Connection, first: Frame, limit: number, done: () => void) {
  let whole = false;
  let left = limit;
  try {
    for (let frame = first; frame.type !== FRAME.end; frame = await c.next()) {
      if (frame.type === FRAME.error) throw errorOf(frame);
      if (frame.type !== FRAME.data) throw protocolError();
      const batch = parsed(frame);
      left -= batch.length;
      if (left < 0) throw protocolError();
      yield batch;
    }
    await c.result();
    whole = true;
  } finally {
    if (whole) done();
    else c.close();
  }
}

function parsed(frame: Frame): FileEntry[] {
  let batch: unknown;
  try {
    batch = JSON.parse(new TextDecoder().decode(frame.payload));
  } catch {
    throw protocolError();
  }
  if (!Array.isArray(batch)) throw protocolError();
  return batch.map(entryOf);
}
