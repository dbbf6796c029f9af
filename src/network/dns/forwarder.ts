/** Asks the upstreams: the first at once, the next when it fails or is slow. */
import { randomInt } from "node:crypto";
import { exchange } from "./exchange.ts";
import type { Upstream } from "./upstreams.ts";
import { RCODE, rcodeOf, withId } from "./wire.ts";

const SLOW_MS = 700;
const DEADLINE_MS = 5000;
/** Questions of all owners together; each has a socket of the host. */
const MAX_ASKING = 4096;

export class Forwarder {
  private asking = 0;

  constructor(private readonly upstreams: () => Upstream[]) {}

  /** The best answer within 5 s (its id is arbitrary), or null when no upstream gave any. */
  async ask(message: Buffer, tcp: boolean): Promise<Buffer | null> {
    if (this.asking >= MAX_ASKING) return null;
    this.asking++;
    return this.race(message, tcp).finally(() => this.asking--);
  }

  private race(message: Buffer, tcp: boolean): Promise<Buffer | null> {
    const upstreams = this.upstreams();
    const { promise, resolve } = Promise.withResolvers<Buffer | null>();
    const stop = new AbortController();
    let poor: Buffer | null = null;
    let next = 0;
    let asking = 0;
    let slow: Timer | undefined;
    const finish = (answer: Buffer | null) => {
      clearTimeout(slow);
      clearTimeout(deadline);
      stop.abort();
      resolve(answer);
    };
    const deadline = setTimeout(() => finish(poor), DEADLINE_MS);
    const askNext = () => {
      clearTimeout(slow);
      const upstream = upstreams[next++];
      if (!upstream) {
        if (asking === 0) finish(poor);
        return;
      }
      asking++;
      if (next < upstreams.length) slow = setTimeout(askNext, SLOW_MS);
      void exchange(upstream, withId(message, randomInt(65536)), tcp, stop.signal).then((answer) => {
        asking--;
        if (stop.signal.aborted) return;
        if (answer && isGood(answer)) return finish(answer);
        poor = answer ?? poor;
        askNext();
      });
    };
    askNext();
    return promise;
  }
}

const isGood = (answer: Buffer): boolean =>
  rcodeOf(answer) !== RCODE.SERVFAIL && rcodeOf(answer) !== RCODE.REFUSED;
