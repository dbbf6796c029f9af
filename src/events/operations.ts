/** What the routes of this folder do, for the OpenAPI document. */
import type { Operation } from "../http/openapi.ts";

export const eventOperations: Operation[] = [
  { method: "get", path: "/events", summary: "Event log (type, sandbox, since, limit, follow)" },
  { method: "get", path: "/metrics", summary: "Prometheus; operators" },
];
