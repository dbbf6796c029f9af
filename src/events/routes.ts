/** GET /events, /metrics. */
import { Hono } from "hono";
import { query } from "../http/decode.ts";
import { encode, reply } from "../http/json.ts";
import { only } from "../http/server.ts";
import { KeyedMutex } from "../lib/keyed-mutex.ts";
import type { AppEnv } from "../users/app-env.ts";
import { mustBeAdmin } from "../users/operator.ts";
import type { BhattiEvent, EventFilter, Events } from "./events.ts";
import type { Metrics } from "./metrics.ts";
import { eventQuery } from "./schemas.ts";

export interface EventRouteDeps {
  events: Events;
  metrics: Metrics;
  /** Id of the user's sandbox of that id or name. */
  sandboxId(userId: string, ref: string): string | undefined;
  /** Of a user who is still there. */
  userName(userId: string): string | undefined;
}

const PING_MS = 20_000;

export function eventRoutes(deps: EventRouteDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  const listing = new KeyedMutex<string>();
  app.get("/events", (c) => {
    const user = c.get("user");
    const asked = query(c, eventQuery);
    if (asked.user !== undefined && asked.user !== user.id) mustBeAdmin(user);
    const filter: EventFilter = {
      type: asked.type,
      userId: user.admin ? asked.user : user.id,
      sandboxId: asked.sandbox ? (deps.sandboxId(user.id, asked.sandbox) ?? asked.sandbox) : undefined,
      sinceId: asked.since,
      limit: asked.limit,
    };
    const names = new Map<string, string | undefined>();
    const nameOf = (id: string) => {
      if (!names.has(id)) names.set(id, deps.userName(id));
      return names.get(id);
    };
    if (!asked.follow)
      // One at a time of each owner, each in a turn of its own: between two of them the others are served.
      return listing.with(user.id, async () => {
        await new Promise((resolve) => setImmediate(resolve));
        return reply(
          c,
          deps.events.list(filter).map((event) => wire(event, nameOf(event.userId))),
        );
      });
    c.env?.server?.timeout(c.req.raw, 0);
    return follow(deps, filter, c.req.raw.signal);
  });
  app.all("/events", only("GET"));

  app.get("/metrics", async (c) => {
    mustBeAdmin(c.get("user"));
    return new Response(await deps.metrics.registry.metrics(), {
      headers: { "content-type": deps.metrics.registry.contentType },
    });
  });
  app.all("/metrics", only("GET"));
  return app;
}

const wire = (event: BhattiEvent, userName: string | undefined) => ({
  id: event.id,
  ts: event.ts,
  type: event.type,
  user_id: event.userId,
  ...(userName === undefined ? {} : { user_name: userName }),
  sandbox_id: event.sandboxId,
  meta: event.meta,
});

/** Taken only as fast as the client reads: one that lags behind is ended by the log (Events.follow), nothing is held for it. */
function follow({ events, userName }: EventRouteDeps, filter: EventFilter, signal: AbortSignal): Response {
  const encoder = new TextEncoder();
  const gone = new AbortController();
  const end = AbortSignal.any([signal, gone.signal]);
  let room: (() => void) | null = null;
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      const full = () => (controller.desiredSize ?? 0) <= 0;
      // An empty line now and then tells both sides that the other is there.
      const ping = setInterval(() => full() || controller.enqueue(encoder.encode("\n")), PING_MS);
      controller.enqueue(encoder.encode("\n"));
      end.addEventListener("abort", () => room?.());
      void (async () => {
        try {
          for await (const event of events.follow(filter, end)) {
            if (full() && !end.aborted)
              await new Promise<void>((resolve) => {
                room = resolve;
              });
            controller.enqueue(encoder.encode(encode(wire(event, userName(event.userId)))));
          }
        } catch {
        } finally {
          clearInterval(ping);
          try {
            controller.close();
          } catch {}
        }
      })();
    },
    pull() {
      room?.();
      room = null;
    },
    cancel: () => gone.abort(),
  });
  return new Response(body, { headers: { "content-type": "application/x-ndjson" } });
}
