/** Answers that take minutes: JSON lines that say how far the work is, the last one its result or its error. */
import type { Context } from "hono";
import type { Caller, HttpEnv } from "./env.ts";
import { encode } from "./json.ts";

/** What is over, or refused, before that is an ordinary answer, ms. */
const AT_ONCE_MS = 200;
const EVERY_MS = 500;

type Work<T> = (told: (read: number, of: number) => void, signal: AbortSignal) => Promise<T>;

/**
 * `{"read", "of"}` now and then (also when nothing has changed: both sides see that the other is there), at last `{"result"}`,
 * or `{"error", "code", ...}` as any failure has it. `signal` of the work ends when the client leaves.
 */
export async function withProgress<T, U extends Caller>(
  c: Context<HttpEnv<U>>,
  work: Work<T>,
): Promise<Response> {
  const gone = new AbortController();
  const left = () => gone.signal.aborted || c.req.raw.signal.aborted;
  const at = { read: 0, of: 0 };
  const result = work(
    (read, of) => Object.assign(at, { read, of }),
    AbortSignal.any([gone.signal, c.req.raw.signal]),
  );
  await Promise.race([result, Bun.sleep(AT_ONCE_MS)]);
  const encoder = new TextEncoder();
  let timer: Timer;
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      const line = (text: string) => controller.enqueue(encoder.encode(text));
      const tell = () => {
        if ((controller.desiredSize ?? 0) > 0) line(encode(at));
      };
      tell();
      timer = setInterval(tell, EVERY_MS);
      void result
        .then(
          (value) => encode({ result: value }),
          // Who left wanted no more of it: that is no failure to be logged.
          (error) => (left() ? "" : c.get("tell")(error).text()),
        )
        .then((last) => {
          clearInterval(timer);
          if (left()) return;
          line(last);
          controller.close();
        })
        .catch(() => {}); // the client is gone
    },
    cancel() {
      clearInterval(timer);
      gone.abort(new DOMException("the client left", "AbortError"));
    },
  });
  return new Response(body, { headers: { "content-type": "application/x-ndjson" } });
}
