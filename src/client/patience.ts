/** Waiting for a server that said when to ask again (429 with Retry-After). */
import { ApiError } from "./error.ts";

/** A request that waits longer than this says so, ms. */
const QUIET_MS = 2000;
/** After so long in all it fails after all, ms. */
const MAX_MS = 120_000;

export class Patience {
  private waited = 0;

  /** `tell` is called once, when the waiting has lasted two seconds. */
  constructor(
    private readonly tell: ((error: ApiError) => void) | undefined,
    private readonly signal?: AbortSignal,
  ) {}

  /** Waits as the server asked; throws `error` when it is no such wish, or when it was waited long enough. */
  async orThrow(error: unknown): Promise<void> {
    const wished = error instanceof ApiError && error.code === "rate_limited" ? error.retryAfter : undefined;
    if (wished === undefined || this.waited + wished * 1000 > MAX_MS) throw error;
    // A little more for each in its own measure: those that were refused together do not come back together.
    await this.wait(Math.max(wished * 1000, 50) * (1 + Math.random() / 4), error as ApiError);
  }

  private async wait(ms: number, error: ApiError): Promise<void> {
    const until = QUIET_MS - this.waited;
    if (until > 0 && until <= ms) {
      await this.sleep(until);
      this.tell?.(error);
      await this.sleep(ms - until);
    } else await this.sleep(ms);
    this.waited += ms;
  }

  private async sleep(ms: number): Promise<void> {
    await Bun.sleep(ms);
    this.signal?.throwIfAborted();
  }
}
