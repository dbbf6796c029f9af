/** What the routes of this folder do, for the OpenAPI document. */
import type { Operation } from "../http/openapi.ts";
import { readQuery, statQuery, writeQuery } from "./schemas.ts";

export const fileOperations: Operation[] = [
  {
    method: "get",
    path: "/sandboxes/{sandbox}/files",
    summary: "Read, whole or a range of lines or bytes, or list a directory (ls=true)",
    query: readQuery,
  },
  { method: "head", path: "/sandboxes/{sandbox}/files", summary: "Stat", query: statQuery },
  {
    method: "put",
    path: "/sandboxes/{sandbox}/files",
    summary: "Write atomically",
    query: writeQuery,
    body: "raw",
  },
];
