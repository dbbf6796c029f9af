/** JSON answers. */
import type { Context } from "hono";

/** Compact JSON, one newline, `<`, `>` and `&` escaped. */
export function encode(value: unknown): string {
  const escaped: Record<string, string> = { "<": "\\u003c", ">": "\\u003e", "&": "\\u0026" };
  return `${JSON.stringify(value).replace(/[<>&]/g, (char) => escaped[char]!)}\n`;
}

export function reply(
  _c: Context,
  value: unknown,
  status = 200,
  headers: Record<string, string> = {},
): Response {
  return new Response(encode(value), { status, headers: { "content-type": "application/json", ...headers } });
}
