/** What the server answered when it refused. Members beyond `status` and `message` are absent on older servers. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly code: string = codeOf(status),
    readonly remedy?: string,
    readonly requestId?: string,
    /** Seconds, from Retry-After. */
    readonly retryAfter?: number,
  ) {
    super(message);
    this.name = "ApiError";
  }
}

/** No answer at all: refused, reset, timed out, name unknown, TLS failure, or an answer that is not ours. */
export class TransportError extends Error {
  constructor(
    message: string,
    readonly code: "unreachable" | "timeout" | "bad_answer" | "lost",
    options?: ErrorOptions & { remedy?: string },
  ) {
    super(message, options);
    this.name = "TransportError";
    this.remedy = options?.remedy;
  }
  readonly remedy: string | undefined;
}

/** A stable code for answers that carry none (a proxy in between, an older server). */
export function codeOf(status: number): string {
  const known: Record<number, string> = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    413: "too_large",
    429: "rate_limited",
    501: "not_implemented",
    502: "unavailable",
    503: "unavailable",
    504: "timeout",
    507: "disk_full",
  };
  return known[status] ?? (status < 500 ? "bad_request" : "internal");
}

const text = (value: unknown) => (typeof value === "string" && value !== "" ? value : undefined);

/** Reads an error answer. Never throws; at most 64 KiB of the body are looked at. */
export async function readError(response: Response): Promise<ApiError> {
  let body: Record<string, unknown> = {};
  let raw = "";
  try {
    raw = new TextDecoder().decode(await readBounded(response, 64 * 1024));
    // An answer to HEAD has no body.
    if (raw === "") raw = decodeURIComponent(response.headers.get("x-bhatti-error") ?? "");
    const parsed: unknown = JSON.parse(raw);
    if (typeof parsed === "object" && parsed !== null) body = parsed as Record<string, unknown>;
  } catch {
    // Not JSON: a proxy's page, perhaps. Its first line is better than nothing.
  }
  const message =
    text(body.error) ?? text(raw.trim().split("\n", 1)[0]?.slice(0, 200)) ?? response.statusText;
  const seconds = Number(response.headers.get("retry-after") ?? Number.NaN);
  return new ApiError(
    response.status,
    message || `HTTP ${response.status}`,
    text(body.code) ?? codeOf(response.status),
    text(body.remedy),
    text(body.request_id) ?? text(response.headers.get("x-request-id")),
    Number.isFinite(seconds) && seconds >= 0 ? seconds : undefined,
  );
}

/** The body up to `limit` bytes; the rest is cancelled. */
export async function readBounded(response: Response, limit: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let size = 0;
  if (response.body) {
    for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
      parts.push(chunk);
      size += chunk.length;
      if (size >= limit) break;
    }
  }
  return Buffer.concat(parts).subarray(0, limit);
}
