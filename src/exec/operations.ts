/** What the routes of this folder do, for the OpenAPI document. */
import { z } from "zod";
import type { Operation } from "../http/openapi.ts";
import { execSchema } from "./schemas.ts";

const execResult = z.object({ exit_code: z.int(), stdout: z.string(), stderr: z.string() });

export const execOperations: Operation[] = [
  {
    method: "post",
    path: "/sandboxes/{sandbox}/exec",
    summary: "Run a command (buffered, NDJSON or detached)",
    body: execSchema,
    result: execResult,
  },
  { method: "get", path: "/sandboxes/{sandbox}/exec/stream", summary: "WebSocket: live stdin, exact bytes" },
  { method: "get", path: "/sandboxes/{sandbox}/processes", summary: "What runs in it" },
];
