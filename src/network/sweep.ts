/** Clears away what an earlier daemon left, beside the daily work: after a crash that can be thousands of namespaces. */
import type { Logger } from "pino";
import type { KeyedMutex } from "../lib/keyed-mutex.ts";

/** Removed together; whoever wants one of them waits for the others. */
const TOGETHER = 8;

export class Sweep {
  private running: Promise<void> = Promise.resolve();
  private readonly strays = new Set<number>();
  private stopped = false;

  constructor(
    private readonly turn: KeyedMutex<number>,
    private readonly log: Logger,
    private readonly work: {
      remove(...slots: number[]): Promise<void>;
      /** Afterwards, also when it failed. */
      gone(slot: number): void;
    },
  ) {}

  /** `first` is done before the slots. */
  start(slots: number[], first: () => Promise<void>): void {
    for (const slot of slots) this.strays.add(slot);
    this.running = first()
      .catch((err) => this.log.warn({ err }, "a bridge of an earlier daemon could not be removed"))
      .then(() => this.run(slots));
  }

  /** `slot` is built anew or was removed; called in its turn. */
  forget(slot: number): void {
    this.strays.delete(slot);
  }

  settled = (): Promise<void> => this.running;

  /** What is not removed yet stays for the next daemon. */
  async stop(): Promise<void> {
    this.stopped = true;
    await this.running;
  }

  private async run(slots: number[]): Promise<void> {
    for (let at = 0; at < slots.length && !this.stopped; at += TOGETHER) {
      const some = slots.slice(at, at + TOGETHER);
      const { promise: done, resolve: release } = Promise.withResolvers<void>();
      // In the turn of all of them; nobody else ever holds more than one.
      await Promise.all(
        some.map(
          (slot) =>
            new Promise<void>((entered) => {
              void this.turn.with(slot, () => {
                entered();
                return done;
              });
            }),
        ),
      );
      const left = some.filter((slot) => this.strays.delete(slot));
      try {
        await this.work.remove(...left);
      } catch (err) {
        this.log.warn({ err }, "a network of an earlier daemon could not be removed");
      } finally {
        for (const slot of left) this.work.gone(slot);
        release();
      }
    }
  }
}
