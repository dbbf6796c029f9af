/** What the routes of this folder do, for the OpenAPI document. */
import type { Operation } from "../http/openapi.ts";
import { readQuery, statQuery, writeQuery } from "./schemas.ts";

export const fileOperations: Operation[] = [
  {
    method: "get",
    path: "/sandboxes/{sandbox}/files",
    summary: "Read, whole or a range of lines or bytes; list a directory (ls=true); stat (stat=true)",
    query: readQuery,
  },
  { method: "head", path: "/sandboxes/{sandbox}/files", summary: "Stat", query: statQuery },
  {
    method: "put",
    path: "/sandboxes/{sandbox}/files",
    summary: "Write: what exists keeps mode, owner and attributes; through links; regular files alone",
    query: writeQuery,
    body: "raw",
  },
];
