/** GET /me: whose key this is and what it may do. */
import { Hono } from "hono";
import { reply } from "../http/json.ts";
import { only } from "../http/server.ts";
import type { AppEnv } from "./app-env.ts";

export interface UserRouteDeps {
  countSandboxes(userId: string): number;
  /** Those that restore took included. */
  countSnapshots(userId: string): number;
  countSecrets(userId: string): number;
  countPublished(userId: string): number;
  /** Bytes of disk. */
  storageHeld(userId: string): number;
}

export function userRoutes(deps: UserRouteDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.get("/me", (c) => {
    const user = c.get("user");
    return reply(c, {
      id: user.id,
      name: user.name,
      admin: user.admin,
      sandboxes: deps.countSandboxes(user.id),
      max_sandboxes: user.maxSandboxes,
      max_cpus_per_sandbox: user.maxCpusPerSandbox,
      max_memory_mb_per_sandbox: user.maxMemoryMbPerSandbox,
      snapshots: deps.countSnapshots(user.id),
      max_snapshots: user.maxSnapshots,
      secrets: deps.countSecrets(user.id),
      max_secrets: user.maxSecrets,
      published: deps.countPublished(user.id),
      max_published: user.maxPublished,
      storage_mb: Math.ceil(deps.storageHeld(user.id) / 1048576),
      max_storage_mb: user.maxStorageMb,
    });
  });
  app.all("/me", only("GET"));
  return app;
}
