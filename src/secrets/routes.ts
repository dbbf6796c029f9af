/** Routes of secrets. There is none that gives a value back. */
import { Hono } from "hono";
import { decode } from "../http/decode.ts";
import { reply } from "../http/json.ts";
import { only } from "../http/server.ts";
import { badRequest } from "../lib/errors.ts";
import type { AppEnv } from "../users/app-env.ts";
import { setSchema } from "./schemas.ts";
import type { Secrets } from "./service.ts";

export function secretRoutes({ secrets }: { secrets: Secrets }): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.get("/secrets", (c) => reply(c, secrets.list(c.get("user"))));
  app.post("/secrets", async (c) => {
    const { name, value, value_b64 } = await decode(c, setSchema);
    const bytes = value_b64 === undefined ? Buffer.from(value) : Buffer.from(value_b64, "base64");
    return reply(c, await secrets.set(c.get("user"), name, bytes), 201);
  });
  app.all("/secrets", only("GET", "POST"));
  app.all("/secrets/", () => {
    throw badRequest("missing secret name");
  });
  app.delete("/secrets/:name", async (c) => {
    const { used_by } = await secrets.delete(c.get("user"), c.req.param("name"));
    return reply(c, { status: "deleted", used_by });
  });
  app.all("/secrets/:name", only("DELETE"));
  return app;
}
