/** What runs in a sandbox. */
import { Hono } from "hono";
import { reply } from "../http/json.ts";
import { only } from "../http/server.ts";
import { signalOf } from "../sandboxes/request-lease.ts";
import type { Sandboxes } from "../sandboxes/service.ts";
import type { AppEnv } from "../users/app-env.ts";

export function processRoutes({ sandboxes }: { sandboxes: Sandboxes }): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.get("/sandboxes/:ref/processes", async (c) => {
    const ref = c.req.param("ref");
    const lease = await sandboxes.lease(c.get("user"), ref, "processes", c.req.raw.signal);
    try {
      const list = await lease.guest.processes(signalOf(c, lease));
      return reply(
        c,
        list.map(({ rssKb, ...process }) => ({ ...process, rss_kb: rssKb })),
      );
    } finally {
      lease.release();
    }
  });
  app.all("/sandboxes/:ref/processes", only("GET"));
  return app;
}
