/** Routes of the life of sandboxes: spec/http-api §7. */
import { Hono } from "hono";
import { decode, reply } from "../http/json.ts";
import { only } from "../http/server.ts";
import { AppError, badRequest } from "../lib/errors.ts";
import type { AppEnv } from "../users/app-env.ts";
import { createSchema, labelProblem, patchSchema, startSchema, stopSchema } from "./schemas.ts";
import type { CreateInput, Sandboxes } from "./service.ts";

export function sandboxRoutes({ sandboxes }: { sandboxes: Sandboxes }): Hono<AppEnv> {
  const app = new Hono<AppEnv>();

  app.post("/sandboxes", async (c) => {
    const body = await decode(c, createSchema);
    for (const member of [
      "template_id",
      "new_volumes",
      "volumes",
      "persistent_volumes",
      "secrets",
      "hugepages",
    ] as const) {
      const value = body[member];
      if (value && (!Array.isArray(value) || value.length > 0)) {
        throw new AppError("not_implemented", `${member} is not supported by this server yet`, {
          remedy: `leave ${member} out`,
        });
      }
    }
    if (body.memory_mb !== undefined && (body.memory_mb < 128 || body.memory_mb > 1_048_576))
      throw badRequest("memory_mb must be at least 128");
    if (body.cpus !== undefined && (body.cpus <= 0 || body.cpus > 256))
      throw badRequest("cpus must be more than 0");
    const input: CreateInput = {
      ...body,
      files: body.files?.map((file) => ({ ...file, content: Buffer.from(file.content, "base64") })),
    };
    const { sandbox, existing, timings } = await sandboxes.create(c.get("user"), input, c.req.raw.signal);
    if (existing) return reply(c, sandbox, 200, { "x-bhatti-existing": "true" });
    return reply(c, { ...sandbox, timings_ms: timings }, 201);
  });
  app.get("/sandboxes", (c) =>
    reply(c, sandboxes.list(c.get("user"), labelFilter(c.req.queries("label") ?? []))),
  );
  app.all("/sandboxes", only("GET", "POST"));

  app.get("/sandboxes/:ref", async (c) => {
    const detail = ["true", "1"].includes(c.req.query("detail") ?? "");
    const user = c.get("user");
    return reply(
      c,
      detail ? await sandboxes.inspect(user, c.req.param("ref")) : sandboxes.get(user, c.req.param("ref")),
    );
  });
  app.patch("/sandboxes/:ref", async (c) => {
    sandboxes.get(c.get("user"), c.req.param("ref"));
    const body = await decode(c, patchSchema);
    const remove = body.labels_remove ?? [];
    if (remove.length > 16) throw badRequest(`too many label keys to remove: ${remove.length} > 16`);
    for (const key of remove) {
      const problem = labelProblem(key);
      if (problem) throw badRequest(problem);
    }
    return reply(c, await sandboxes.patch(c.get("user"), c.req.param("ref"), body));
  });
  app.delete("/sandboxes/:ref", async (c) => {
    await sandboxes.destroy(c.get("user"), c.req.param("ref"));
    return reply(c, { status: "destroyed" });
  });
  app.all("/sandboxes/:ref", only("GET", "PATCH", "DELETE"));

  app.post("/sandboxes/:ref/stop", async (c) => {
    const { sync } = await decode(c, stopSchema, true).catch(() => ({ sync: false }));
    return reply(c, await sandboxes.stop(c.get("user"), c.req.param("ref"), { sync }));
  });
  app.all("/sandboxes/:ref/stop", only("POST"));
  app.post("/sandboxes/:ref/start", async (c) => {
    const { force } = await decode(c, startSchema, true).catch(() => ({ force: false }));
    return reply(c, await sandboxes.start(c.get("user"), c.req.param("ref"), { force }));
  });
  app.all("/sandboxes/:ref/start", only("POST"));
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
