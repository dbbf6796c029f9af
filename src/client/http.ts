import { ApiError, readError, TransportError } from "./error.ts";
import { ndjson } from "./ndjson.ts";
import { Patience } from "./patience.ts";

export interface HttpOptions {
  /** Base address, with or without a trailing slash. */
  url: string;
  token?: string;
  /** Ends every request of this client. */
  signal?: AbortSignal;
  userAgent?: string;
  /** Told about every answer: milliseconds until its headers were there. */
  onAnswer?(method: string, path: string, status: number, ms: number): void;
  /** Told once about a request that waits for the server's limits since two seconds. */
  onWait?(error: ApiError): void;
}

export interface RequestOptions {
  query?: Record<string, string | number | boolean | string[] | undefined>;
  /** Sent as JSON. */
  json?: unknown;
  /** A function makes it anew each time the request is sent; a stream can be sent once. */
  body?: Body | (() => Body);
  headers?: Record<string, string>;
  /** Until the headers of the answer, ms. Default 60 000; 0 = no limit. The body is not limited. */
  timeoutMs?: number;
  signal?: AbortSignal;
}

export type Body = Blob | ReadableStream<Uint8Array> | Uint8Array<ArrayBuffer>;

/** One server, one key. Names in paths go through `path`, which encodes them. */
export class Http {
  readonly base: string;
  private readonly direct: boolean;

  constructor(readonly options: HttpOptions) {
    this.base = options.url.replace(/\/+$/, "");
    this.direct = bypassProxy(this.base);
  }

  /**
   * Sends one request and returns its answer, whose status is below 300.
   * A refusal by the server's limits is waited for as it asks, unless the body was a stream that is gone: the remedy says so.
   * @throws ApiError for any other answer, TransportError when there was none.
   */
  async request(method: string, path: string, options: RequestOptions = {}): Promise<Response> {
    const patience = this.patience();
    for (;;) {
      try {
        return await this.once(method, path, options);
      } catch (error) {
        if (options.body instanceof ReadableStream) throw onlyOnce(error);
        await patience.orThrow(error);
      }
    }
  }

  /** For one request, however often it is sent. */
  patience(): Patience {
    return new Patience(this.options.onWait, this.options.signal);
  }

  /** `request`, then the body as JSON. */
  async json<T>(method: string, path: string, options: RequestOptions = {}): Promise<T> {
    const response = await this.request(method, path, options);
    try {
      return (await response.json()) as T;
    } catch (cause) {
      this.options.signal?.throwIfAborted();
      throw new TransportError(
        `${this.base} did not answer with JSON; is it a bhatti server?`,
        "bad_answer",
        {
          cause,
        },
      );
    }
  }

  /** `request` to a route that answers with lines of progress; its result, or the error it ended with. */
  async progress<T>(
    method: string,
    path: string,
    told: (read: number, of: number) => void,
    options: RequestOptions = {},
  ): Promise<T> {
    const response = await this.request(method, path, {
      ...options,
      query: { ...options.query, progress: true },
    });
    try {
      for await (const line of response.body ? ndjson(response.body) : []) {
        if ("error" in line) throw await readError(Response.json(line, { status: 500 }));
        if ("result" in line) return line.result as T;
        told(Number(line.read), Number(line.of));
      }
    } catch (cause) {
      this.options.signal?.throwIfAborted();
      if (cause instanceof ApiError) throw cause;
      throw new TransportError(`the connection to ${this.base} was lost`, "lost", { cause });
    }
    throw new TransportError(`${this.base} ended its answer early`, "lost");
  }

  private async once(method: string, path: string, options: RequestOptions): Promise<Response> {
    const headers: Record<string, string> = {
      "user-agent": this.options.userAgent ?? "bhatti",
      ...options.headers,
    };
    if (this.options.token) headers.authorization = `Bearer ${this.options.token}`;
    if (options.json !== undefined) headers["content-type"] = "application/json";
    const timer = new AbortController();
    const timeoutMs = options.timeoutMs ?? 60_000;
    const alarm = timeoutMs > 0 ? setTimeout(() => timer.abort(), timeoutMs) : undefined;
    const signals = [timer.signal, this.options.signal, options.signal].filter((s) => s !== undefined);
    const body = typeof options.body === "function" ? options.body() : options.body;
    const started = performance.now();
    let response: Response;
    try {
      response = await fetch(this.base + path + queryString(options.query), {
        method,
        headers,
        body: options.json !== undefined ? JSON.stringify(options.json) : (body ?? null),
        redirect: "manual",
        keepalive: false,
        signal: signals.length === 1 ? timer.signal : AbortSignal.any(signals),
        // Bun's own five minutes would cut long execs and streams.
        ...{ timeout: false },
      });
    } catch (cause) {
      this.options.signal?.throwIfAborted();
      options.signal?.throwIfAborted();
      if (timer.signal.aborted)
        throw new TransportError(`no answer from ${this.base} within ${timeoutMs / 1000} s`, "timeout", {
          cause,
        });
      const aside = this.direct ? " (without the proxy, which would see the key: use https://)" : "";
      throw new TransportError(`cannot reach ${this.base}: ${reason(cause)}${aside}`, "unreachable", {
        cause,
        remedy: "is the daemon running there (bhatti doctor)? Another address: bhatti setup, or BHATTI_URL",
      });
    } finally {
      clearTimeout(alarm);
    }
    this.options.onAnswer?.(method, path, response.status, performance.now() - started);
    if (response.status >= 400) throw await readError(response);
    if (response.status >= 300)
      throw new TransportError(
        `${this.base} redirects to ${response.headers.get("location") ?? "somewhere else"}; use that address`,
        "bad_answer",
      );
    return response;
  }
}

/** A path from a template: every value is percent-encoded as one segment. */
export function path(strings: TemplateStringsArray, ...values: (string | number)[]): string {
  return strings.reduce(
    (all, part, i) => all + part + (i < values.length ? segment(String(values[i])) : ""),
    "",
  );
}

/** "." and ".." survive encodeURIComponent and would be resolved away, turning one resource into another. */
function segment(value: string): string {
  if (value === "" || value === "." || value === "..") throw new ApiError(400, `invalid name "${value}"`);
  return encodeURIComponent(value);
}

function queryString(query: RequestOptions["query"]): string {
  const search = new URLSearchParams();
  for (const [key, value] of Object.entries(query ?? {})) {
    if (value === undefined) continue;
    for (const one of Array.isArray(value) ? value : [value]) search.append(key, String(one));
  }
  const text = search.toString();
  return text === "" ? "" : `?${text}`;
}

/** A refusal that would have been waited for. */
function onlyOnce(error: unknown): unknown {
  if (!(error instanceof ApiError) || error.code !== "rate_limited") return error;
  const { status, message, code, requestId, retryAfter } = error;
  const when = retryAfter ? `in ${retryAfter} s` : "in a moment";
  const remedy = `what was read from a pipe cannot be sent again: run it again ${when}, or name a regular file, which is sent again by itself`;
  return new ApiError(status, message, code, remedy, requestId, retryAfter);
}

function reason(cause: unknown): string {
  const code = (cause as { code?: unknown }).code;
  const known: Record<string, string> = {
    ECONNREFUSED: "connection refused",
    ConnectionRefused: "connection refused",
    ECONNRESET: "connection closed by the server",
    ConnectionClosed: "connection closed by the server",
    ENOTFOUND: "unknown host name",
    FailedToOpenSocket: "cannot connect",
  };
  if (typeof code === "string" && known[code]) return known[code];
  const message = cause instanceof Error ? cause.message : String(cause);
  return typeof code === "string" && !message.includes(code) ? `${message} (${code})` : message;
}

/**
 * Proxies are for https:// alone: through any other request the proxy would read the key. Loopback addresses are never
 * asked through one (Go's and curl's habit); Bun would. @returns whether a proxy is set and left aside.
 */
function bypassProxy(base: string): boolean {
  const { HTTP_PROXY, http_proxy, HTTPS_PROXY, https_proxy } = process.env;
  if (!HTTP_PROXY && !http_proxy && !HTTPS_PROXY && !https_proxy) return false;
  const { hostname: host, protocol } = URL.canParse(base) ? new URL(base) : { hostname: "", protocol: "" };
  const loopback = host === "localhost" || host === "[::1]" || host.startsWith("127.");
  if (!loopback && protocol !== "http:") return false;
  const list = [process.env.NO_PROXY ?? process.env.no_proxy, host].filter(Boolean).join(",");
  process.env.NO_PROXY = list;
  process.env.no_proxy = list;
  return !loopback;
}
