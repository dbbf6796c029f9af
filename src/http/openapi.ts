/** The API as an OpenAPI 3.1 document, from the schemas that requests are checked against. */
import { z } from "zod";
import { createSchema, execSchema, patchSchema, startSchema, stopSchema } from "../sandboxes/schemas.ts";

const error = z.object({
  error: z.string(),
  code: z.string().optional(),
  remedy: z.string().optional(),
  request_id: z.string().optional(),
});
const sandbox = z.object({
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
});
const snapshot = z.object({
  id: z.string(),
  name: z.string(),
  source_sandbox: z.string(),
  size_mb: z.int(),
  created_at: z.string(),
  kind: z.enum(["memory", "disk"]),
});
const execResult = z.object({ exit_code: z.int(), stdout: z.string(), stderr: z.string() });

interface Line {
  method: "get" | "post" | "put" | "patch" | "delete" | "head";
  path: string;
  summary: string;
  body?: z.ZodType;
  result?: z.ZodType;
  status?: number;
}

const LINES: Line[] = [
  {
    method: "get",
    path: "/health",
    summary: "Liveness; needs no key",
    result: z.object({ status: z.string(), uptime: z.string() }),
  },
  { method: "get", path: "/me", summary: "The key's user and limits" },
  {
    method: "post",
    path: "/sandboxes",
    summary: "Create; idempotent by name",
    body: createSchema,
    result: sandbox,
    status: 201,
  },
  {
    method: "get",
    path: "/sandboxes",
    summary: "List, newest first; wakes nothing",
    result: z.array(sandbox),
  },
  { method: "get", path: "/sandboxes/{sandbox}", summary: "Inspect; wakes nothing", result: sandbox },
  {
    method: "patch",
    path: "/sandboxes/{sandbox}",
    summary: "Name, labels, keep_hot, idle times",
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
    summary: "To hot",
    body: startSchema,
    result: sandbox,
  },
  {
    method: "post",
    path: "/sandboxes/{sandbox}/exec",
    summary: "Run a command (buffered, NDJSON or detached)",
    body: execSchema,
    result: execResult,
  },
  { method: "get", path: "/sandboxes/{sandbox}/exec/stream", summary: "WebSocket: live stdin, exact bytes" },
  {
    method: "get",
    path: "/sandboxes/{sandbox}/files",
    summary: "Read (path, offset, limit, max_bytes) or list (ls=true)",
  },
  { method: "head", path: "/sandboxes/{sandbox}/files", summary: "Stat" },
  { method: "put", path: "/sandboxes/{sandbox}/files", summary: "Write atomically (path, mode)" },
  { method: "get", path: "/sandboxes/{sandbox}/ports", summary: "Listening ports" },
  {
    method: "get",
    path: "/sandboxes/{sandbox}/proxy/{port}/{path}",
    summary: "Reverse proxy into the sandbox, any method",
  },
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
  { method: "get", path: "/events", summary: "Event log (type, sandbox, since, limit, follow)" },
  { method: "get", path: "/ports", summary: "Ports of all hot sandboxes" },
  { method: "get", path: "/metrics", summary: "Prometheus; operators" },
  { method: "get", path: "/admin/status", summary: "Figures of the server; operators" },
];

export function openApiDocument(version: string): unknown {
  const json = (schema: z.ZodType) => ({
    "application/json": { schema: z.toJSONSchema(schema, { io: "input", unrepresentable: "any" }) },
  });
  const paths: Record<string, Record<string, unknown>> = {};
  for (const { method, path, summary, body, result, status = 200 } of LINES) {
    const names = [...path.matchAll(/\{(\w+)\}/g)].map((match) => match[1]!);
    paths[path] ??= {};
    paths[path][method] = {
      summary,
      security: path === "/health" ? [] : [{ key: [] }],
      parameters: names.map((name) => ({ name, in: "path", required: true, schema: { type: "string" } })),
      ...(body ? { requestBody: { content: json(body) } } : {}),
      responses: {
        [status]: { description: "success", ...(result ? { content: json(result) } : {}) },
        default: { description: "error", content: json(error) },
      },
    };
  }
  return {
    openapi: "3.1.0",
    info: { title: "bhatti", version, license: { name: "Apache-2.0", identifier: "Apache-2.0" } },
    servers: [{ url: "/" }],
    components: { securitySchemes: { key: { type: "http", scheme: "bearer" } } },
    paths,
  };
}
