/** Token buckets per user and class (spec/http-api §5), and a brake on guessing keys per address. */
import { AppError } from "../lib/errors.ts";

export interface Rate {
  burst: number;
  perSecond: number;
}

/** Least recently used buckets are forgotten beyond this many. */
const MAX_TRACKED = 10_000;

export class RateLimiter {
  private readonly buckets = new Map<string, { tokens: number; at: number }>();

  constructor(
    private readonly rate: Rate,
    private readonly now: () => number = Date.now,
  ) {}

  /** Takes a token; returns 0, or the seconds until there is one. */
  take(key: string): number {
    const now = this.now();
    const bucket = this.buckets.get(key) ?? { tokens: this.rate.burst, at: now };
    this.buckets.delete(key);
    bucket.tokens = Math.min(
      this.rate.burst,
      bucket.tokens + ((now - bucket.at) / 1000) * this.rate.perSecond,
    );
    bucket.at = now;
    const ok = bucket.tokens >= 1;
    if (ok) bucket.tokens -= 1;
    this.buckets.set(key, bucket);
    if (this.buckets.size > MAX_TRACKED) this.buckets.delete(this.buckets.keys().next().value!);
    return ok ? 0 : (1 - bucket.tokens) / this.rate.perSecond;
  }
}

export type RateClass = "create" | "exec" | "read";

const RATES: Record<RateClass, Rate> = {
  create: { burst: 10, perSecond: 0.5 },
  exec: { burst: 30, perSecond: 10 },
  read: { burst: 60, perSecond: 20 },
};

/** By the route, not by a substring that a name could contain. */
export function classOf(method: string, path: string): RateClass {
  if (method === "POST" && path === "/sandboxes") return "create";
  const action = path.match(/^\/sandboxes\/[^/]+\/([^/]+)/)?.[1];
  if (method === "POST" && action === "exec") return "exec";
  if (method === "PUT" && action === "files") return "exec";
  if (action === "ws" || /^\/sandboxes\/[^/]+\/exec\/(ws|stream)$/.test(path)) return "exec";
  return "read";
}

/** One limiter per class. `factor` multiplies every rate (operators, benchmarks); 0 switches limits off. */
export class UserLimits {
  private readonly limiters: Record<RateClass, RateLimiter>;

  constructor(private readonly factor = 1) {
    const of = (name: RateClass) =>
      new RateLimiter({ burst: RATES[name].burst * factor, perSecond: RATES[name].perSecond * factor });
    this.limiters = { create: of("create"), exec: of("exec"), read: of("read") };
  }

  /** Throws rate_limited. */
  check(userId: string, method: string, path: string): void {
    if (this.factor === 0) return;
    const wait = this.limiters[classOf(method, path)].take(userId);
    if (wait > 0)
      throw new AppError("rate_limited", "rate limit exceeded", { retryAfter: Math.max(1, Math.ceil(wait)) });
  }
}
