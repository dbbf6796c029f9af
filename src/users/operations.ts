/** What the routes of this folder do, for the OpenAPI document. */
import type { Operation } from "../http/openapi.ts";

export const userOperations: Operation[] = [
  { method: "get", path: "/me", summary: "The key's user and limits" },
];
