/** Bodies and queries against their schemas: strict, and every refusal names the member and what is expected. */
import type { Context } from "hono";
import { z } from "zod";
import { AppError, badRequest } from "../lib/errors.ts";
import { shapeProblem } from "./json-shape.ts";
import type { Place } from "./shares.ts";

/** Bytes of a JSON body. */
export const MAX_BODY = 1024 * 1024;

/**
 * Decodes the JSON body. `null` leaves the default, names match without regard to case, bytes behind the first value are
 * ignored, the content type is not looked at: an existing client's JSON is accepted. Unknown members are refused.
 * `optional`: an empty body is {}. Throws bad_request, too_large, rate_limited.
 */
export async function decode<S extends z.ZodType>(
  c: Context,
  schema: S,
  optional = false,
): Promise<z.infer<S>> {
  const text = await readBody(c.req.raw, c.get?.("place") as Place | undefined);
  if (text.trim() === "") {
    if (optional) return check(schema, {});
    throw badRequest("invalid json: EOF", "a JSON object is expected as the body");
  }
  const value = firstValue(text);
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw badRequest("invalid json: an object is expected");
  return check(schema, fold(value as Record<string, unknown>, namesOf(schema)));
}

/** The query's parameters. One that is given several times counts once, with its last value, unless the schema wants a list. */
export function query<S extends z.ZodObject>(c: Context, schema: S): z.infer<S> {
  const given: Record<string, unknown> = {};
  for (const [name, values] of Object.entries(c.req.queries())) {
    const wanted = schema.shape[name];
    const list = wanted instanceof z.ZodOptional && wanted.unwrap() instanceof z.ZodArray;
    given[name] = list ? values : values.at(-1);
  }
  return check(schema, given, "query parameter");
}

/** A value that did not come through HTTP (a socket's first message). Throws bad_request. */
export function check<S extends z.ZodType>(schema: S, value: unknown, what = "member"): z.infer<S> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  const where = issue.path.join(".");
  if (issue.code === "unrecognized_keys") {
    const inside = where ? ` in ${where}` : "";
    const known = where ? [] : namesOf(schema);
    throw badRequest(
      `unknown ${what} "${issue.keys[0]}"${inside}`,
      known.length > 0 ? `there are: ${known.join(", ")}` : `no ${what} is expected`,
    );
  }
  if (issue.message.startsWith("must ")) throw badRequest(`${where || "the body"} ${issue.message}`);
  if (issue.code === "custom" || issue.message.startsWith(where)) throw badRequest(issue.message);
  throw badRequest(`${where ? `${where}: ` : ""}${issue.message}`);
}

const namesOf = (schema: z.ZodType): string[] => {
  let inner: z.ZodType = schema;
  while (inner instanceof z.ZodPipe) inner = inner.in as z.ZodType;
  return inner instanceof z.ZodObject ? Object.keys(inner.shape) : [];
};

/** The body, bounded; its bytes count against the owner's share of memory until the request ends. */
async function readBody(request: Request, place: Place | undefined): Promise<string> {
  const tooLarge = () =>
    new AppError("too_large", `the JSON body is larger than ${MAX_BODY} bytes`, {
      remedy: "send data as a file or on stdin, not inside JSON",
    });
  if (Number(request.headers.get("content-length") ?? 0) > MAX_BODY) throw tooLarge();
  if (!request.body) return "";
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of whole(request.body)) {
    length += chunk.length;
    if (length > MAX_BODY) throw tooLarge();
    if (place?.take(chunk.length) === false) {
      throw new AppError("rate_limited", "your running requests hold all the memory that one owner may use", {
        retryAfter: 1,
        remedy: "wait until some of them have ended",
      });
    }
    chunks.push(chunk);
  }
  return new TextDecoder().decode(Buffer.concat(chunks));
}

/** A body that is cut off is its client's doing, not a fault of ours to be logged as one. */
async function* whole(body: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    yield* body as unknown as AsyncIterable<Uint8Array>;
  } catch (cause) {
    throw new AppError("bad_request", "the request's body ended early", { cause });
  }
}

function fold(value: Record<string, unknown>, known: string[]): Record<string, unknown> {
  // Without a prototype: a member named __proto__ is a member like any other.
  const folded = Object.create(null) as Record<string, unknown>;
  for (const [key, member] of Object.entries(value)) {
    if (member === null) continue;
    const name = known.includes(key)
      ? key
      : (known.find((candidate) => candidate === key.toLowerCase()) ?? key);
    if (!(name in folded && name !== key)) folded[name] = member;
  }
  return folded;
}

function firstValue(text: string): unknown {
  const problem = shapeProblem(text);
  if (problem) throw badRequest(`invalid json: ${problem}`);
  try {
    return JSON.parse(text);
  } catch (error) {
    const end = endOfFirstObject(text);
    try {
      if (end > 0) return JSON.parse(text.slice(0, end));
    } catch {}
    throw badRequest(`invalid json: ${error instanceof Error ? error.message : "syntax error"}`);
  }
}

/** Index behind the first complete object or list, 0 when there is none. */
function endOfFirstObject(text: string): number {
  let depth = 0;
  let inString = false;
  for (let i = 0; i < text.length; i++) {
    const char = text[i];
    if (inString) {
      if (char === "\\") i++;
      else if (char === '"') inString = false;
    } else if (char === '"') inString = true;
    else if (char === "{" || char === "[") depth++;
    else if ((char === "}" || char === "]") && --depth === 0) return i + 1;
  }
  return 0;
}
