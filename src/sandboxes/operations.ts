/** What the routes of this folder do, for the OpenAPI document. */
import { z } from "zod";
import type { Operation } from "../http/openapi.ts";
import {
  consoleQuery,
  createHeaders,
  createSchema,
  getQuery,
  listQuery,
  patchSchema,
  restartSchema,
  startSchema,
  stopSchema,
} from "./schemas.ts";

/** The wire object of a sandbox. */
export const sandbox = z.object({
  id: z.string(),
  name: z.string(),
  status: z.enum(["running", "stopped", "unknown"]),
  thermal: z.enum(["hot", "warm", "cold"]),
  reason: z.string(),
  ip: z.string(),
  image: z.string(),
  cpus: z.number(),
  memory_mb: z.int(),
  disk_size_mb: z.int(),
  keep_hot: z.boolean(),
  durable: z.boolean(),
  created_at: z.string(),
  labels: z.record(z.string(), z.string()).optional(),
  last_error: z.string().optional(),
  last_end: z.object({ reason: z.string(), why: z.string(), at: z.string() }).optional(),
  unresponsive: z.object({ since: z.string(), why: z.string(), remedy: z.string() }).optional(),
  on_unresponsive: z.enum(["none", "restart"]),
  init: z
    .object({
      status: z.enum(["running", "exited", "failed"]),
      exit_code: z.int().optional(),
      signal: z.string().optional(),
      error: z.string().optional(),
      log: z.string().optional(),
      started_at: z.string().optional(),
      ended_at: z.string().optional(),
    })
    .optional(),
  secrets: z
    .array(
      z.object({
        name: z.string(),
        env: z.string().optional(),
        path: z.string().optional(),
        mode: z.string().optional(),
        owner: z.string().optional(),
      }),
    )
    .optional(),
  secret_problems: z.array(z.string()).optional(),
});

export const sandboxOperations: Operation[] = [
  {
    method: "post",
    path: "/sandboxes",
    summary: "Create; idempotent by name (200, `existing`, `differs`) and by Idempotency-Key",
    headers: createHeaders,
    body: createSchema,
    result: sandbox,
    status: 201,
  },
  {
    method: "get",
    path: "/sandboxes",
    summary: "List, newest first; wakes nothing. label=key=value, repeated: all must match",
    query: listQuery,
    result: z.array(sandbox),
  },
  {
    method: "get",
    path: "/sandboxes/{sandbox}",
    summary: "Inspect; wakes nothing. detail adds figures of the host",
    query: getQuery,
    result: sandbox,
  },
  {
    method: "patch",
    path: "/sandboxes/{sandbox}",
    summary: "Name, labels, keep_hot, idle times, secrets",
    body: patchSchema,
    result: sandbox,
  },
  { method: "delete", path: "/sandboxes/{sandbox}", summary: "Destroy" },
  {
    method: "post",
    path: "/sandboxes/{sandbox}/stop",
    summary: "To cold: memory and disk are kept",
    body: stopSchema,
    result: sandbox,
  },
  {
    method: "post",
    path: "/sandboxes/{sandbox}/start",
    summary: "To hot; already_running when it was",
    body: startSchema,
    result: sandbox.extend({ already_running: z.boolean().optional() }),
  },
  {
    method: "post",
    path: "/sandboxes/{sandbox}/restart",
    summary: "Shut down and boot from the disk, in any state; force: without asking the guest",
    body: restartSchema,
    result: sandbox,
  },
  {
    method: "get",
    path: "/sandboxes/{sandbox}/console",
    query: consoleQuery,
    summary:
      "Text of the guest's console since its last boot (previous=true: the boot before); wakes nothing",
  },
];
