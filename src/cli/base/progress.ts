/** What a person sees while something takes more than a second. Only on a terminal, only on stderr. */
import { bytes, span } from "./format.ts";
import { dim, isTty, jsonMode, write } from "./output.ts";
import { onInterrupt } from "./signals.ts";

const FRAMES = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
const QUIET_MS = 1000;
const CLEAR = "\r\x1b[K";

/** Runs `work`; from the second second on a spinner with `text` and the time. */
export async function withSpinner<T>(text: string, work: () => Promise<T>): Promise<T> {
  const line = ticker((s) => `${text} ${dim(`${s}s`, 2)}`);
  try {
    return await work();
  } finally {
    line.end();
  }
}

/** Counts the bytes of a stream that passes, or is told of them (`set`). `total`: bytes, where known. */
export function meter(text: string, total?: number) {
  let done = 0;
  const through = (stream: ReadableStream<Uint8Array>): ReadableStream<Uint8Array> => {
    done = 0;
    return stream.pipeThrough(
      new TransformStream<Uint8Array, Uint8Array>({
        transform(chunk, out) {
          done += chunk.length;
          out.enqueue(chunk);
        },
      }),
    );
  };
  const line = ticker((s) => {
    const rate = s > 0 ? `, ${bytes(done / s)}/s` : "";
    const part = total ? ` of ${bytes(total)} (${Math.floor((done / total) * 100)} %)` : "";
    const left = total && done > 0 && s > 2 ? `, ${span(((total - done) * s) / done)} left` : "";
    return `${text} ${bytes(done)}${part}${rate}${left}`;
  });
  return {
    add(count: number) {
      done += count;
    },
    set(count: number, of: number) {
      done = count;
      total = of;
    },
    end: line.end,
    /** The same stream, counted from its beginning. */
    through,
    /** The same for one whose length is known only now. */
    of(size?: number) {
      total = size;
      return through;
    },
  };
}

function ticker(text: (seconds: number) => string): { end(): void } {
  if (!isTty(2) || jsonMode() || process.env.TERM === "dumb") return { end() {} };
  const started = performance.now();
  let shown = false;
  let frame = 0;
  const timer = setInterval(() => {
    const ms = performance.now() - started;
    if (ms < QUIET_MS) return;
    shown = true;
    write(2, `${CLEAR}${FRAMES[frame++ % FRAMES.length]} ${text(Math.floor(ms / 1000))}`);
  }, 120);
  const end = () => {
    clearInterval(timer);
    if (shown) write(2, CLEAR);
    shown = false;
    withdraw();
  };
  const withdraw = onInterrupt(end);
  return { end };
}
