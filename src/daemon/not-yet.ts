/** Routes of bhatti v1 that this server does not have yet: 501 with a text, never a bare 404. */
import { Hono } from "hono";
import { AppError } from "../lib/errors.ts";
import type { AppEnv } from "../users/app-env.ts";

const WAIT = "not part of this version; see 'Not there yet' in the README";

/** Path patterns and what they are for, with what to do instead. */
export const NOT_YET: [paths: string[], what: string, remedy: string][] = [
  [
    ["/sandboxes/:ref/ws", "/sandboxes/:ref/sessions"],
    "terminal sessions",
    "bhatti exec <sandbox> -- <command> runs commands, with stdin",
  ],
  [
    ["/sandboxes/:ref/exec/ws"],
    "piped sessions",
    "GET /sandboxes/{sandbox}/exec/stream has live stdin and exact output",
  ],
  [["/sandboxes/:ref/shell-token", "/_shell/*"], "the web shell", WAIT],
  [
    ["/sandboxes/:ref/save-image"],
    "images from sandboxes",
    "POST /sandboxes/{sandbox}/checkpoint keeps a machine as a snapshot",
  ],
  [
    ["/templates", "/templates/*"],
    "templates of users",
    "POST /sandboxes takes image, cpus, memory_mb, env and init",
  ],
  [
    ["/volumes", "/volumes/*"],
    "volumes and backups",
    "a sandbox's disk is kept until it is destroyed; snapshots copy it",
  ],
  [["/images", "/images/*"], "images of users", "the server's operator builds images: bhatti host image"],
  [["/tasks", "/tasks/*"], "tasks", WAIT],
];

export function notYetRoutes(): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  for (const [paths, what, remedy] of NOT_YET) {
    for (const path of paths) {
      app.all(path, () => {
        throw new AppError("not_implemented", `this server has no ${what} yet`, { remedy });
      });
    }
  }
  return app;
}
