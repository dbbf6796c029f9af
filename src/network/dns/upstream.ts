/** Forwards queries to the host's resolvers, concurrently, with a small cache that respects TTLs. */
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { parseQuestion, type Question, smallestTtl } from "./message.ts";

const TIMEOUT_MS = 2000;
const CACHE_MAX = 2000;
const CACHE_TTL_MAX_S = 300;

/** Name servers of /etc/resolv.conf. */
export function hostResolvers(path = "/etc/resolv.conf"): string[] {
  try {
    return [...readFileSync(path, "utf8").matchAll(/^\s*nameserver\s+(\S+)/gm)]
      .map((match) => match[1]!)
      .slice(0, 3);
  } catch {
    return [];
  }
}

export class Upstream {
  private readonly cache = new Map<string, { until: number; message: Uint8Array }>();

  constructor(private readonly servers: string[]) {}

  /** The upstream's answer with the caller's id, or null when nobody answers. */
  async ask(query: Uint8Array, question: Question, tcp: boolean): Promise<Uint8Array | null> {
    const key = `${question.name}/${question.type}/${question.class}/${tcp}/${Buffer.from(query.subarray(question.end)).toString("hex")}`;
    const cached = this.cache.get(key);
    if (cached && cached.until > Date.now()) return withId(cached.message, question.id);
    for (const server of this.servers) {
      const reply = await (tcp ? askTcp : askUdp)(server, query).catch(() => null);
      if (!reply) continue;
      const ttl = Math.min(smallestTtl(reply, question), CACHE_TTL_MAX_S);
      if (ttl > 0) {
        if (this.cache.size >= CACHE_MAX) this.cache.delete(this.cache.keys().next().value!);
        this.cache.set(key, { until: Date.now() + ttl * 1000, message: reply });
      }
      return withId(reply, question.id);
    }
    return null;
  }
}

function withId(message: Uint8Array, id: number): Uint8Array {
  const copy = message.slice();
  copy[0] = id >> 8;
  copy[1] = id & 0xff;
  return copy;
}

/** A fresh socket (random port) and id per query: answers cannot be guessed or mixed up. */
async function askUdp(server: string, query: Uint8Array): Promise<Uint8Array | null> {
  const id = randomBytes(2).readUInt16BE();
  const asked = parseQuestion(query);
  const reply = Promise.withResolvers<Uint8Array | null>();
  const timer = setTimeout(() => reply.resolve(null), TIMEOUT_MS);
  const socket = await Bun.udpSocket({
    connect: { hostname: server, port: 53 },
    socket: {
      data(_socket, data) {
        if (data.length < 12 || data.readUInt16BE(0) !== id || !(data[2]! & 0x80)) return;
        const echoed = data.slice();
        echoed[2] = echoed[2]! & 0x7f;
        const question = parseQuestion(echoed);
        if (asked && question && question.name === asked.name && question.type === asked.type)
          reply.resolve(new Uint8Array(data));
      },
      error: () => reply.resolve(null),
    },
  });
  try {
    socket.send(withId(query, id));
    return await reply.promise;
  } finally {
    clearTimeout(timer);
    socket.close();
  }
}

async function askTcp(server: string, query: Uint8Array): Promise<Uint8Array | null> {
  const reply = Promise.withResolvers<Uint8Array | null>();
  const timer = setTimeout(() => reply.resolve(null), TIMEOUT_MS);
  let buffer = Buffer.alloc(0);
  const socket = await Bun.connect({
    hostname: server,
    port: 53,
    socket: {
      data(_socket, data) {
        buffer = Buffer.concat([buffer, data]);
        if (buffer.length >= 2 && buffer.length >= 2 + buffer.readUInt16BE(0))
          reply.resolve(buffer.subarray(2, 2 + buffer.readUInt16BE(0)));
      },
      close: () => reply.resolve(null),
      error: () => reply.resolve(null),
    },
  });
  try {
    const head = Buffer.alloc(2);
    head.writeUInt16BE(query.length);
    socket.write(Buffer.concat([head, query]));
    return await reply.promise;
  } finally {
    clearTimeout(timer);
    socket.end();
  }
}
