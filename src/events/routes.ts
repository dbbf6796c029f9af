/** GET /events, /metrics. */
import { Hono } from "hono";
import { encode, reply } from "../http/json.ts";
import { only } from "../http/server.ts";
import { badRequest } from "../lib/errors.ts";
import type { AppEnv } from "../users/app-env.ts";
import { mustBeAdmin } from "../users/operator.ts";
import type { BhattiEvent, EventFilter, Events } from "./events.ts";
import type { Metrics } from "./metrics.ts";

export interface EventRouteDeps {
  events: Events;
  metrics: Metrics;
  /** Id of the user's sandbox of that id or name. */
  sandboxId(userId: string, ref: string): string | undefined;
}

const PING_MS = 20_000;

export function eventRoutes(deps: EventRouteDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.get("/events", (c) => {
    const user = c.get("user");
    const sandbox = c.req.query("sandbox");
    const filter: EventFilter = {
      type: c.req.query("type"),
      userId: user.admin ? c.req.query("user") : user.id,
      sandboxId: sandbox ? (deps.sandboxId(user.id, sandbox) ?? sandbox) : undefined,
      sinceId: whole(c.req.query("since"), "since"),
      limit: whole(c.req.query("limit"), "limit"),
    };
    if (!["true", "1"].includes(c.req.query("follow") ?? ""))
      return reply(c, deps.events.list(filter).map(wire));
    c.env?.server?.timeout(c.req.raw, 0);
    return follow(deps.events, filter, c.req.raw.signal);
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

function whole(text: string | undefined, name: string): number | undefined {
  if (text === undefined) return undefined;
  if (!/^\d{1,15}$/.test(text)) throw badRequest(`${name} must be a whole number`);
  return Number(text);
}

const wire = (event: BhattiEvent) => ({
  id: event.id,
  ts: event.ts,
  type: event.type,
  user_id: event.userId,
  sandbox_id: event.sandboxId,
  meta: event.meta,
});

function follow(events: Events, filter: EventFilter, signal: AbortSignal): Response {
  const encoder = new TextEncoder();
  const gone = new AbortController();
  const end = AbortSignal.any([signal, gone.signal]);
  const body = new ReadableStream<Uint8Array>({
    async start(controller) {
      // An empty line now and then tells both sides that the other is there.
      const ping = setInterval(() => controller.enqueue(encoder.encode("\n")), PING_MS);
      controller.enqueue(encoder.encode("\n"));
      void (async () => {
        try {
          for await (const event of events.follow(filter, end))
            controller.enqueue(encoder.encode(encode(wire(event))));
        } catch {
        } finally {
          clearInterval(ping);
          try {
            controller.close();
          } catch {}
        }
      })();
    },
    cancel: () => gone.abort(),
  });
  return new Response(body, { headers: { "content-type": "application/x-ndjson" } });
}
