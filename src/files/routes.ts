/** Files of a guest. */
import { Hono } from "hono";
import { named } from "../guest/errors.ts";
import { query } from "../http/decode.ts";
import { reply } from "../http/json.ts";
import { only } from "../http/server.ts";
import { badRequest } from "../lib/errors.ts";
import { releasing } from "../lib/releasing.ts";
import { signalOf } from "../sandboxes/request-lease.ts";
import type { Sandboxes } from "../sandboxes/service.ts";
import type { AppEnv } from "../users/app-env.ts";
import { type ReadQuery, readQuery, statQuery, writeQuery } from "./schemas.ts";

const MAX_WRITE = 100 * 1024 * 1024;

export function filesRoutes({ sandboxes }: { sandboxes: Sandboxes }): Hono<AppEnv> {
  const app = new Hono<AppEnv>();

  app.on(["GET", "HEAD"], "/sandboxes/:ref/files", async (c) => {
    const head = c.req.method === "HEAD";
    const { path, ls, offset, limit, max_bytes } = query(c, head ? statQuery : readQuery) as ReadQuery;
    c.env?.server?.timeout(c.req.raw, 0);
    const lease = await sandboxes.lease(c.get("user"), c.req.param("ref"), "file", c.req.raw.signal);
    let streaming = false;
    try {
      if (head) {
        const stat = await lease.guest.stat(path);
        return new Response(null, {
          headers: {
            "x-file-size": String(stat.size),
            "x-file-mode": stat.mode,
            "x-file-isdir": String(stat.isDir),
          },
        });
      }
      if (ls) {
        const entries = await lease.guest.list(path);
        return reply(
          c,
          entries.map(({ name, size, mode, isDir, mtime }) => ({ name, size, mode, is_dir: isDir, mtime })),
        );
      }
      const file = await lease.guest.readFile(
        path,
        { lineOffset: offset, lineLimit: limit, maxBytes: max_bytes },
        signalOf(c, lease),
      );
      streaming = true;
      const headers: Record<string, string> = {
        "content-type": "application/octet-stream",
        "x-file-size": String(file.size),
      };
      if (file.length >= 0 && !max_bytes) headers["content-length"] = String(file.length);
      return new Response(releasing(file.body, lease.release), { headers });
    } catch (error) {
      throw named(error, { sandbox: c.req.param("ref"), path });
    } finally {
      if (!streaming) lease.release();
    }
  });

  app.put("/sandboxes/:ref/files", async (c) => {
    const { path, mode } = query(c, writeQuery);
    const length = c.req.header("content-length");
    if (length === undefined && c.req.header("transfer-encoding") !== undefined) {
      throw badRequest(
        "Content-Length header required for file upload",
        "send the size: curl --data-binary @file does, curl -T - does not",
      );
    }
    const size = Number(length ?? 0);
    if (!Number.isSafeInteger(size) || size < 0)
      throw badRequest("invalid Content-Length", "send the number of bytes of the body");
    c.env?.server?.timeout(c.req.raw, 0);
    const lease = await sandboxes.lease(c.get("user"), c.req.param("ref"), "file", c.req.raw.signal);
    try {
      const body = c.req.raw.body ?? new Blob([]).stream();
      await lease.guest.writeFile(
        path,
        body,
        { mode: mode ?? "0644", size, maxBytes: MAX_WRITE },
        signalOf(c, lease),
      );
      return reply(c, { status: "ok" });
    } catch (error) {
      throw named(error, { sandbox: c.req.param("ref"), path });
    } finally {
      lease.release();
    }
  });
  app.all("/sandboxes/:ref/files", only("GET", "HEAD", "PUT"));
  return app;
}
