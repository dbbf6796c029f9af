/** Files of a guest. */
import { Hono } from "hono";
import { named } from "../guest/errors.ts";
import { query } from "../http/decode.ts";
import { reply } from "../http/json.ts";
import { only } from "../http/server.ts";
import { begun } from "../lib/begun.ts";
import { badRequest } from "../lib/errors.ts";
import { releasing } from "../lib/releasing.ts";
import { signalOf } from "../sandboxes/request-lease.ts";
import type { Sandboxes } from "../sandboxes/service.ts";
import type { AppEnv } from "../users/app-env.ts";
import { entryView } from "./entry.ts";
import { listingBody } from "./listing.ts";
import { type ReadQuery, readQuery, statQuery, writeQuery } from "./schemas.ts";

export function filesRoutes({ sandboxes }: { sandboxes: Sandboxes }): Hono<AppEnv> {
  const app = new Hono<AppEnv>();

  app.on(["GET", "HEAD"], "/sandboxes/:ref/files", async (c) => {
    const head = c.req.method === "HEAD";
    const { path, ls, stat, offset, limit, max_bytes } = query(c, head ? statQuery : readQuery) as ReadQuery;
    c.env?.server?.timeout(c.req.raw, 0);
    const lease = await sandboxes.lease(c.get("user"), c.req.param("ref"), "file", c.req.raw.signal);
    let streaming = false;
    try {
      if (head || stat) {
        const entry = await lease.guest.stat(path);
        if (!head) return reply(c, entryView(entry));
        return new Response(null, {
          headers: {
            "x-file-size": String(entry.size),
            "x-file-mode": entry.mode,
            "x-file-isdir": String(entry.isDir),
            "x-file-kind": entry.kind,
            "x-file-mtime": String(entry.mtime),
          },
        });
      }
      if (ls) {
        const body = await begun(listingBody(await lease.guest.list(path, { limit }, signalOf(c, lease))));
        streaming = true;
        return new Response(releasing(body, lease.release), {
          headers: { "content-type": "application/json" },
        });
      }
      const file = await lease.guest.readFile(
        path,
        { lineOffset: offset, lineLimit: limit, maxBytes: max_bytes },
        signalOf(c, lease),
      );
      const body = await begun(file.body);
      streaming = true;
      // No Content-Length: Bun.serve leaves it out for a streamed body, which goes out chunked.
      return new Response(releasing(body, lease.release), {
        headers: { "content-type": "application/octet-stream", "x-file-size": String(file.size) },
      });
    } catch (error) {
      throw named(error, { sandbox: c.req.param("ref"), path });
    } finally {
      if (!streaming) lease.release();
    }
  });

  app.put("/sandboxes/:ref/files", async (c) => {
    const { path, mode, owner } = query(c, writeQuery);
    const length = c.req.header("content-length");
    // Without a length the end of a chunked body says it: one that breaks off has none, and nothing is written.
    const chunked = length === undefined && c.req.header("transfer-encoding") !== undefined;
    const size = chunked ? undefined : Number(length ?? 0);
    if (size !== undefined && (!Number.isSafeInteger(size) || size < 0))
      throw badRequest("invalid Content-Length", "send the number of bytes of the body");
    c.env?.server?.timeout(c.req.raw, 0);
    const lease = await sandboxes.lease(c.get("user"), c.req.param("ref"), "file", c.req.raw.signal);
    try {
      const body = c.req.raw.body ?? new Blob([]).stream();
      await lease.guest.writeFile(path, body, { mode, owner, size }, signalOf(c, lease));
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
