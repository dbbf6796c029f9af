/** The HTTP pipeline: version headers, health, authentication, limits, request ids, errors, access log. docs/http-api.md */
import { type Context, Hono } from "hono";
import type { Logger } from "pino";
import { AppError } from "../lib/errors.ts";
import { hex } from "../lib/ids.ts";
import { releasing } from "../lib/releasing.ts";
import { type Caller, type HttpEnv, peerOf } from "./env.ts";
import { answer, encode, waitingBytes } from "./json.ts";
import { type Operation, openApiDocument } from "./openapi.ts";
import { RateLimiter } from "./rate-limit.ts";
import type { Kind, Place, Shares } from "./shares.ts";

export interface HttpDeps<U extends Caller> {
  version: string;
  log: Logger;
  authenticate(key: string): U | null;
  routes: Hono<HttpEnv<U>>[];
  /** What the routes do, for the OpenAPI document. */
  operations: Operation[];
  /** Errors of layers below as wire errors; null for what it does not know. */
  translate(error: unknown): AppError | null;
  shares: Shares;
  /** What a request is: a call of the API, or traffic that is passed through to a sandbox. */
  kindOf(path: string): Kind;
  onRequest(route: string, status: number, ms: number): void;
  /** A wrong key. Not told about those that the brake refused: a flood of guesses writes nothing. */
  onAuthFailure(address: string): void;
}

/** Wrong keys from one address: ten at once, then one every two seconds. */
const AUTH_FAILURES = { burst: 10, perSecond: 0.5 };
const KEY_REMEDY =
  "check the API key: bhatti setup, or BHATTI_TOKEN; over HTTP 'Authorization: Bearer <key>'. Operators make keys: bhatti user create";
/** Retry-After of a 429 that names no time: a quota, which only its owner can free. Seconds. */
const QUOTA_RETRY_S = 60;

export function createApp<U extends Caller>(deps: HttpDeps<U>): Hono<HttpEnv<U>> {
  const app = new Hono<HttpEnv<U>>({ strict: true });
  const began = Date.now();
  const guesses = new RateLimiter(AUTH_FAILURES);
  const document = encode(openApiDocument(deps.version, deps.operations));

  app.use(async (c, next) => {
    const requestId = `req_${hex(8)}`;
    c.set("requestId", requestId);
    c.set("tell", (error) => respond(deps.translate(error) ?? error, requestId, deps.log));
    const at = performance.now();
    await next();
    c.header("x-bhatti-version", deps.version);
    c.header("x-request-id", requestId);
    if (c.req.method === "HEAD" && c.res.status >= 400) await errorToHeader(c);
    const ms = performance.now() - at;
    deps.onRequest(c.req.method, c.res.status, ms);
    // Who has no key, or asks too often, writes no line each.
    if (!c.get("user") || c.res.status === 429) return;
    const sandbox = c.req.path.match(/^\/sandboxes\/([^/]+)/)?.[1];
    deps.log.info(
      {
        request: requestId,
        user: c.get("user")?.id,
        method: c.req.method,
        path: shortened(c.req.path),
        status: c.res.status,
        ms: Math.round(ms),
        sandbox: sandbox && shortened(sandbox),
      },
      "request",
    );
  });
  app.onError((error, c) => {
    // Ctrl-C during an upload is no fault of the server, and nobody reads the answer.
    if (error.name === "AbortError" && c.req.raw.signal.aborted)
      return answer({ error: "the client left before its request was complete", code: "client_gone" }, 499);
    return c.get("tell")(error);
  });
  app.all("/health", () => answer({ status: "ok", uptime: goDuration(Date.now() - began) }));
  app.get("/openapi.json", () => new Response(document, { headers: { "content-type": "application/json" } }));

  app.use(async (c, next) => {
    const key = /^bearer +(\S+) *$/i.exec(c.req.header("authorization") ?? "")?.[1];
    if (!key) throw new AppError("unauthorized", "authorization required", { remedy: KEY_REMEDY });
    const user = deps.authenticate(key);
    if (!user) {
      const address = peerOf(c);
      const wait = guesses.take(address);
      if (wait > 0)
        throw new AppError("rate_limited", "too many wrong keys from your address", {
          retryAfter: Math.ceil(wait),
          remedy: KEY_REMEDY,
        });
      deps.onAuthFailure(address);
      throw new AppError("unauthorized", "invalid api key", { remedy: KEY_REMEDY });
    }
    c.set("user", user);
    if (/%00|\0/.test(c.req.raw.url)) throw new AppError("bad_request", "the path contains NUL");
    const kind = deps.kindOf(c.req.path);
    const place = deps.shares.enter(user.id, kind);
    c.set("place", place);
    try {
      await next();
    } finally {
      leave(c, place);
    }
  });
  for (const routes of deps.routes) app.route("/", routes);
  app.notFound((c) =>
    answer(
      {
        error: `there is no ${c.req.method} ${c.req.path} here`,
        code: "not_found",
        remedy: "see /openapi.json",
      },
      404,
    ),
  );
  return app;
}

/** A caller chooses how long a path is, and how often it is written. */
const shortened = (text: string): string => (text.length > 200 ? `${text.slice(0, 200)}…` : text);

/** An answer to HEAD has no body: the error goes along in a header, as its JSON percent-encoded. */
async function errorToHeader(c: Context): Promise<void> {
  c.header("x-bhatti-error", encodeURIComponent((await c.res.clone().text()).trim()));
}

/** A request ends with the last byte of its answer. */
function leave(c: Context, place: Place): void {
  if (place.kept) return;
  const { body } = c.res;
  const bytes = waitingBytes(c.res);
  if (!body || bytes === 0) return place.release();
  if (bytes !== null && !place.takeAnswer(bytes)) {
    void body.cancel();
    place.release();
    c.res = c.get("tell")(
      new AppError("rate_limited", "answers that you have not read fill your share of the server's memory", {
        retryAfter: 1,
        remedy: "read the answers of your other requests, or ask for less",
      }),
    );
    return;
  }
  c.res = new Response(
    releasing(body, () => place.release()),
    c.res,
  );
}

/** Any error as the wire's object. What is not ours is logged with the request's id and says nothing. */
export function respond(error: unknown, requestId: string, log: Logger): Response {
  if (!(error instanceof AppError) || error.code === "internal") {
    log.error(
      { request: requestId, err: error, detail: (error as { detail?: string })?.detail },
      "request failed",
    );
    const remedy = `the server's log has the cause under ${requestId}`;
    return answer({ error: "internal error", code: "internal", remedy, request_id: requestId }, 500);
  }
  const known = error;
  if (known.status >= 500) log.warn({ request: requestId, err: error }, "request failed");
  const body = {
    error: known.message,
    code: known.code,
    ...(known.remedy ? { remedy: known.remedy } : {}),
    ...(known.status >= 500 ? { request_id: requestId } : {}),
  };
  const response = answer(body, known.status);
  const retryAfter = known.retryAfter ?? (known.status === 429 ? QUOTA_RETRY_S : undefined);
  if (retryAfter) response.headers.set("retry-after", String(Math.max(1, Math.ceil(retryAfter))));
  return response;
}

/** 405 with the methods that exist. */
export function only(...methods: string[]) {
  return () => {
    const response = answer({ error: "method not allowed", code: "method_not_allowed" }, 405);
    response.headers.set("allow", methods.join(", "));
    return response;
  };
}

/** "2h15m30s" as Go prints durations, rounded to seconds. */
export function goDuration(ms: number): string {
  const s = Math.round(ms / 1000);
  const [h, m] = [Math.floor(s / 3600), Math.floor((s % 3600) / 60)];
  return `${h > 0 ? `${h}h` : ""}${h > 0 || m > 0 ? `${m}m` : ""}${s % 60}s`;
}
