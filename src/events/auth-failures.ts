/** Wrong keys as events: the first of an address at once, the others of the same minute as one event with their number. */
import type { Events } from "./events.ts";

const WINDOW_MS = 60_000;
/** Addresses that are told apart within a window; the rest count together. */
const MAX_ADDRESSES = 256;
const OTHERS = "others";

export class AuthFailures {
  private readonly counts = new Map<string, number>();
  private timer: ReturnType<typeof setTimeout> | null = null;

  constructor(
    private readonly events: Pick<Events, "record">,
    private readonly windowMs = WINDOW_MS,
  ) {}

  add(address: string): void {
    const known = this.counts.has(address) || this.counts.size < MAX_ADDRESSES;
    const key = known ? address : OTHERS;
    const before = this.counts.get(key);
    this.counts.set(key, (before ?? -1) + 1);
    if (before === undefined) this.record(key, 1);
    this.timer ??= setTimeout(() => this.flush(), this.windowMs);
    this.timer.unref?.();
  }

  /** Tells what has gathered; the next failure of an address is told at once again. */
  flush(): void {
    if (this.timer) clearTimeout(this.timer);
    this.timer = null;
    for (const [address, more] of this.counts) if (more > 0) this.record(address, more);
    this.counts.clear();
  }

  private record(ip: string, count: number): void {
    this.events.record({ type: "auth.failed", meta: { ip, count } });
  }
}
