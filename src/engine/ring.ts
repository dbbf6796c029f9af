/**
 * Rings: what a VMM or a guest prints, in files of bounded size. `path` holds the newest output and `path.1` what came
 * before it, each at most 128 KiB; `lohar jail` writes them (lohar/internal/jail/ring.go) with or without a daemon.
 */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { open } from "node:fs/promises";

/** The last `bytes` of a ring; less when there is less. A file that grew beyond its bound is not read as a whole either. */
export function ringTail(path: string, bytes = 64 << 10): Buffer {
  const newest = fileTail(path, bytes);
  if (newest.length >= bytes) return newest;
  return Buffer.concat([fileTail(`${path}.1`, bytes - newest.length), newest]);
}

function fileTail(path: string, bytes: number): Buffer {
  let fd: number;
  try {
    fd = openSync(path, "r");
  } catch {
    return Buffer.alloc(0);
  }
  try {
    const { size } = fstatSync(fd);
    const tail = Buffer.alloc(Math.min(bytes, size));
    return tail.subarray(0, readSync(fd, tail, 0, tail.length, Math.max(0, size - bytes)));
  } finally {
    closeSync(fd);
  }
}

const POLL_MS = 200;

/**
 * The last `bytes` of a ring and then what is added to it, until `signal` aborts. A reader slower than the writer loses
 * the middle, never the end.
 */
export async function* followRing(path: string, bytes: number, signal: AbortSignal): AsyncGenerator<Buffer> {
  const first = await identify(path);
  const tail = ringTail(path, bytes);
  if (tail.length > 0) yield tail;
  let { inode, size: at } = first;
  while (!signal.aborted) {
    const now = await identify(path);
    if (now.inode !== inode) {
      // The newest file became `path.1`: what of it is not read yet comes first.
      if (inode !== 0 && (await identify(`${path}.1`)).inode === inode) {
        const rest = await readFrom(`${path}.1`, at);
        if (rest.length > 0) yield rest;
      }
      inode = now.inode;
      at = 0;
    }
    if (now.size > at) {
      const more = await readFrom(path, at);
      at += more.length;
      if (more.length > 0) yield more;
    }
    await new Promise<void>((resolve) => {
      const timer = setTimeout(done, POLL_MS);
      function done() {
        clearTimeout(timer);
        signal.removeEventListener("abort", done);
        resolve();
      }
      signal.addEventListener("abort", done);
    });
  }
}

async function identify(path: string): Promise<{ inode: number; size: number }> {
  const file = await open(path, "r").catch(() => null);
  if (!file) return { inode: 0, size: 0 };
  try {
    const { ino, size } = await file.stat();
    return { inode: ino, size };
  } finally {
    await file.close();
  }
}

async function readFrom(path: string, at: number): Promise<Buffer> {
  const file = await open(path, "r").catch(() => null);
  if (!file) return Buffer.alloc(0);
  try {
    const { size } = await file.stat();
    const part = Buffer.alloc(Math.min(Math.max(0, size - at), 1 << 20));
    const { bytesRead } = await file.read(part, 0, part.length, at);
    return part.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}
