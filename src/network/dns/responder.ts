/** UDP and TCP sockets of one owner's resolver. */
import { framed } from "./exchange.ts";
import type { Resolver } from "./resolver.ts";

/** A question is a name and a few options. */
const MAX_QUERY = 2048;
/** Of one sandbox, and of all of an owner. */
const MAX_OF_SANDBOX = 8;
const MAX_CONNECTIONS = 64;
const MAX_PIPELINED = 16;
const MAX_UDP_WAITING = 256;
const IDLE_S = 10;

interface Connection {
  from: string;
  received: Buffer;
  waiting: number;
}

export interface Responder {
  stop(): void;
}

/** Listens on `address`:`port`. Throws when it cannot, and then listens on neither. */
export async function listen(address: string, port: number, resolver: Resolver): Promise<Responder> {
  const tcp = listenTcp(address, port, resolver);
  try {
    const udp = await listenUdp(address, port, resolver);
    return {
      stop() {
        udp.close();
        tcp.stop(true);
      },
    };
  } catch (error) {
    tcp.stop(true);
    throw error;
  }
}

function listenUdp(address: string, port: number, resolver: Resolver) {
  let waiting = 0;
  return Bun.udpSocket({
    hostname: address,
    port,
    socket: {
      data(socket, data, fromPort, from) {
        if (data.length > MAX_QUERY || waiting >= MAX_UDP_WAITING) return;
        waiting++;
        void resolver
          .resolve(Buffer.from(data), false, from)
          .then((answer) => {
            if (answer && !socket.closed) socket.send(answer, fromPort, from);
          })
          // The asker is gone (ICMP) or the socket is closed: nothing to tell anybody.
          .catch(() => {})
          .finally(() => waiting--);
      },
      error() {},
    },
  });
}

function listenTcp(address: string, port: number, resolver: Resolver) {
  let connections = 0;
  const open = new Map<string, number>();
  return Bun.listen<Connection>({
    hostname: address,
    port,
    socket: {
      open(socket) {
        const from = socket.remoteAddress;
        const ofSandbox = (open.get(from) ?? 0) + 1;
        open.set(from, ofSandbox);
        connections++;
        socket.data = { from, received: Buffer.alloc(0), waiting: 0 };
        if (connections > MAX_CONNECTIONS || ofSandbox > MAX_OF_SANDBOX) socket.terminate();
        else socket.timeout(IDLE_S);
      },
      data(socket, data) {
        const connection = socket.data;
        connection.received = Buffer.concat([connection.received, data]);
        for (;;) {
          const length = connection.received.length < 2 ? 0 : connection.received.readUInt16BE(0);
          if (length > MAX_QUERY || connection.waiting >= MAX_PIPELINED) return socket.terminate();
          if (connection.received.length < 2 || connection.received.length < 2 + length) return;
          const query = Buffer.from(connection.received.subarray(2, 2 + length));
          connection.received = connection.received.subarray(2 + length);
          connection.waiting++;
          void answer(socket, query);
        }
      },
      timeout: (socket) => socket.terminate(),
      close({ data: { from } }) {
        connections--;
        const left = (open.get(from) ?? 1) - 1;
        if (left > 0) open.set(from, left);
        else open.delete(from);
      },
      error() {},
    },
  });

  async function answer(socket: Bun.Socket<Connection>, query: Buffer): Promise<void> {
    const message = await resolver.resolve(query, true, socket.data.from).catch(() => null);
    socket.data.waiting--;
    if (!message) return socket.terminate();
    socket.timeout(IDLE_S);
    // Who does not read while he asks is not waited for.
    if (socket.write(framed(message)) < message.length + 2) socket.terminate();
  }
}
