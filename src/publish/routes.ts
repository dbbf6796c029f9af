/** Routes of published ports. What visitors ask comes in elsewhere: visitors.ts. */
import { type Context, Hono } from "hono";
import { decode, query } from "../http/decode.ts";
import { reply } from "../http/json.ts";
import { only } from "../http/server.ts";
import { badRequest } from "../lib/errors.ts";
import type { AppEnv } from "../users/app-env.ts";
import { listQuery, publishSchema, shareSchema } from "./schemas.ts";
import type { Publishing } from "./service.ts";

/** Of a link, seconds. */
const DEFAULT_LINK_S = 86_400;

export function publishRoutes({ publishing }: { publishing: Publishing }): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.get("/publish", (c) => reply(c, publishing.listAll(c.get("user"), query(c, listQuery).stats)));
  app.all("/publish", only("GET"));
  app.post("/sandboxes/:ref/publish", async (c) => {
    const input = await decode(c, publishSchema);
    const { rule, existing, differs } = await publishing.publish(c.get("user"), c.req.param("ref"), input);
    if (existing) c.header("x-bhatti-existing", "true");
    return reply(c, { ...rule, existing, ...(existing ? { differs } : {}) }, existing ? 200 : 201);
  });
  app.get("/sandboxes/:ref/publish", (c) =>
    reply(c, publishing.list(c.get("user"), c.req.param("ref"), query(c, listQuery).stats)),
  );
  app.all("/sandboxes/:ref/publish", only("GET", "POST"));
  app.delete("/sandboxes/:ref/publish/:port", (c) => {
    publishing.unpublish(c.get("user"), c.req.param("ref"), portOf(c));
    return c.body(null, 204);
  });
  app.all("/sandboxes/:ref/publish/:port", only("DELETE"));
  app.post("/sandboxes/:ref/publish/:port/share", async (c) => {
    const { expires_in_s } = await decode(c, shareSchema, true);
    const seconds = expires_in_s ?? DEFAULT_LINK_S;
    return reply(c, publishing.share(c.get("user"), c.req.param("ref"), portOf(c), seconds), 201);
  });
  app.delete("/sandboxes/:ref/publish/:port/share", (c) => {
    publishing.revoke(c.get("user"), c.req.param("ref"), portOf(c));
    return c.body(null, 204);
  });
  app.all("/sandboxes/:ref/publish/:port/share", only("POST", "DELETE"));
  return app;
}

function portOf(c: Context<AppEnv>): number {
  const text = c.req.param("port") ?? "";
  const port = Number(text);
  if (!/^\d{1,5}$/.test(text) || port < 1 || port > 65535) throw badRequest("invalid port in path");
  return port;
}
