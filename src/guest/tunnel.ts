/** Byte tunnels to TCP ports of the guest. */
import { type Connection, errorOf, protocolError } from "./connection.ts";
import { FRAME } from "./frames.ts";
import type { Tunnel } from "./guest.ts";

const CHUNK = 256 << 10;

/** The connection belongs to the tunnel from now on; either side's end is passed on as a half-close. */
export async function openTunnel(c: Connection, port: number, signal?: AbortSignal): Promise<Tunnel> {
  const stop = () => c.close();
  signal?.addEventListener("abort", stop, { once: true });
  try {
    c.keepsOpen();
    await c.request("forward", { port });
    await c.result();
  } catch (error) {
    c.close();
    throw error;
  }
  const readable = new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const frame = await c.next();
        if (frame.type === FRAME.data) return controller.enqueue(frame.payload);
        if (frame.type === FRAME.end) return controller.close();
        throw frame.type === FRAME.error ? errorOf(frame) : protocolError();
      } catch (error) {
        c.close();
        controller.error(error);
      }
    },
    cancel: stop,
  });
  const writable = new WritableStream<Uint8Array>({
    async write(chunk) {
      for (let at = 0; at < chunk.length; at += CHUNK)
        await c.sendFrame(FRAME.data, chunk.subarray(at, at + CHUNK));
    },
    close: () => c.sendFrame(FRAME.end),
    abort: stop,
  });
  return {
    readable,
    writable,
    close() {
      signal?.removeEventListener("abort", stop);
      c.close();
    },
  };
}
