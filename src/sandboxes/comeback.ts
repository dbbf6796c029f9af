/** Boots a machine again that ended by itself; later each time when it ends again soon after, so that none loops wildly. */

/** A machine that ran for so long is healthy: the next time it comes back at once again, ms. */
const CALM_MS = 10 * 60_000;
const FIRST_MS = 1000;
const MOST_MS = 5 * 60_000;

export class Comeback {
  private delay = 0;
  private timer: ReturnType<typeof setTimeout> | null = null;

  /** `again` is called in a while, unless `cancel` comes first; `ranMs`: how long the machine ran. Returns the wait, ms. */
  schedule(ranMs: number, again: () => void): number {
    this.delay = ranMs > CALM_MS ? 0 : Math.min(Math.max(this.delay * 2, FIRST_MS), MOST_MS);
    // The first time nobody waits: a reboot is a reboot.
    const wait = this.delay <= FIRST_MS ? 0 : this.delay;
    this.cancel();
    this.timer = setTimeout(again, wait);
    this.timer.unref?.();
    return wait;
  }

  cancel(): void {
    if (this.timer) clearTimeout(this.timer);
    this.timer = null;
  }
}
