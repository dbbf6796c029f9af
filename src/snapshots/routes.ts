/** Routes of snapshots, forks and rollback. */
import { Hono } from "hono";
import { decode, query } from "../http/decode.ts";
import { reply } from "../http/json.ts";
import { withProgress } from "../http/progress.ts";
import { only } from "../http/server.ts";
import { badRequest } from "../lib/errors.ts";
import type { AppEnv } from "../users/app-env.ts";
import {
  checkpointSchema,
  forkSchema,
  importQuery,
  restoreSchema,
  resumeSchema,
  verifyQuery,
} from "./schemas.ts";
import type { Snapshots } from "./service.ts";

export function snapshotRoutes({ snapshots }: { snapshots: Snapshots }): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.post("/sandboxes/:ref/checkpoint", async (c) => {
    const { name, label } = await decode(c, checkpointSchema);
    return reply(c, await snapshots.create(c.get("user"), c.req.param("ref"), (name ?? label)!), 201);
  });
  app.all("/sandboxes/:ref/checkpoint", only("POST"));
  app.post("/sandboxes/:ref/fork", async (c) => {
    const { count, names } = await decode(c, forkSchema, true);
    c.env?.server?.timeout(c.req.raw, 0);
    return reply(
      c,
      await snapshots.fork(c.get("user"), c.req.param("ref"), { count: count ?? names?.length ?? 1, names }),
      201,
    );
  });
  app.all("/sandboxes/:ref/fork", only("POST"));
  app.post("/sandboxes/:ref/restore", async (c) => {
    const { snapshot, safety } = await decode(c, restoreSchema);
    return reply(c, await snapshots.restore(c.get("user"), c.req.param("ref"), snapshot, { safety }));
  });
  app.all("/sandboxes/:ref/restore", only("POST"));

  app.get("/snapshots", (c) => reply(c, snapshots.list(c.get("user"))));
  app.all("/snapshots", only("GET"));
  app.post("/snapshots/import", async (c) => {
    const { name, cold = false, trust_state = false } = query(c, importQuery);
    if (!c.req.raw.body) throw badRequest("a snapshot export is expected as the body");
    c.env?.server?.timeout(c.req.raw, 0);
    const options = { cold, trustState: trust_state, signal: c.req.raw.signal };
    return reply(c, await snapshots.import(c.get("user"), name, c.req.raw.body, options), 201);
  });
  app.get("/snapshots/:name", async (c) => reply(c, await snapshots.get(c.get("user"), c.req.param("name"))));
  app.delete("/snapshots/:name", async (c) => {
    await snapshots.delete(c.get("user"), c.req.param("name"));
    return reply(c, { status: "deleted" });
  });
  app.all("/snapshots/:name", only("GET", "DELETE"));
  app.post("/snapshots/:name/resume", async (c) => {
    const { name } = await decode(c, resumeSchema);
    return reply(c, await snapshots.resume(c.get("user"), c.req.param("name"), { name }), 201);
  });
  app.all("/snapshots/:name/resume", only("POST"));
  app.post("/snapshots/:name/verify", async (c) => {
    const { progress } = query(c, verifyQuery);
    c.env?.server?.timeout(c.req.raw, 0);
    const verify = (told?: (read: number, of: number) => void, signal = c.req.raw.signal) =>
      snapshots.verify(c.get("user"), c.req.param("name"), { signal, progress: told });
    return progress ? await withProgress(c, verify) : reply(c, await verify());
  });
  app.all("/snapshots/:name/verify", only("POST"));
  app.get("/snapshots/:name/export", async (c) => {
    c.env?.server?.timeout(c.req.raw, 0);
    const body = await snapshots.export(c.get("user"), c.req.param("name"), c.req.raw.signal);
    return new Response(body, { headers: { "content-type": "application/zstd" } });
  });
  app.all("/snapshots/:name/export", only("GET"));
  return app;
}
