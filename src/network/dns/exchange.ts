/** One question to one upstream, over UDP from a port of its own or over TCP. */

import type { Upstream } from "./upstreams.ts";
import { answers } from "./wire.ts";

/** Resolves with the answer to `query` (whose question ends at `end`); null on failure or when `signal` fires. */
export async function exchange(
  upstream: Upstream,
  query: Uint8Array,
  end: number,
  tcp: boolean,
  signal: AbortSignal,
): Promise<Uint8Array | null> {
  try {
    return await (tcp ? overTcp(upstream, query, end, signal) : overUdp(upstream, query, end, signal));
  } catch {
    return null;
  }
}

async function overUdp(upstream: Upstream, query: Uint8Array, end: number, signal: AbortSignal) {
  const { promise, resolve } = Promise.withResolvers<Uint8Array | null>();
  // Connected: the kernel picks a random port and lets only this upstream answer.
  const socket = await Bun.udpSocket({
    connect: { hostname: upstream.host, port: upstream.port },
    socket: {
      data: (_socket, data) => {
        if (answers(query, end, data)) resolve(Uint8Array.from(data));
      },
      error: () => resolve(null),
    },
  });
  const onAbort = () => resolve(null);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    if (signal.aborted) return null;
    socket.send(query);
    return await promise;
  } finally {
    signal.removeEventListener("abort", onAbort);
    socket.close();
  }
}

async function overTcp(upstream: Upstream, query: Uint8Array, end: number, signal: AbortSignal) {
  const { promise, resolve } = Promise.withResolvers<Uint8Array | null>();
  let received: Buffer = Buffer.alloc(0);
  const socket = await Bun.connect({
    hostname: upstream.host,
    port: upstream.port,
    socket: {
      data: (_socket, data) => {
        received = Buffer.concat([received, data]);
        if (received.length < 2) return;
        const length = received.readUInt16BE(0);
        if (received.length < 2 + length) return;
        const response = Uint8Array.from(received.subarray(2, 2 + length));
        resolve(answers(query, end, response) ? response : null);
      },
      close: () => resolve(null),
      error: () => resolve(null),
    },
  });
  const onAbort = () => resolve(null);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    if (signal.aborted) return null;
    socket.write(framed(query));
    return await promise;
  } finally {
    signal.removeEventListener("abort", onAbort);
    socket.terminate();
  }
}

/** `message` behind its length, as DNS over TCP wants it. */
export function framed(message: Uint8Array): Uint8Array {
  const out = new Uint8Array(2 + message.length);
  new DataView(out.buffer).setUint16(0, message.length);
  out.set(message, 2);
  return out;
}
