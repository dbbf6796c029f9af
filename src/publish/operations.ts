/** What the routes of this folder do, for the OpenAPI document. */
import { z } from "zod";
import type { Operation } from "../http/openapi.ts";
import { listQuery, publishSchema, shareSchema } from "./schemas.ts";

const rule = z.object({
  id: z.string(),
  sandbox_id: z.string(),
  user_id: z.string(),
  port: z.int(),
  alias: z.string(),
  created_at: z.string(),
  url: z.string(),
  local_url: z.string().optional(),
  sandbox: z.string(),
  visibility: z.enum(["public", "password", "link"]),
  stats: z
    .object({
      requests: z.int(),
      errors: z.int(),
      refused: z.int(),
      wakes: z.int(),
      open: z.int(),
      bytes_in: z.int(),
      bytes_out: z.int(),
      p50_ms: z.number().nullable(),
      p95_ms: z.number().nullable(),
    })
    .optional(),
});

export const publishOperations: Operation[] = [
  {
    method: "get",
    path: "/publish",
    summary: "Published ports of all your sandboxes",
    query: listQuery,
    result: z.array(rule),
  },
  {
    method: "post",
    path: "/sandboxes/{sandbox}/publish",
    summary:
      "Give a port a URL. One that has one keeps it (200, existing, differs), and takes on a visibility that is given",
    body: publishSchema,
    result: rule.extend({ existing: z.boolean(), differs: z.array(z.string()).optional() }),
    status: 201,
  },
  {
    method: "get",
    path: "/sandboxes/{sandbox}/publish",
    summary: "Published ports",
    query: listQuery,
    result: z.array(rule),
  },
  {
    method: "delete",
    path: "/sandboxes/{sandbox}/publish/{port}",
    summary: "Take the URL back; what runs through it is cut",
    status: 204,
  },
  {
    method: "post",
    path: "/sandboxes/{sandbox}/publish/{port}/share",
    summary: "A link that lets its holder in until it expires (default a day)",
    body: shareSchema,
    result: z.object({ url: z.string(), expires_at: z.string() }),
    status: 201,
  },
  {
    method: "delete",
    path: "/sandboxes/{sandbox}/publish/{port}/share",
    summary: "End all links, and let everybody who was let in ask again",
    status: 204,
  },
];
