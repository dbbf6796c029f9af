/** One HTTP/1.1 exchange over a byte tunnel. The guest is hostile: its head is bounded and parsed strictly. */
import { AppError } from "../lib/errors.ts";

const HOP_BY_HOP = new Set([
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "proxy-connection",
]);
/** The tenant's API key is not the sandbox's business. */
const PRIVATE = new Set(["authorization", "host", "content-length", "expect"]);
const MAX_HEAD = 64 * 1024;
/** Interim answers (1xx) before the one that counts. */
const MAX_INTERIM = 16;
/** A piece of a body that is put together from chunks: bytes, and chunks in it. */
const PIECE = 64 << 10;
const MAX_PARTS = 512;

/** Request head and body as bytes; a body of unknown length goes chunked. */
export function serializeRequest(
  request: Request,
  target: string,
  port: number,
  peer: string,
): ReadableStream<Uint8Array> {
  const named = (request.headers.get("connection") ?? "").toLowerCase().split(/\s*,\s*/);
  const lines = [
    `${request.method} ${target.startsWith("/") ? target : `/${target}`} HTTP/1.1`,
    `host: localhost:${port}`,
    "connection: close",
  ];
  for (const [name, value] of request.headers) {
    if (
      !HOP_BY_HOP.has(name) &&
      !PRIVATE.has(name) &&
      !named.includes(name) &&
      !name.startsWith("x-forwarded-")
    )
      lines.push(`${name}: ${value}`);
  }
  const before = request.headers.get("x-forwarded-for");
  lines.push(
    `x-forwarded-for: ${before ? `${before}, ` : ""}${peer}`,
    "x-forwarded-proto: http",
    `x-forwarded-host: ${request.headers.get("host") ?? ""}`,
  );
  const length = request.headers.get("content-length");
  const chunked = request.body !== null && length === null;
  if (chunked) lines.push("transfer-encoding: chunked");
  else if (length !== null) lines.push(`content-length: ${length}`);
  const encoder = new TextEncoder();
  // Headers come as one character a byte, and go on as the bytes that they were.
  const head = new Uint8Array(Buffer.from(`${lines.join("\r\n")}\r\n\r\n`, "latin1"));
  const reader = request.body?.getReader();
  return new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(head),
    async pull(controller) {
      const { value, done } = reader ? await reader.read() : { value: undefined, done: true };
      if (value && value.length > 0) {
        if (chunked) controller.enqueue(encoder.encode(`${value.length.toString(16)}\r\n`));
        controller.enqueue(value as Uint8Array);
        if (chunked) controller.enqueue(encoder.encode("\r\n"));
      }
      if (!done) return;
      if (chunked) controller.enqueue(encoder.encode("0\r\n\r\n"));
      controller.close();
    },
  });
}

/** Status, end-to-end headers and the decoded body. 1xx answers are skipped. Throws AppError (502). */
export async function parseResponse(stream: ReadableStream<Uint8Array>, noBody: boolean) {
  const source = new Source(stream.getReader() as ReadableStreamDefaultReader<Uint8Array>);
  for (let interim = 0; interim <= MAX_INTERIM; interim++) {
    const head = await source.head();
    const [first, ...rest] = head.split("\r\n");
    const status = Number(first?.match(/^HTTP\/1\.[01] (\d{3})(?: |$)/)?.[1]);
    if (!(status >= 100 && status <= 599)) throw bad();
    if (status < 200 && status !== 101) continue;
    if (status === 101) throw bad();
    const headers = new Headers();
    const named = rest
      .filter((line) => /^connection:/i.test(line))
      .flatMap((line) =>
        line
          .slice(11)
          .toLowerCase()
          .trim()
          .split(/\s*,\s*/),
      );
    let length: number | null = null;
    let chunked = false;
    for (const line of rest) {
      const at = line.indexOf(":");
      if (at <= 0) throw bad();
      const name = line.slice(0, at).trim().toLowerCase();
      const value = line.slice(at + 1).trim();
      if (name === "content-length") {
        // Two lengths, two readings: whoever stands in front of us might take the other one.
        if (!/^\d{1,15}$/.test(value) || (length !== null && length !== Number(value))) throw bad();
        if (length !== null) continue;
        length = Number(value);
      }
      if (name === "transfer-encoding") {
        if (!/^chunked$/i.test(value)) throw bad();
        chunked = true;
      }
      if (HOP_BY_HOP.has(name) || (named.includes(name) && name !== "content-length")) continue;
      try {
        headers.append(name, value);
      } catch {
        throw bad();
      }
    }
    const empty = noBody || status === 204 || status === 304;
    if (chunked) headers.delete("content-length");
    return { status, headers, body: empty ? null : source.body(chunked, length) };
  }
  throw bad();
}

const bad = () =>
  new AppError("unavailable", "bad gateway: the service did not answer with HTTP", { status: 502 });

class Source {
  private buffer: Buffer = Buffer.alloc(0);
  private ended = false;

  constructor(private readonly reader: ReadableStreamDefaultReader<Uint8Array>) {}

  async head(): Promise<string> {
    for (;;) {
      const at = this.buffer.indexOf("\r\n\r\n");
      if (at > MAX_HEAD) throw bad();
      if (at >= 0) {
        const head = this.buffer.toString("latin1", 0, at);
        this.buffer = this.buffer.subarray(at + 4);
        return head;
      }
      if (this.buffer.length > MAX_HEAD || !(await this.more())) throw bad();
    }
  }

  body(chunked: boolean, length: number | null): ReadableStream<Uint8Array> {
    let left = length;
    return new ReadableStream<Uint8Array>({
      pull: async (controller) => {
        const bytes = chunked ? await this.chunk() : await this.plain(left);
        if (!bytes) {
          controller.close();
          await this.reader.cancel().catch(() => {});
          return;
        }
        if (left !== null) left -= bytes.length;
        controller.enqueue(bytes);
      },
      cancel: (reason) => this.reader.cancel(reason),
    });
  }

  private async plain(left: number | null): Promise<Uint8Array | null> {
    if (left === 0) return null;
    if (this.buffer.length === 0 && !(await this.more())) {
      if (left !== null) throw bad();
      return null;
    }
    const bytes = left === null ? this.buffer : this.buffer.subarray(0, left);
    this.buffer = this.buffer.subarray(bytes.length);
    return new Uint8Array(bytes);
  }

  private chunkLeft = 0;
  /** The data of a chunk was taken, its line end not yet. */
  private closing = false;
  private last = false;

  /**
   * What has arrived of the body, as one piece; null at its end. A service that sends each byte as a chunk must not cost a turn
   * of every stream up to the client for each: they are put together, and others run in between.
   */
  private async chunk(): Promise<Uint8Array | null> {
    const parts: Uint8Array[] = [];
    for (let size = 0; !this.last && parts.length < MAX_PARTS && size < PIECE; ) {
      const part = await this.part(parts.length > 0);
      if (!part) break;
      parts.push(part);
      size += part.length;
    }
    if (parts.length >= MAX_PARTS) await new Promise((resolve) => setImmediate(resolve));
    return parts.length === 0 ? null : new Uint8Array(Buffer.concat(parts));
  }

  /** The next bytes; null at the body's end, or when none are here (`onlyHere`). */
  private async part(onlyHere: boolean): Promise<Uint8Array | null> {
    const waits = () => onlyHere && this.buffer.indexOf("\r\n") < 0;
    if (this.closing) {
      if (waits()) return null;
      if ((await this.line()) !== "") throw bad();
      this.closing = false;
    }
    if (this.chunkLeft === 0) {
      if (waits()) return null;
      const size = Number.parseInt((await this.line()).match(/^([0-9a-f]{1,10})\s*(?:;|$)/i)?.[1] ?? "", 16);
      if (!(size >= 0 && size <= 2 ** 40)) throw bad();
      if (size === 0) {
        this.last = true;
        return null;
      }
      this.chunkLeft = size;
    }
    if (onlyHere && this.buffer.length === 0) return null;
    if (this.buffer.length === 0 && !(await this.more())) throw bad();
    const bytes = this.buffer.subarray(0, this.chunkLeft);
    this.buffer = this.buffer.subarray(bytes.length);
    this.chunkLeft -= bytes.length;
    this.closing = this.chunkLeft === 0;
    return bytes;
  }

  private async line(): Promise<string> {
    for (;;) {
      const at = this.buffer.indexOf("\r\n");
      if (at >= 0) {
        const line = this.buffer.toString("latin1", 0, at);
        this.buffer = this.buffer.subarray(at + 2);
        return line;
      }
      if (this.buffer.length > 1024 || !(await this.more())) throw bad();
    }
  }

  private async more(): Promise<boolean> {
    if (this.ended) return false;
    const { value, done } = await this.reader.read();
    this.ended = done;
    if (value) this.buffer = Buffer.concat([this.buffer, value]);
    return !done;
  }
}
