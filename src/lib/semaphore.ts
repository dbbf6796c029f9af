/**
 * At most `limit` holders at a time, and `perOwner` of one owner; others wait in order. Where owners are bounded, the last place
 * is for one who has none, and those come first when a place is given back: however many owners are busy, the next one waits
 * for one place, not for its turn behind all that they want.
 */
export class Semaphore {
  private free: number;
  /** Places that nobody takes who has one already. */
  private readonly spare: number;
  private waiting: { owner: string; go: () => void }[] = [];
  private readonly held = new Map<string, number>();

  /** `perOwner`: so many that one owner cannot keep all others from having a place. */
  constructor(
    limit: number,
    private readonly perOwner = limit,
  ) {
    this.free = limit;
    this.spare = perOwner < limit ? 1 : 0;
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
    if (this.hasNone(owner)) return true;
    return this.held.get(owner)! < this.perOwner && this.free > this.spare;
  }

  private hasNone(owner: string): boolean {
    return owner === "" || !this.held.has(owner);
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
      const next =
        this.waiting.find(({ owner }) => this.hasNone(owner)) ??
        this.waiting.find(({ owner }) => this.mayHave(owner));
      if (!next) return;
      this.waiting.splice(this.waiting.indexOf(next), 1);
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
