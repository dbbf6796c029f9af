/** JSON answers. */
import type { Context } from "hono";

/** Compact JSON, one newline, `<`, `>` and `&` escaped. */
export function encode(value: unknown): string {
  const escaped: Record<string, string> = { "<": "\\u003c", ">": "\\u003e", "&": "\\u0026" };
  return `${JSON.stringify(value).replace(/[<>&]/g, (char) => escaped[char]!)}\n`;
}

/** Answers that are complete when their handler returns; any other body is a stream. */
const whole = new WeakSet<Response>();
export const isWhole = (response: Response): boolean => whole.has(response);

export function answer(value: unknown, status = 200, headers: Record<string, string> = {}): Response {
  const response = new Response(encode(value), {
    status,
    headers: { "content-type": "application/json", ...headers },
  });
  whole.add(response);
  return response;
}

export const reply = (_c: Context, ...rest: Parameters<typeof answer>): Response => answer(...rest);
