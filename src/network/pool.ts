/** Namespaces built ahead, without an owner. Filled in the background, one at a time. */
import type { Logger } from "pino";
import type { Slots } from "./slots.ts";

const REST_MS = 50;
const RETRY_MS = 10_000;

export class Pool {
  /** Built slots that nobody has planned on yet, oldest first. */
  private readonly ready: number[] = [];
  /** Built slots, ready or planned, on which no owner has left a trace. */
  private readonly built = new Set<number>();
  private filling: Promise<void> | null = null;
  private stopped = false;
  private wake: (() => void) | null = null;

  constructor(
    private readonly size: number,
    private readonly slots: Slots,
    private readonly log: Logger,
    private readonly make: { build(slot: number): Promise<void>; remove(...slots: number[]): Promise<void> },
  ) {}

  peek = (): number | undefined => this.ready[0];

  /** Takes a ready slot for a plan. */
  take(slot: number): void {
    this.ready.splice(this.ready.indexOf(slot), 1);
  }

  isBuilt = (slot: number): boolean => this.built.has(slot);

  /** The slot is about to be attached and will never come back. */
  used(slot: number): void {
    this.built.delete(slot);
  }

  /** A plan on a built slot was given up. */
  giveBack(slot: number): void {
    this.ready.push(slot);
  }

  /** Starts filling, unless that is under way. */
  fill(): void {
    if (this.stopped || this.filling) return;
    this.filling = this.run().finally(() => {
      this.filling = null;
    });
  }

  async settled(): Promise<void> {
    while (this.filling) await this.filling;
  }

  /** No more filling; removes what nobody has planned on. */
  async stop(): Promise<void> {
    this.stopped = true;
    this.wake?.();
    await this.settled();
    const idle = this.ready.splice(0);
    for (const slot of idle) this.built.delete(slot);
    await this.make.remove(...idle);
    for (const slot of idle) this.slots.freeSlot(slot);
  }

  private async run(): Promise<void> {
    while (!this.stopped && this.ready.length < this.size) {
      // A create is waiting for the CPU just now more often than not.
      await this.pause(REST_MS);
      const slot = this.stopped || this.ready.length >= this.size ? null : this.slots.takeSlot();
      if (slot === null) return;
      try {
        await this.make.build(slot);
        this.built.add(slot);
        this.ready.push(slot);
      } catch (err) {
        this.log.error({ err }, "a network namespace for the pool could not be built");
        this.slots.freeSlot(slot);
        await this.pause(RETRY_MS);
      }
    }
  }

  private async pause(ms: number): Promise<void> {
    if (this.stopped) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.wake = null;
  }
}
