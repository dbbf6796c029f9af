/** What the routes of this folder do, for the OpenAPI document. */
import { z } from "zod";
import type { Operation } from "../http/openapi.ts";
import { sandbox } from "../sandboxes/operations.ts";
import {
  checkpointSchema,
  forkSchema,
  importQuery,
  restoreSchema,
  resumeSchema,
  verifyQuery,
} from "./schemas.ts";

const snapshot = z.object({
  id: z.string(),
  name: z.string(),
  source_sandbox: z.string(),
  source_name: z.string(),
  size_mb: z.int(),
  created_at: z.string(),
  kind: z.enum(["memory", "disk"]),
});

const verification = z.object({
  id: z.string(),
  name: z.string(),
  ok: z.boolean(),
  compared: z.boolean(),
  files: z.array(
    z.object({
      name: z.string(),
      size: z.int(),
      sha256: z.string().nullable(),
      damage: z.string().nullable(),
    }),
  ),
});

export const snapshotOperations: Operation[] = [
  {
    method: "post",
    path: "/sandboxes/{sandbox}/checkpoint",
    summary: "Named snapshot",
    body: checkpointSchema,
    result: snapshot,
    status: 201,
  },
  {
    method: "post",
    path: "/sandboxes/{sandbox}/fork",
    summary: "N running copies",
    body: forkSchema,
    status: 201,
  },
  {
    method: "post",
    path: "/sandboxes/{sandbox}/restore",
    summary: "Back to a snapshot, in place; the present state becomes a snapshot unless safety is false",
    body: restoreSchema,
  },
  { method: "get", path: "/snapshots", summary: "List", result: z.array(snapshot) },
  { method: "get", path: "/snapshots/{name}", summary: "Inspect", result: snapshot },
  { method: "delete", path: "/snapshots/{name}", summary: "Delete" },
  {
    method: "post",
    path: "/snapshots/{name}/resume",
    summary: "New sandbox from a snapshot",
    body: resumeSchema,
    result: sandbox,
    status: 201,
  },
  {
    method: "post",
    path: "/snapshots/{name}/verify",
    summary:
      "Read every byte and compare it with the hashes of its making; with progress JSON lines {read, of} (bytes), at last {result} or {error, code}",
    query: verifyQuery,
    result: verification,
  },
  { method: "get", path: "/snapshots/{name}/export", summary: "One compressed file" },
  {
    method: "post",
    path: "/snapshots/import",
    summary: "From an export; cold takes its disk alone, trust_state (operators) a foreign device state",
    query: importQuery,
    body: "raw",
    result: snapshot.extend({ notice: z.string().optional() }),
    status: 201,
  },
];
