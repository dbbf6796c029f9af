/** At most `limit` holders at a time; others wait in order. */
export class Semaphore {
  private free: number;
  private waiting: (() => void)[] = [];

  constructor(limit: number) {
    this.free = limit;
  }

  /** How many wait. */
  get queued(): number {
    return this.waiting.length;
  }

  /** Waits for a place; the answer gives it back (idempotent). Throws the signal's reason when it fires first. */
  async acquire(signal?: AbortSignal): Promise<() => void> {
    signal?.throwIfAborted();
    if (this.free > 0) this.free--;
    else await this.turn(signal);
    return this.once();
  }

  private once(): () => void {
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      const next = this.waiting.shift();
      if (next) next();
      else this.free++;
    };
  }

  /** A place if one is free now, else null. */
  tryAcquire(): (() => void) | null {
    if (this.free === 0) return null;
    this.free--;
    return this.once();
  }

  /** Runs `work` with one place held. */
  async with<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const release = await this.acquire(signal);
    try {
      return await work();
    } finally {
      release();
    }
  }

  private turn(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const go = () => {
        signal?.removeEventListener("abort", leave);
        resolve();
      };
      const leave = () => {
        this.waiting = this.waiting.filter((other) => other !== go);
        reject(signal!.reason);
      };
      signal?.addEventListener("abort", leave, { once: true });
      this.waiting.push(go);
    });
  }
}
