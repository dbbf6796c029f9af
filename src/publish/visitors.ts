/** Requests of strangers to published ports: who is let in, who waits, who is turned away. */
import type { Logger } from "pino";
import type { Grant, Passage } from "../edge/passage.ts";
import type { Begin } from "../edge/protocol.ts";
import type { Metrics } from "../events/metrics.ts";
import { RateLimiter } from "../http/rate-limit.ts";
import { respond } from "../http/server.ts";
import type { Shares } from "../http/shares.ts";
import { AppError, notFound } from "../lib/errors.ts";
import { hex } from "../lib/ids.ts";
import type { GuestLease, Sandboxes } from "../sandboxes/service.ts";
import type { User } from "../users/user.ts";
import { basicPassword, holdsUntil, PASSWORD_S, sign } from "./access.ts";
import type { PublishRow, PublishRows } from "./rows.ts";
import type { Traffic } from "./traffic.ts";

export interface VisitorDeps {
  rows: PublishRows;
  sandboxes: Pick<Sandboxes, "lease">;
  /** Of a rule's owner. */
  userOf(id: string): User | null;
  grantOf(lease: GuestLease, name: string, port: number): Grant;
  shares: Shares;
  traffic: Traffic;
  metrics: Pick<Metrics, "published">;
  log: Logger;
  /** Multiplies the rates below; 0 = none. */
  rateFactor: number;
}

/** Of one client, over all names; of one name, over all clients. */
const CLIENT = { burst: 1000, perSecond: 200 };
const ALIAS = { burst: 4000, perSecond: 2000 };
/** Names that do not exist, of one client; passwords, of one client at one name. */
const GUESS = { burst: 30, perSecond: 0.5 };
const PASSWORD = { burst: 8, perSecond: 0.1 };
/** Passwords that are being checked: each costs 20 MB and a core for some 30 ms. */
const MAX_CHECKS = 4;
/** How long a request waits for its sandbox, ms. */
const WAKE_MS = 60_000;

export class Visitors {
  private readonly clients: RateLimiter;
  private readonly aliases: RateLimiter;
  private readonly guesses = new RateLimiter(GUESS);
  private readonly passwords = new RateLimiter(PASSWORD);
  private checks = 0;

  constructor(private readonly deps: VisitorDeps) {
    const times = ({ burst, perSecond }: typeof CLIENT) => ({
      burst: burst * deps.rateFactor,
      perSecond: perSecond * deps.rateFactor,
    });
    this.clients = new RateLimiter(times(CLIENT));
    this.aliases = new RateLimiter(times(ALIAS));
  }

  /** Decides about one request; returns the answer in place of the service's, or when the request is over. */
  async begin(begin: Begin, passage: Passage, signal: AbortSignal): Promise<Response> {
    const requestId = `req_${hex(8)}`;
    try {
      const row = this.find(begin);
      if (begin.kind === "login") return await this.login(row, begin);
      const shown = await this.admit(row, begin);
      if (shown.answer) return shown.answer;
      await this.pass(row, begin, passage, signal, requestId, shown.usedAuth);
      return new Response(null);
    } catch (error) {
      return respond(forStrangers(error), requestId, this.deps.log);
    }
  }

  /** Throws not_found, rate_limited. */
  private find({ alias = "", peer }: Begin): PublishRow {
    const client = clientKey(peer);
    if (this.deps.rateFactor > 0) limited(this.clients.take(client));
    const row = this.deps.rows.byAlias(alias);
    if (!row) {
      limited(this.guesses.take(client));
      throw notFound("nothing is published here", "ask whoever gave you the address");
    }
    const wait = this.deps.rateFactor > 0 ? this.aliases.take(row.id) : 0;
    if (wait > 0) this.deps.traffic.refused(row.id);
    limited(wait);
    return row;
  }

  /** Lets in, or says what is needed: `answer` sends a browser on with a cookie. Throws unauthorized, forbidden. */
  private async admit(row: PublishRow, begin: Begin): Promise<{ answer?: Response; usedAuth: boolean }> {
    if (row.visibility === "public") return { usedAuth: false };
    const now = Date.now();
    if (holdsUntil(row, begin.cookie, now)) return { usedAuth: false };
    const until = holdsUntil(row, begin.token, now);
    if (until) {
      if (!begin.browser) return { usedAuth: false };
      return { answer: sendOn(begin, sign(row, until), until), usedAuth: false };
    }
    if (row.visibility === "password") {
      const password = basicPassword(begin.auth);
      if (password !== null && (await this.knows(row, password, begin.peer))) return { usedAuth: true };
      throw new AppError("unauthorized", "this page asks for a password", {
        remedy: "programs send it as the password of 'Authorization: Basic'",
      });
    }
    this.deps.traffic.refused(row.id);
    throw new AppError(
      "forbidden",
      begin.token ? "this link has expired or was taken back" : "this page opens with a link that was shared",
      { remedy: "ask whoever shared it for a new link" },
    );
  }

  private async login(row: PublishRow, begin: Begin): Promise<Response> {
    if (row.visibility === "password") {
      if (!(await this.knows(row, begin.password ?? "", begin.peer)))
        throw new AppError("unauthorized", "that is not the password");
    } else if (row.visibility === "link") throw new AppError("forbidden", "this page has no password");
    const until = Date.now() + PASSWORD_S * 1000;
    return sendOn(begin, sign(row, until), until);
  }

  /** Throws rate_limited. */
  private async knows(row: PublishRow, password: string, peer: string): Promise<boolean> {
    const wait = this.passwords.take(`${row.id} ${clientKey(peer)}`);
    if (wait > 0 || this.checks >= MAX_CHECKS) {
      this.deps.traffic.refused(row.id);
      limited(Math.max(1, wait));
    }
    this.checks++;
    try {
      const right = await Bun.password.verify(password, row.password_hash);
      // Whoever knows it is not slowed down by their own requests.
      if (right) this.passwords.give(`${row.id} ${clientKey(peer)}`);
      else this.deps.traffic.refused(row.id);
      return right;
    } finally {
      this.checks--;
    }
  }

  private async pass(
    row: PublishRow,
    begin: Begin,
    passage: Passage,
    signal: AbortSignal,
    requestId: string,
    usedAuth: boolean,
  ): Promise<void> {
    const { deps } = this;
    const at = performance.now();
    const user = deps.userOf(row.user_id);
    if (!user) throw notFound("nothing is published here");
    const place = deps.shares.enter(user.id, "public");
    const port = deps.traffic.enter(row.id);
    let how = { status: 503, in: 0, out: 0 };
    let woke = false;
    let lease: GuestLease | undefined;
    try {
      const patience = AbortSignal.any([signal, AbortSignal.timeout(WAKE_MS)]);
      lease = await deps.sandboxes.lease(user, row.sandbox_id, "publish", patience);
      woke = lease.from !== "hot";
      // While it woke, the name may have become somebody else's.
      if (deps.rows.byAlias(row.alias)?.id !== row.id) throw notFound("nothing is published here");
      const grant = deps.grantOf(lease, row.alias, row.port);
      const revoked = AbortSignal.any([stranger(lease.revoked), port.cut]);
      how = await passage.grant({ ...grant, revoked, usedAuth }, { "x-request-id": requestId });
    } catch (error) {
      how.status = forStrangers(error).status;
      throw error;
    } finally {
      lease?.release();
      place.release();
      const ms = performance.now() - at;
      port.leave({ status: how.status, ms, woke, bytesIn: how.in, bytesOut: how.out });
      deps.metrics.published(row.alias, how.status, ms, woke);
      deps.log.info(
        {
          request: requestId,
          alias: row.alias,
          sandbox: row.sandbox_id,
          port: row.port,
          peer: begin.peer,
          method: begin.method,
          path: begin.path,
          status: how.status,
          ms: Math.round(ms),
          in: how.in,
          out: how.out,
          ...(woke ? { woke } : {}),
        },
        "published request",
      );
    }
  }
}

function limited(wait: number): void {
  if (wait <= 0) return;
  throw new AppError("rate_limited", "too many requests", {
    retryAfter: Math.max(1, Math.ceil(wait)),
    remedy: "wait a moment; Retry-After says how long",
  });
}

/** One IPv6 client has a network of addresses. */
function clientKey(peer: string): string {
  if (!peer.includes(":") || peer.startsWith("::ffff:")) return peer;
  const [head = "", tail] = peer.split("::");
  const groups = head.split(":").filter(Boolean);
  if (tail !== undefined) while (groups.length < 4) groups.push("0");
  return `${groups.slice(0, 4).join(":")}::/64`;
}

const SHOWN = new Set(["not_found", "rate_limited", "unauthorized", "forbidden"]);

/** Sandboxes, their owners and the server's state are nobody else's business. */
function forStrangers(error: unknown): AppError {
  if (error instanceof AppError && SHOWN.has(error.code)) {
    if (error.code !== "not_found") return error;
    return notFound("nothing is published here", "ask whoever gave you the address");
  }
  return new AppError("unavailable", "the page cannot be served now", {
    retryAfter: 2,
    remedy: "try again in a moment",
    cause: error,
  });
}

/** The reasons of a lease name what is its owner's. */
function stranger(revoked: AbortSignal): AbortSignal {
  const end = new AbortController();
  const cut = () => end.abort(forStrangers(revoked.reason));
  if (revoked.aborted) cut();
  else revoked.addEventListener("abort", cut, { once: true });
  return end.signal;
}

/** Back to where the browser was going, now with a cookie. */
function sendOn({ next = "/", https }: Begin, token: string, until: number): Response {
  // A path of ours, and nothing that leads elsewhere.
  const location = /^\/(?![/\\])[\x21-\x7e]*$/.test(next) ? next : "/";
  const seconds = Math.max(1, Math.floor((until - Date.now()) / 1000));
  const name = https ? "__Host-bhatti-access" : "bhatti-access";
  return new Response(null, {
    status: 303,
    headers: {
      location,
      "set-cookie": `${name}=${token}; Path=/; Max-Age=${seconds}; HttpOnly; SameSite=Lax${https ? "; Secure" : ""}`,
      "cache-control": "no-store",
    },
  });
}
