/** Files of a guest: spec/http-api §10. */
import { Hono } from "hono";
import { reply } from "../http/json.ts";
import { only } from "../http/server.ts";
import { badRequest, notFound } from "../lib/errors.ts";
import { releasing } from "../lib/releasing.ts";
import { signalOf } from "../sandboxes/request-lease.ts";
import type { Sandboxes } from "../sandboxes/service.ts";
import type { AppEnv } from "../users/app-env.ts";

const MAX_WRITE = 100 * 1024 * 1024;

export function filesRoutes({ sandboxes }: { sandboxes: Sandboxes }): Hono<AppEnv> {
  const app = new Hono<AppEnv>();

  app.on(["GET", "HEAD"], "/sandboxes/:ref/files", async (c) => {
    const path = pathOf(c.req.query("path"));
    c.env?.server?.timeout(c.req.raw, 0);
    const lease = await sandboxes.lease(c.get("user"), c.req.param("ref"), "file", c.req.raw.signal);
    let streaming = false;
    try {
      if (c.req.method === "HEAD") {
        const stat = await lease.guest.stat(path).catch(() => {
          throw notFound();
        });
        return new Response(null, {
          headers: {
            "x-file-size": String(stat.size),
            "x-file-mode": stat.mode,
            "x-file-isdir": String(stat.isDir),
          },
        });
      }
      if (c.req.query("ls") === "true") {
        const entries = await lease.guest.list(path);
        return reply(
          c,
          entries.map(({ name, size, mode, isDir, mtime }) => ({ name, size, mode, is_dir: isDir, mtime })),
        );
      }
      const limit = positive(c.req.query("limit"));
      const maxBytes = positive(c.req.query("max_bytes"));
      const offset = limit || maxBytes ? positive(c.req.query("offset")) : 0;
      const file = await lease.guest.readFile(
        path,
        { lineOffset: offset || undefined, lineLimit: limit || undefined, maxBytes: maxBytes || undefined },
        signalOf(c, lease),
      );
      streaming = true;
      const headers: Record<string, string> = {
        "content-type": "application/octet-stream",
        "x-file-size": String(file.size),
      };
      if (file.length >= 0 && !maxBytes) headers["content-length"] = String(file.length);
      return new Response(releasing(file.body, lease.release), { headers });
    } finally {
      if (!streaming) lease.release();
    }
  });

  app.put("/sandboxes/:ref/files", async (c) => {
    const path = pathOf(c.req.query("path"));
    const length = c.req.header("content-length");
    if (length === undefined && c.req.header("transfer-encoding") !== undefined) {
      throw badRequest("Content-Length header required for file upload");
    }
    const size = Number(length ?? 0);
    if (!Number.isSafeInteger(size) || size < 0) throw badRequest("invalid Content-Length");
    const mode = c.req.query("mode") ?? "0644";
    c.env?.server?.timeout(c.req.raw, 0);
    const lease = await sandboxes.lease(c.get("user"), c.req.param("ref"), "file", c.req.raw.signal);
    try {
      const body = c.req.raw.body ?? new Blob([]).stream();
      await lease.guest.writeFile(
        path,
        body,
        { mode: /^[0-7]{1,5}$/.test(mode) ? mode : "0644", size, maxBytes: MAX_WRITE },
        signalOf(c, lease),
      );
      return reply(c, { status: "ok" });
    } finally {
      lease.release();
    }
  });
  app.all("/sandboxes/:ref/files", only("GET", "HEAD", "PUT"));
  return app;
}

function pathOf(path: string | undefined): string {
  if (!path) throw badRequest("path query parameter required");
  if (!path.startsWith("/")) throw badRequest("path must be absolute");
  if (path.includes("\0")) throw badRequest("path contains NUL");
  if (Buffer.byteLength(path) > 4095) throw badRequest("path is too long: 4095 bytes at most");
  return path;
}

/** A positive integer, or 0 for anything else. */
const positive = (text: string | undefined): number => (text && /^\d{1,15}$/.test(text) ? Number(text) : 0);
