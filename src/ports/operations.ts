/** What the routes of this folder do, for the OpenAPI document. */
import { z } from "zod";
import type { Operation } from "../http/openapi.ts";

export const portOperations: Operation[] = [
  { method: "get", path: "/sandboxes/{sandbox}/ports", summary: "Listening ports" },
  {
    method: "get",
    path: "/sandboxes/{sandbox}/proxy/{port}/{path}",
    summary: "Reverse proxy into the sandbox, any method",
  },
  {
    method: "get",
    path: "/ports",
    summary: "Ports of all hot sandboxes; one that did not answer is there with error and code instead",
    result: z.array(
      z.union([
        z.object({ sandbox_id: z.string(), container_port: z.int(), proxy_url: z.string() }),
        z.object({ sandbox_id: z.string(), sandbox: z.string(), error: z.string(), code: z.string() }),
      ]),
    ),
  },
];
