/** Stdin of a streamed exec between a socket that cannot be paused and a guest that takes its time: bounded, with credit. */

/** Bytes that may wait. A client that keeps to the credit never comes near. */
const MAX_WAITING = 16 << 20;
/** Credit is told in steps of this many bytes. */
const STEP = 256 << 10;
/** Smaller messages are put together: each by itself would cost many times its bytes, which are what is counted. */
const SMALL = 4096;
const PIECE = 16 << 10;

export class StdinQueue {
  readonly stream: ReadableStream<Uint8Array>;
  private readonly chunks: Uint8Array[] = [];
  /** Small messages that came last. */
  private tail: Uint8Array | null = null;
  private used = 0;
  private waiting = 0;
  private taken = 0;
  private told = 0;
  private ended = false;
  private wake: (() => void) | null = null;

  /** `tell` gets the number of bytes taken so far; `share` is what the owner may hold in memory. */
  constructor(
    private readonly tell: (taken: number) => void,
    private readonly share: { take(bytes: number): boolean; give(bytes: number): void },
  ) {
    this.stream = new ReadableStream<Uint8Array>(
      {
        pull: async (controller) => {
          while (this.chunks.length === 0 && this.used === 0 && !this.ended) {
            await new Promise<void>((resolve) => {
              this.wake = resolve;
            });
          }
          if (this.chunks.length === 0) this.closeTail();
          const chunk = this.chunks.shift();
          if (!chunk) return controller.close();
          this.waiting -= chunk.length;
          this.share.give(chunk.length);
          this.taken += chunk.length;
          if (this.taken - this.told >= STEP) {
            this.told = this.taken;
            this.tell(this.taken);
          }
          controller.enqueue(chunk);
        },
        cancel: () => this.end(),
      },
      { highWaterMark: 0 },
    );
  }

  /** False when the bound is passed: the sender ignores the credit. */
  push(chunk: Uint8Array): boolean {
    if (this.ended || chunk.length === 0) return true;
    if (this.waiting + chunk.length > MAX_WAITING || !this.share.take(chunk.length)) return false;
    this.add(chunk);
    this.waiting += chunk.length;
    this.notify();
    return true;
  }

  private add(chunk: Uint8Array): void {
    if (chunk.length >= SMALL || this.used + chunk.length > PIECE) this.closeTail();
    if (chunk.length >= SMALL) {
      this.chunks.push(chunk);
      return;
    }
    this.tail ??= new Uint8Array(PIECE);
    this.tail.set(chunk, this.used);
    this.used += chunk.length;
  }

  /** What was put together becomes a chunk of its own size; the buffer is used again. */
  private closeTail(): void {
    if (this.used === 0) return;
    this.chunks.push(this.tail!.slice(0, this.used));
    this.used = 0;
  }

  end(): void {
    this.ended = true;
    this.notify();
  }

  private notify(): void {
    this.wake?.();
    this.wake = null;
  }
}
