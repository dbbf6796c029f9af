/**
 * What one owner may have in the daemon at a time: requests, proxied connections, bytes in memory. These protect the others;
 * the rate is only there for a loop that has gone wild, and no honest client meets it.
 */
import { AppError } from "../lib/errors.ts";
import { type Rate, RateLimiter } from "./rate-limit.ts";

/**
 * `api`: calls of the API, open streams included. `traffic`: requests that are passed through to a sandbox with its owner's key.
 * `public`: those of strangers to its published ports.
 */
export type Kind = "api" | "traffic" | "public";

export interface ShareLimits {
  atOnce: Record<Kind, number>;
  /** Bodies, buffered output and stdin that wait in the daemon's memory. */
  bytes: number;
  rate: Rate;
}

export const LIMITS: ShareLimits = {
  atOnce: { api: 512, traffic: 512, public: 1024 },
  bytes: 256 << 20,
  rate: { burst: 4000, perSecond: 2000 },
};

/** Owners with nothing in the daemon are forgotten beyond this many. */
const MAX_IDLE = 1000;

interface Held {
  atOnce: Record<Kind, number>;
  bytes: number;
}

export class Shares {
  private readonly owners = new Map<string, Held>();
  private readonly rate: RateLimiter;

  /** `rateFactor` multiplies the rate; 0 = none. */
  constructor(
    private readonly limits: ShareLimits = LIMITS,
    private readonly rateFactor = 1,
  ) {
    const { burst, perSecond } = limits.rate;
    this.rate = new RateLimiter({ burst: burst * rateFactor, perSecond: perSecond * rateFactor });
  }

  /** A place for one request. Throws rate_limited (429 with Retry-After). The caller releases it. */
  enter(owner: string, kind: Kind): Place {
    const wait = kind === "api" && this.rateFactor > 0 ? this.rate.take(owner) : 0;
    if (wait > 0) throw refused(`rate limit exceeded: ${this.limits.rate.perSecond} requests a second`, wait);
    const held = this.owners.get(owner) ?? { atOnce: { api: 0, traffic: 0, public: 0 }, bytes: 0 };
    const limit = this.limits.atOnce[kind];
    if (held.atOnce[kind] >= limit) {
      throw refused(`${limit} ${kind === "api" ? "requests" : "proxied requests"} of yours run already`, 1);
    }
    held.atOnce[kind]++;
    this.owners.set(owner, held);
    if (this.owners.size > MAX_IDLE) this.forget();
    return new Place(held, kind, this.limits.bytes);
  }

  /** Owners that are known: the size of the map, for its bound. */
  size(): number {
    return this.owners.size;
  }

  private forget(): void {
    for (const [owner, { atOnce, bytes }] of this.owners)
      if (atOnce.api + atOnce.traffic + atOnce.public + bytes === 0) this.owners.delete(owner);
  }
}

function refused(message: string, seconds: number): AppError {
  return new AppError("rate_limited", message, {
    retryAfter: Math.max(1, Math.ceil(seconds)),
    remedy: "wait a moment; the answer says how long (Retry-After)",
  });
}

/** One request of an owner, from its key to the last byte of its answer. */
export class Place {
  private bytes = 0;
  private open = true;
  private answered = false;
  /** Somebody else releases it: the connection became a socket. */
  kept = false;

  constructor(
    private readonly held: Held,
    private readonly kind: Kind,
    private readonly maxBytes: number,
  ) {}

  /** Counts bytes that are held in memory; false when the owner's share is used up. */
  take(bytes: number): boolean {
    if (!this.open || this.held.bytes + bytes > this.maxBytes) return false;
    this.bytes += bytes;
    this.held.bytes += bytes;
    return true;
  }

  /** Counts an answer that waits to be read, in place of what it was made of; once. False when the share is used up. */
  takeAnswer(bytes: number): boolean {
    if (this.answered) return true;
    const before = this.bytes;
    this.give(before);
    if (this.take(bytes)) {
      this.answered = true;
      return true;
    }
    this.take(before);
    return false;
  }

  give(bytes: number): void {
    if (!this.open) return;
    this.bytes -= bytes;
    this.held.bytes -= bytes;
  }

  /** The request goes on after its handler returned; the caller calls `release` at its end. */
  keep(): () => void {
    this.kept = true;
    return () => this.release();
  }

  /** Idempotent. Gives back what is still counted. */
  release(): void {
    if (!this.open) return;
    this.open = false;
    this.held.atOnce[this.kind]--;
    this.held.bytes -= this.bytes;
  }
}
