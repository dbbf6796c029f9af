/** Routes of the life of sandboxes. */
import { Hono } from "hono";
import { check, decode, query } from "../http/decode.ts";
import { reply } from "../http/json.ts";
import { only } from "../http/server.ts";
import { AppError, badRequest } from "../lib/errors.ts";
import type { AppEnv } from "../users/app-env.ts";
import {
  consoleQuery,
  createHeaders,
  createSchema,
  getQuery,
  LATER,
  listQuery,
  patchSchema,
  restartSchema,
  startSchema,
  stopSchema,
} from "./schemas.ts";
import type { CreateInput, Sandboxes } from "./service.ts";

export function sandboxRoutes({ sandboxes }: { sandboxes: Sandboxes }): Hono<AppEnv> {
  const app = new Hono<AppEnv>();

  app.post("/sandboxes", async (c) => {
    const body = await decode(c, createSchema);
    for (const member of LATER) {
      const value = body[member];
      if (value && (!Array.isArray(value) || value.length > 0)) {
        throw new AppError("not_implemented", `${member} is not supported by this server yet`, {
          remedy: `leave ${member} out`,
        });
      }
    }
    const idempotencyKey = check(createHeaders, { "idempotency-key": c.req.header("idempotency-key") })[
      "idempotency-key"
    ];
    const input: CreateInput = {
      ...body,
      files: body.files?.map((file) => ({ ...file, content: Buffer.from(file.content, "base64") })),
    };
    const user = c.get("user");
    const made = await sandboxes.create(user, input, { signal: c.req.raw.signal, idempotencyKey });
    const { sandbox, existing, differs, timings } = made;
    if (existing) return reply(c, { ...sandbox, existing, differs }, 200, { "x-bhatti-existing": "true" });
    return reply(c, { ...sandbox, timings_ms: timings }, 201);
  });
  app.get("/sandboxes", (c) =>
    reply(c, sandboxes.list(c.get("user"), labelFilter(query(c, listQuery).label ?? []))),
  );
  app.all("/sandboxes", only("GET", "POST"));

  app.get("/sandboxes/:ref", async (c) => {
    const { detail } = query(c, getQuery);
    const user = c.get("user");
    return reply(
      c,
      detail ? await sandboxes.inspect(user, c.req.param("ref")) : sandboxes.get(user, c.req.param("ref")),
    );
  });
  app.patch("/sandboxes/:ref", async (c) => {
    sandboxes.get(c.get("user"), c.req.param("ref"));
    const body = await decode(c, patchSchema);
    return reply(c, await sandboxes.patch(c.get("user"), c.req.param("ref"), body));
  });
  app.delete("/sandboxes/:ref", async (c) => {
    await sandboxes.destroy(c.get("user"), c.req.param("ref"));
    return reply(c, { status: "destroyed" });
  });
  app.all("/sandboxes/:ref", only("GET", "PATCH", "DELETE"));

  app.post("/sandboxes/:ref/stop", async (c) => {
    const { sync } = await decode(c, stopSchema, true);
    return reply(c, await sandboxes.stop(c.get("user"), c.req.param("ref"), { sync }));
  });
  app.all("/sandboxes/:ref/stop", only("POST"));
  app.post("/sandboxes/:ref/start", async (c) => {
    const { force } = await decode(c, startSchema, true);
    const { already, ...sandbox } = await sandboxes.start(c.get("user"), c.req.param("ref"), { force });
    return reply(c, { ...sandbox, ...(already ? { already_running: true } : {}) });
  });
  app.all("/sandboxes/:ref/start", only("POST"));
  app.post("/sandboxes/:ref/restart", async (c) => {
    const { force } = await decode(c, restartSchema, true);
    return reply(c, await sandboxes.restart(c.get("user"), c.req.param("ref"), { force }));
  });
  app.all("/sandboxes/:ref/restart", only("POST"));
  app.get("/sandboxes/:ref/console", async (c) => {
    const { previous } = query(c, consoleQuery);
    const text = await sandboxes.console(c.get("user"), c.req.param("ref"), { previous });
    return new Response(text, {
      headers: { "content-type": "text/plain; charset=utf-8", "x-content-type-options": "nosniff" },
    });
  });
  app.all("/sandboxes/:ref/console", only("GET"));
  return app;
}

function labelFilter(filters: string[]): Record<string, string> {
  const labels: Record<string, string> = {};
  for (const raw of filters) {
    const at = raw.indexOf("=");
    if (at < 0) throw badRequest(`invalid label filter "${raw}": must be key=value`);
    const key = raw.slice(0, at);
    if (key === "") throw badRequest(`invalid label filter "${raw}": empty key`);
    if (key.startsWith("bhatti.sh/"))
      throw badRequest(`label key "${key}" uses reserved prefix "bhatti.sh/"`);
    labels[key] = raw.slice(at + 1);
  }
  return labels;
}
