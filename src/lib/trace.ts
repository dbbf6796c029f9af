/** One line per transition: what it was, how long each step took. */
export class Trace {
  private readonly began = performance.now();
  private last = this.began;
  readonly steps: Record<string, number> = {};

  /** Ends a step: the time since the previous one counts for `name`, ms. */
  step(name: string): void {
    const now = performance.now();
    this.steps[name] = round((this.steps[name] ?? 0) + now - this.last);
    this.last = now;
  }

  /** ms since the trace began. */
  total(): number {
    return round(performance.now() - this.began);
  }
}

const round = (ms: number): number => Math.round(ms * 100) / 100;
