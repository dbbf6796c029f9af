/** What the routes of this folder do, for the OpenAPI document. */
import type { Operation } from "../http/openapi.ts";

export const portOperations: Operation[] = [
  { method: "get", path: "/sandboxes/{sandbox}/ports", summary: "Listening ports" },
  {
    method: "get",
    path: "/sandboxes/{sandbox}/proxy/{port}/{path}",
    summary: "Reverse proxy into the sandbox, any method",
  },
  { method: "get", path: "/ports", summary: "Ports of all hot sandboxes" },
];
