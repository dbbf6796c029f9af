/**
 * Hashes of new snapshots, in the background: the pause of their source and the answer to their maker wait for none. One
 * snapshot at a time, behind everybody else who wants CPU or disk.
 */
import type { Logger } from "pino";

export class Hashing {
  private readonly waiting: string[] = [];
  private current: { id: string; stop: AbortController; end: Promise<void> } | null = null;
  private stopped = false;

  /** `hash` reads the files of a snapshot and keeps what it found. */
  constructor(
    private readonly hash: (id: string, signal: AbortSignal) => Promise<void>,
    private readonly log: Pick<Logger, "warn">,
  ) {}

  add(id: string): void {
    if (this.stopped || this.waiting.includes(id)) return;
    this.waiting.push(id);
    this.next();
  }

  /** Not that one any more; resolves when nothing reads its files. */
  async cancel(id: string): Promise<void> {
    const at = this.waiting.indexOf(id);
    if (at >= 0) this.waiting.splice(at, 1);
    if (this.current?.id !== id) return;
    this.current.stop.abort(new Error("not wanted any more"));
    await this.current.end;
  }

  /** None any more. */
  async stop(): Promise<void> {
    this.stopped = true;
    this.waiting.length = 0;
    if (this.current) await this.cancel(this.current.id);
  }

  /** Resolves when there is nothing left to do. */
  async idle(): Promise<void> {
    while (this.current) await this.current.end;
  }

  private next(): void {
    if (this.current) return;
    const id = this.waiting.shift();
    if (id === undefined) return;
    const stop = new AbortController();
    const end = this.hash(id, stop.signal)
      .catch((err) => {
        if (!stop.signal.aborted) this.log.warn({ snapshot: id, err }, "a snapshot could not be hashed");
      })
      .then(() => {
        this.current = null;
        this.next();
      });
    this.current = { id, stop, end };
  }
}
