/** Query in, answer out, for one owner: zone first, then cache, then upstreams. */
import { Cache, type CacheSpace } from "./cache.ts";
import type { Forwarder } from "./forwarder.ts";
import { opcodeOf, parseQuery, RCODE, reply, withId } from "./wire.ts";
import type { Zone } from "./zone.ts";

/**
 * Questions that wait for upstreams, of one sandbox and of one owner; more are refused. Each holds a socket, and names whose
 * servers never answer hold it for seconds.
 */
const MAX_OF_SANDBOX = 64;
const MAX_OF_OWNER = 256;

export class Resolver {
  private readonly cache: Cache;
  private readonly waiting = new Map<string, Promise<Buffer | null>>();
  /** Questions under way per address of a sandbox; only those that have some. */
  private readonly asking = new Map<string, number>();

  constructor(
    private readonly zone: Zone,
    private readonly forwarder: Forwarder,
    space?: CacheSpace,
  ) {
    this.cache = new Cache(space);
  }

  /** Answers `message` of `from`; null when nothing should be sent. Never throws for any bytes. */
  async resolve(message: Buffer, tcp: boolean, from: string): Promise<Buffer | null> {
    const query = parseQuery(message);
    if (!query) return null;
    if (opcodeOf(query) !== 0) return reply(query, RCODE.NOTIMP);
    if (query.questions !== 1) return reply(query, RCODE.FORMERR);
    if (query.class !== "IN" || query.type === "AXFR" || query.type === "IXFR") {
      return reply(query, RCODE.REFUSED);
    }
    const own = this.zone.answer(query);
    if (own) return own;
    // Everything but the id: flags and EDNS options are part of the question to an upstream.
    const key = `${tcp ? "t" : "u"}${message.toString("latin1", 2)}`;
    const cached = this.cache.get(key, query.id);
    if (cached) return cached;
    const answer = await this.forward(key, message, tcp, from);
    return answer ? withId(answer, query.id) : reply(query, RCODE.SERVFAIL);
  }

  /** Forgets what it has learnt. */
  close(): void {
    this.cache.clear();
  }

  private async forward(key: string, message: Buffer, tcp: boolean, from: string): Promise<Buffer | null> {
    const asking = this.asking.get(from) ?? 0;
    if (asking >= MAX_OF_SANDBOX) return null;
    this.asking.set(from, asking + 1);
    try {
      return await this.together(key, message, tcp);
    } finally {
      const left = (this.asking.get(from) ?? 1) - 1;
      if (left > 0) this.asking.set(from, left);
      else this.asking.delete(from);
    }
  }

  private together(key: string, message: Buffer, tcp: boolean): Promise<Buffer | null> {
    const same = this.waiting.get(key);
    if (same) return same;
    if (this.waiting.size >= MAX_OF_OWNER) return Promise.resolve(null);
    const asked = this.forwarder
      .ask(message, tcp)
      .then((answer) => {
        if (answer) this.cache.put(key, answer);
        return answer;
      })
      .finally(() => this.waiting.delete(key));
    this.waiting.set(key, asked);
    return asked;
  }
}
