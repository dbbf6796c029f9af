/** What the routes of this folder do, for the OpenAPI document. */
import { z } from "zod";
import type { Operation } from "../http/openapi.ts";
import { sandbox } from "../sandboxes/operations.ts";

const snapshot = z.object({
  id: z.string(),
  name: z.string(),
  source_sandbox: z.string(),
  size_mb: z.int(),
  created_at: z.string(),
  kind: z.enum(["memory", "disk"]),
});

export const snapshotOperations: Operation[] = [
  {
    method: "post",
    path: "/sandboxes/{sandbox}/checkpoint",
    summary: "Named snapshot",
    body: z.object({ name: z.string() }),
    result: snapshot,
    status: 201,
  },
  {
    method: "post",
    path: "/sandboxes/{sandbox}/fork",
    summary: "N running copies",
    body: z.object({ count: z.int().optional(), names: z.array(z.string()).optional() }),
    status: 201,
  },
  {
    method: "post",
    path: "/sandboxes/{sandbox}/restore",
    summary: "Back to a snapshot, in place",
    body: z.object({ snapshot: z.string() }),
  },
  { method: "get", path: "/snapshots", summary: "List", result: z.array(snapshot) },
  { method: "get", path: "/snapshots/{name}", summary: "Inspect", result: snapshot },
  { method: "delete", path: "/snapshots/{name}", summary: "Delete" },
  {
    method: "post",
    path: "/snapshots/{name}/resume",
    summary: "New sandbox from a snapshot",
    body: z.object({ name: z.string().optional() }),
    result: sandbox,
    status: 201,
  },
  { method: "get", path: "/snapshots/{name}/export", summary: "One compressed file" },
  {
    method: "post",
    path: "/snapshots/import",
    summary: "From an export (name, cold)",
    result: snapshot,
    status: 201,
  },
];
