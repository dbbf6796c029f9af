/** What the routes of this folder do, for the OpenAPI document. */
import { z } from "zod";
import type { Operation } from "../http/openapi.ts";
import { setSchema } from "./schemas.ts";

const secret = z.object({ name: z.string(), created_at: z.string(), updated_at: z.string() });

export const secretOperations: Operation[] = [
  {
    method: "get",
    path: "/secrets",
    summary: "Names and times, and the sandboxes that are given each; never values",
    result: z.array(secret.extend({ used_by: z.array(z.string()) })),
  },
  {
    method: "post",
    path: "/secrets",
    summary: "Make or replace; new processes of running sandboxes have it",
    body: setSchema,
    result: secret,
    status: 201,
  },
  {
    method: "delete",
    path: "/secrets/{name}",
    summary: "Delete; sandboxes that are given it go on without it",
    result: z.object({ status: z.string(), used_by: z.array(z.string()) }),
  },
];
