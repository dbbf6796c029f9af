/** Files of the guest: whole streams both ways, in bounded memory. */
import { type Connection, errorOf, jsonOf, protocolError } from "./connection.ts";
import { FRAME } from "./frames.ts";
import type { GuestPath, ReadOptions, WriteOptions } from "./guest.ts";
import { GuestError } from "./guest.ts";

const WRITE_CHUNK = 256 << 10;

/** The protocol's members for a path. */
export const pathMembers = (path: GuestPath) =>
  path.startsWith("base64:") ? { path_b64: path.slice(7) } : { path };

/** `done` runs once the body was read to its end. A body that is cancelled closes the connection. */
export async function readFileFrom(c: Connection, path: GuestPath, o: ReadOptions, done: () => void) {
  await c.request("file.read", {
    ...pathMembers(path),
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
  // No more than was announced or asked for, whatever the guest sends.
  let left = o.maxBytes ?? Number.POSITIVE_INFINITY;
  if (length >= 0) left = Math.min(left, length);
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const frame = await c.next();
        if (frame.type === FRAME.data) {
          left -= frame.payload.length;
          if (left < 0) throw protocolError();
          return controller.enqueue(frame.payload);
        }
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
  path: GuestPath,
  body: ReadableStream<Uint8Array>,
  options: WriteOptions,
): Promise<void> {
  const reader = body.getReader();
  const answer = (async () => {
    await c.request("file.write", {
      ...pathMembers(path),
      mode: options.mode,
      owner: options.owner,
      size: options.size ?? -1,
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
