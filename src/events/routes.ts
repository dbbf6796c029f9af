/** GET /events, /metrics, /admin/status, /me. */
import { Hono } from "hono";
import type { AppEnv } from "../http/app-env.ts";
import { AppError, badRequest } from "../http/errors.ts";
import { encode, reply } from "../http/json.ts";
import { only } from "../http/server.ts";
import type { SandboxService } from "../sandboxes/sandboxes.ts";
import type { User } from "../users/user.ts";
import type { BhattiEvent, EventFilter, Events } from "./events.ts";
import type { Metrics } from "./metrics.ts";

export interface AdminDeps {
  events: Events;
  metrics: Metrics;
  sandboxes: SandboxService;
  version: string;
  startedAt: number;
  countUsers(): number;
}

const PING_MS = 20_000;

export function eventRoutes(deps: AdminDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.get("/events", (c) => {
    const user = c.get("user");
    const sandbox = c.req.query("sandbox");
    const filter: EventFilter = {
      type: c.req.query("type"),
      userId: user.admin ? c.req.query("user") : user.id,
      sandboxId: sandbox ? (deps.sandboxes.registry.find(user.id, sandbox)?.row.id ?? sandbox) : undefined,
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
  app.get("/admin/status", (c) => {
    mustBeAdmin(c.get("user"));
    return reply(c, status(deps));
  });
  app.all("/admin/status", only("GET"));
  app.get("/me", (c) => {
    const user = c.get("user");
    return reply(c, {
      id: user.id,
      name: user.name,
      admin: user.admin,
      sandboxes: deps.sandboxes.deps.rows.count(user.id),
      max_sandboxes: user.maxSandboxes,
      max_cpus_per_sandbox: user.maxCpusPerSandbox,
      max_memory_mb_per_sandbox: user.maxMemoryMbPerSandbox,
      max_snapshots: user.maxSnapshots,
    });
  });
  app.all("/me", only("GET"));
  return app;
}

function status(deps: AdminDeps) {
  const stats = deps.sandboxes.stats();
  const { deps: parts } = deps.sandboxes;
  const disk = parts.storage.free();
  return {
    version: deps.version,
    uptime_s: Math.round((Date.now() - deps.startedAt) / 1000),
    engine: parts.engine.name,
    accel: parts.engine.accel,
    storage: parts.storage.mode,
    users: deps.countUsers(),
    sandboxes: { total: stats.total, hot: stats.hot, warm: stats.warm, cold: stats.cold },
    memory: { held_bytes: stats.memoryHeldBytes, budget_bytes: stats.memoryBudgetBytes },
    disk: { free_bytes: disk.freeBytes, total_bytes: disk.totalBytes, reserved_bytes: disk.reservedBytes },
    templates: parts.templates.list().length,
    requests: deps.metrics.counts(),
    daemon_memory_bytes: process.memoryUsage().rss,
  };
}

function mustBeAdmin(user: User): void {
  if (!user.admin)
    throw new AppError("forbidden", "this needs an operator's key", {
      remedy: "use the key of a user that was created with --admin",
    });
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
