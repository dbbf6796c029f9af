/** What the routes of this folder do, for the OpenAPI document. */
import type { Operation } from "../http/openapi.ts";

export const fileOperations: Operation[] = [
  {
    method: "get",
    path: "/sandboxes/{sandbox}/files",
    summary: "Read (path, offset, limit, max_bytes) or list (ls=true)",
  },
  { method: "head", path: "/sandboxes/{sandbox}/files", summary: "Stat" },
  { method: "put", path: "/sandboxes/{sandbox}/files", summary: "Write atomically (path, mode)" },
];
