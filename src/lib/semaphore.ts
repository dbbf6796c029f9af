/** At most `limit` holders at a time, and `perOwner` of one owner; others wait in order. */
export class Semaphore {
  private free: number;
  private waiting: { owner: string; go: () => void }[] = [];
  private readonly held = new Map<string, number>();

  /** `perOwner`: so many that one owner cannot keep all others from having a place. */
  constructor(
    limit: number,
    private readonly perOwner = limit,
  ) {
    this.free = limit;
  }

  /** How many wait. */
  get queued(): number {
    return this.waiting.length;
  }

  /**
   * Waits for a place; the answer gives it back (idempotent). Throws the signal's reason when it fires first. Without an
   * owner only `limit` counts.
   */
  async acquire(signal?: AbortSignal, owner = ""): Promise<() => void> {
    signal?.throwIfAborted();
    if (this.free > 0 && this.mayHave(owner)) this.take(owner);
    else await this.turn(signal, owner);
    return this.once(owner);
  }

  /** A place if one is free now, else null. */
  tryAcquire(): (() => void) | null {
    if (this.free === 0) return null;
    this.take("");
    return this.once("");
  }

  /** Runs `work` with one place held. */
  async with<T>(work: () => Promise<T>, signal?: AbortSignal, owner = ""): Promise<T> {
    const release = await this.acquire(signal, owner);
    try {
      return await work();
    } finally {
      release();
    }
  }

  private mayHave(owner: string): boolean {
    return owner === "" || (this.held.get(owner) ?? 0) < this.perOwner;
  }

  private take(owner: string): void {
    this.free--;
    if (owner !== "") this.held.set(owner, (this.held.get(owner) ?? 0) + 1);
  }

  private give(owner: string): void {
    this.free++;
    const left = (this.held.get(owner) ?? 0) - 1;
    if (left > 0) this.held.set(owner, left);
    else this.held.delete(owner);
  }

  private once(owner: string): () => void {
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      this.give(owner);
      const at = this.waiting.findIndex((waiting) => this.mayHave(waiting.owner));
      const [next] = at < 0 ? [] : this.waiting.splice(at, 1);
      if (!next) return;
      this.take(next.owner);
      next.go();
    };
  }

  private turn(signal: AbortSignal | undefined, owner: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const go = () => {
        signal?.removeEventListener("abort", leave);
        resolve();
      };
      const leave = () => {
        this.waiting = this.waiting.filter((other) => other.go !== go);
        reject(signal!.reason);
      };
      signal?.addEventListener("abort", leave, { once: true });
      this.waiting.push({ owner, go });
    });
  }
}
