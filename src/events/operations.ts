/** What the routes of this folder do, for the OpenAPI document. */
import type { Operation } from "../http/openapi.ts";
import { eventQuery } from "./schemas.ts";

export const eventOperations: Operation[] = [
  {
    method: "get",
    path: "/events",
    summary: "Event log: the newest, or from now on (follow)",
    query: eventQuery,
  },
  { method: "get", path: "/metrics", summary: "Prometheus; operators" },
];
