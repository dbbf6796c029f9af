/** Query in, answer out, for one owner: zone first, then cache, then upstreams. */
import { Cache } from "./cache.ts";
import type { Forwarder } from "./forwarder.ts";
import { latin1, parseQuery, RCODE, reply, TYPE, withId } from "./wire.ts";
import type { Zone } from "./zone.ts";

/** Questions of one owner that wait for upstreams; more are refused, so that nobody can occupy the host's sockets. */
const MAX_WAITING = 64;

export class Resolver {
  private readonly cache = new Cache();
  private readonly waiting = new Map<string, Promise<Uint8Array | null>>();

  constructor(
    private readonly zone: () => Zone,
    private readonly forwarder: Forwarder,
  ) {}

  /** Answers `message`; null when nothing should be sent. Never throws for any bytes. */
  async resolve(message: Uint8Array, tcp: boolean): Promise<Uint8Array | null> {
    const query = parseQuery(message);
    if (!query) return null;
    if (query.opcode !== 0) return reply(message, query, RCODE.NOTIMP);
    if (query.questions !== 1) return reply(message, query, RCODE.FORMERR);
    if (query.class !== 1 || query.type === TYPE.AXFR || query.type === TYPE.IXFR) {
      return reply(message, query, RCODE.REFUSED);
    }
    const own = this.zone().answer(message, query);
    if (own) return own;
    // Everything but the id: flags and EDNS options are part of the question to an upstream.
    const key = `${tcp ? "t" : "u"}${latin1(message.subarray(2))}`;
    const cached = this.cache.get(key, query.id);
    if (cached) return cached;
    const answer = await this.forward(key, message, query.end, tcp);
    return answer ? withId(answer, query.id) : reply(message, query, RCODE.SERVFAIL);
  }

  private forward(key: string, message: Uint8Array, end: number, tcp: boolean): Promise<Uint8Array | null> {
    const same = this.waiting.get(key);
    if (same) return same;
    if (this.waiting.size >= MAX_WAITING) return Promise.resolve(null);
    const asked = this.forwarder.ask(message, end, tcp).then((answer) => {
      if (answer) this.cache.put(key, answer);
      return answer;
    });
    this.waiting.set(key, asked);
    return asked.finally(() => this.waiting.delete(key));
  }
}
