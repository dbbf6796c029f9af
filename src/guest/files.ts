/** Files of the guest. */
import { type Connection, errorOf, jsonOf, protocolError } from "./connection.ts";
import { FRAME } from "./frames.ts";
import { type FileEntry, type FileStat, GuestError, type ReadOptions } from "./guest.ts";

const WRITE_CHUNK = 256 << 10;
/** A directory listing is held in memory by its reader: this many entries at most. */
const MAX_ENTRIES = 1_000_000;

function statOf(value: Record<string, unknown>): FileStat {
  const { size, mode, is_dir, mtime } = value;
  if (typeof size !== "number" || typeof mode !== "string" || typeof mtime !== "number")
    throw protocolError();
  return { size, mode: mode.slice(0, 8), isDir: is_dir === true, mtime };
}

export async function statPath(c: Connection, path: string): Promise<FileStat> {
  await c.request("file.stat", { path });
  return statOf(await c.result());
}

export async function listDirectory(c: Connection, path: string): Promise<FileEntry[]> {
  await c.request("file.list", { path });
  const entries: FileEntry[] = [];
  for (;;) {
    const frame = await c.next();
    if (frame.type === FRAME.error) throw errorOf(frame);
    if (frame.type === FRAME.end) break;
    if (frame.type !== FRAME.data) throw protocolError();
    let batch: unknown;
    try {
      batch = JSON.parse(new TextDecoder().decode(frame.payload));
    } catch {
      throw protocolError();
    }
    if (!Array.isArray(batch)) throw protocolError();
    for (const entry of batch)
      entries.push({ name: String(entry?.name).slice(0, 1024), ...statOf(entry ?? {}) });
    if (entries.length > MAX_ENTRIES) {
      c.close();
      throw new GuestError("too_large", `more than ${MAX_ENTRIES} entries`);
    }
  }
  await c.result();
  return entries.sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** `done` runs once the body was read to its end. A body that is cancelled closes the connection. */
export async function readFileFrom(c: Connection, path: string, o: ReadOptions, done: () => void) {
  await c.request("file.read", {
    path,
    offset: o.offset,
    length: o.length,
    line_offset: o.lineOffset,
    line_limit: o.lineLimit,
    max_bytes: o.maxBytes,
  });
  const first = await c.next();
  if (first.type === FRAME.error) throw errorOf(first);
  if (first.type !== FRAME.started) throw protocolError();
  const { size, mode, length } = jsonOf(first);
  if (typeof size !== "number" || typeof length !== "number") throw protocolError();
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const frame = await c.next();
        if (frame.type === FRAME.data) return controller.enqueue(frame.payload);
        if (frame.type === FRAME.error) throw errorOf(frame);
        if (frame.type !== FRAME.end) throw protocolError();
        await c.result();
        done();
        controller.close();
      } catch (error) {
        c.close();
        controller.error(error);
      }
    },
    cancel: () => c.close(),
  });
  return { size, mode: String(mode).slice(0, 8), length, body };
}

export async function writeFileTo(
  c: Connection,
  path: string,
  body: ReadableStream<Uint8Array>,
  options: { mode: string; size: number; maxBytes: number },
): Promise<void> {
  const reader = body.getReader();
  const answer = (async () => {
    await c.request("file.write", {
      path,
      mode: options.mode,
      size: options.size,
      max_bytes: options.maxBytes,
    });
    return c.result();
  })();
  // The agent may refuse before everything was sent: its word counts, not the broken pipe that follows.
  let refused = false;
  answer.catch(() => {
    refused = true;
    void reader.cancel().catch(() => {});
  });
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done || refused) break;
      for (let at = 0; at < value.length && !refused; at += WRITE_CHUNK) {
        await c.sendFrame(FRAME.data, value.subarray(at, at + WRITE_CHUNK));
      }
    }
    if (!refused) await c.sendFrame(FRAME.end);
  } catch (error) {
    if (!refused) c.close(); // the source broke off: the agent throws the half file away
    await answer.catch((cause) => {
      throw refused && cause instanceof GuestError && cause.code !== "lost" ? cause : error;
    });
  }
  try {
    await answer;
  } catch (error) {
    c.close();
    throw error;
  }
}
