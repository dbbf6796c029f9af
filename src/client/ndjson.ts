/** A line longer than this is not ours; 4 MiB leaves room for base64 of the largest chunk any stream sends. */
const MAX_LINE_BYTES = 4 * 1024 * 1024;

/**
 * Objects of a newline-delimited JSON stream, as they arrive. Blank lines are skipped (keep-alives).
 * @throws Error on a line that is not a JSON object or exceeds `maxLineBytes`; the stream is cancelled then.
 */
export async function* ndjson(
  body: ReadableStream<Uint8Array>,
  maxLineBytes = MAX_LINE_BYTES,
): AsyncGenerator<Record<string, unknown>> {
  let pending: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body as unknown as AsyncIterable<Uint8Array>) {
    let from = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, from)) {
      const line =
        pending.length > 0
          ? Buffer.concat([...pending, chunk.subarray(from, end)])
          : chunk.subarray(from, end);
      pending = [];
      size = 0;
      from = end + 1;
      const value = parse(line, maxLineBytes);
      if (value) yield value;
    }
    if (from < chunk.length) {
      pending.push(chunk.subarray(from));
      size += chunk.length - from;
      if (size > maxLineBytes) throw new Error(`a line of the answer is longer than ${maxLineBytes} bytes`);
    }
  }
  const value = parse(Buffer.concat(pending), maxLineBytes);
  if (value) yield value;
}

function parse(line: Uint8Array, maxLineBytes: number): Record<string, unknown> | undefined {
  if (line.length > maxLineBytes)
    throw new Error(`a line of the answer is longer than ${maxLineBytes} bytes`);
  const text = new TextDecoder().decode(line).trim();
  if (text === "") return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Error("a line of the answer is not JSON");
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new Error("a line of the answer is not a JSON object");
  return value as Record<string, unknown>;
}
