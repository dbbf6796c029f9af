/** JSON in and out as the contract wants it: spec/http-api §3.1, §3.2. */
import type { Context } from "hono";
import type { z } from "zod";
import { badRequest } from "../lib/errors.ts";

const MAX_BODY = 1024 * 1024;

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

/** The request's body, bounded. Throws bad_request with the text that v1 clients know. */
async function readBody(request: Request): Promise<string> {
  const tooLarge = () =>
    badRequest("invalid json: http: request body too large", "JSON bodies are limited to 1 MiB");
  if (Number(request.headers.get("content-length") ?? 0) > MAX_BODY) throw tooLarge();
  if (!request.body) return "";
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of request.body as unknown as AsyncIterable<Uint8Array>) {
    length += chunk.length;
    if (length > MAX_BODY) throw tooLarge();
    chunks.push(chunk);
  }
  return new TextDecoder().decode(Buffer.concat(chunks));
}

/**
 * Decodes the body against a schema. Unknown members are ignored, `null` leaves the default, names match without regard to
 * case, bytes behind the first value are ignored: an existing client's JSON is accepted. `optional`: an empty body is {}.
 */
export async function decode<S extends z.ZodObject>(
  c: Context,
  schema: S,
  optional = false,
): Promise<z.infer<S>> {
  const text = await readBody(c.req.raw);
  if (text.trim() === "") {
    if (optional) return check(schema, {});
    throw badRequest("invalid json: EOF");
  }
  const value = firstValue(text);
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw badRequest("invalid json: an object is expected");
  return check(schema, fold(value as Record<string, unknown>, Object.keys(schema.shape)));
}

function check<S extends z.ZodObject>(schema: S, value: unknown): z.infer<S> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const where = issue?.path.join(".") ?? "";
  // A message of our own rules stands alone; one about types is v1's "invalid json".
  if (issue?.code === "custom") throw badRequest(issue.message);
  throw badRequest(`invalid json: ${where ? `${where}: ` : ""}${issue?.message ?? "wrong shape"}`);
}

function fold(value: Record<string, unknown>, known: string[]): Record<string, unknown> {
  const folded: Record<string, unknown> = {};
  for (const [key, member] of Object.entries(value)) {
    if (member === null) continue;
    const name = known.includes(key) ? key : known.find((candidate) => candidate === key.toLowerCase());
    if (name && !(name in folded && name !== key)) folded[name] = member;
  }
  return folded;
}

function firstValue(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    // Trailing bytes behind a complete value are allowed; find where the first value ends.
    let depth = 0;
    let inString = false;
    for (let i = 0; i < text.length; i++) {
      const char = text[i];
      if (inString) {
        if (char === "\\") i++;
        else if (char === '"') inString = false;
      } else if (char === '"') inString = true;
      else if (char === "{" || char === "[") depth++;
      else if (char === "}" || char === "]") {
        depth--;
        if (depth === 0) {
          try {
            return JSON.parse(text.slice(0, i + 1));
          } catch {
            break;
          }
        }
      }
    }
    throw badRequest(`invalid json: ${error instanceof Error ? error.message : "syntax error"}`);
  }
}
