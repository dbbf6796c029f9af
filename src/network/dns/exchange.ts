/** One question to one upstream, over UDP from a port of its own or over TCP. */
import type { Upstream } from "./upstreams.ts";
import { answers } from "./wire.ts";

/** Resolves with the answer to `query`; null on failure or when `signal` fires. */
export async function exchange(
  upstream: Upstream,
  query: Buffer,
  tcp: boolean,
  signal: AbortSignal,
): Promise<Buffer | null> {
  try {
    return await (tcp ? overTcp(upstream, query, signal) : overUdp(upstream, query, signal));
  } catch {
    return null;
  }
}

async function overUdp(upstream: Upstream, query: Buffer, signal: AbortSignal) {
  const { promise, resolve } = Promise.withResolvers<Buffer | null>();
  // Connected: the kernel picks a random port and lets only this upstream answer.
  const socket = await Bun.udpSocket({
    connect: { hostname: upstream.host, port: upstream.port },
    socket: {
      data: (_socket, data) => {
        if (answers(query, data)) resolve(Buffer.from(data));
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

async function overTcp(upstream: Upstream, query: Buffer, signal: AbortSignal) {
  const { promise, resolve } = Promise.withResolvers<Buffer | null>();
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
        const response = received.subarray(2, 2 + length);
        resolve(answers(query, response) ? response : null);
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
export function framed(message: Buffer): Buffer {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(message.length, 0);
  return Buffer.concat([length, message]);
}
