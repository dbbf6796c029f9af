/** JSON answers. */
import type { Context } from "hono";

/** Compact JSON, one newline, `<`, `>` and `&` escaped. */
export function encode(value: unknown): string {
  const escaped: Record<string, string> = { "<": "\\u003c", ">": "\\u003e", "&": "\\u0026" };
  return `${JSON.stringify(value).replace(/[<>&]/g, (char) => escaped[char]!)}\n`;
}

/** An answer of less fits the buffers of a connection: nothing of it waits here for a client that does not read. Bytes. */
const SMALL = 64 << 10;

/** Answers that are complete when their handler returns, with their size in bytes; any other body is a stream. */
const whole = new WeakMap<Response, number>();
/** Bytes that wait in memory until the client has read a complete answer, 0 for a small one; null for a stream. */
export const waitingBytes = (response: Response): number | null => whole.get(response) ?? null;

export function answer(value: unknown, status = 200, headers: Record<string, string> = {}): Response {
  return answerText(encode(value), status, headers);
}

/** The same with what `encode` made. */
export function answerText(text: string, status = 200, headers: Record<string, string> = {}): Response {
  const init = { status, headers: { "content-type": "application/json", ...headers } };
  if (text.length <= SMALL) {
    const response = new Response(text, init);
    whole.set(response, 0);
    return response;
  }
  const bytes = Buffer.from(text);
  const response = new Response(inParts(bytes), init);
  whole.set(response, bytes.length);
  return response;
}

/** Part by part, as the client reads: what is sent is known, and so is what still waits. */
function inParts(bytes: Buffer): ReadableStream<Uint8Array> {
  let at = 0;
  return new ReadableStream(
    {
      pull(controller) {
        controller.enqueue(bytes.subarray(at, at + SMALL));
        at += SMALL;
        if (at >= bytes.length) controller.close();
      },
    },
    { highWaterMark: 0 },
  );
}

export const reply = (_c: Context, ...rest: Parameters<typeof answer>): Response => answer(...rest);
