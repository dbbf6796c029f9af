/** Longest line of anybody that we read line by line. */
const MAX_LINE = 64 * 1024;

/** The lines of a stream. A last line without an end is left out. Throws when a line is longer than 64 Ki characters. */
export async function* lines(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of stream) {
    const parts = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = parts.pop() as string;
    if (rest.length > MAX_LINE) throw new Error("a line is too long");
    yield* parts;
  }
}
