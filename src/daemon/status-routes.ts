/** GET /admin/status: figures of the server, for operators. */
import { Hono } from "hono";
import type { Metrics } from "../events/metrics.ts";
import { reply } from "../http/json.ts";
import { only } from "../http/server.ts";
import type { SandboxService } from "../sandboxes/sandboxes.ts";
import type { AppEnv } from "../users/app-env.ts";
import { mustBeAdmin } from "../users/operator.ts";

export interface StatusDeps {
  metrics: Metrics;
  sandboxes: SandboxService;
  version: string;
  startedAt: number;
  countUsers(): number;
}

export function statusRoutes(deps: StatusDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.get("/admin/status", (c) => {
    mustBeAdmin(c.get("user"));
    return reply(c, status(deps));
  });
  app.all("/admin/status", only("GET"));
  return app;
}

function status(deps: StatusDeps) {
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
    sandboxes: {
      total: stats.total,
      hot: stats.hot,
      warm: stats.warm,
      cold: stats.cold,
      unresponsive: stats.unresponsive,
    },
    memory: { held_bytes: stats.memoryHeldBytes, budget_bytes: stats.memoryBudgetBytes },
    disk: { free_bytes: disk.freeBytes, total_bytes: disk.totalBytes, reserved_bytes: disk.reservedBytes },
    templates: parts.templates.list().length,
    requests: deps.metrics.counts(),
    daemon_memory_bytes: process.memoryUsage().rss,
  };
}
