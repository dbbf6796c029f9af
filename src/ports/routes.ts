/** Ports and the authenticated reverse proxy. */
import { type Context, Hono } from "hono";
import { named } from "../guest/errors.ts";
import { reply } from "../http/json.ts";
import { only } from "../http/server.ts";
import { AppError, badRequest } from "../lib/errors.ts";
import { releasing } from "../lib/releasing.ts";
import { signalOf } from "../sandboxes/request-lease.ts";
import type { GuestLease, Sandboxes, SandboxView } from "../sandboxes/service.ts";
import type { AppEnv } from "../users/app-env.ts";
import { parseResponse, serializeRequest } from "./http-tunnel.ts";

/** Requests that are passed through to a sandbox: not calls of the API, whatever their number. */
export const isProxied = (path: string): boolean => /^\/sandboxes\/[^/]+\/proxy\//.test(path);

/** How long a list of all waits for one that comes or goes, ms. */
const LEASE_MS = 5000;

export function proxyRoutes({ sandboxes }: { sandboxes: Sandboxes }): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.get("/sandboxes/:ref/ports", async (c) => {
    const ref = c.req.param("ref");
    const lease = await sandboxes.lease(c.get("user"), ref, "ports", c.req.raw.signal);
    try {
      const ports = await lease.guest.ports();
      return reply(
        c,
        ports.map(({ port }) => ({ container_port: port, proxy_url: `/sandboxes/${ref}/proxy/${port}/` })),
      );
    } catch (error) {
      throw named(error, { sandbox: ref });
    } finally {
      lease.release();
    }
  });
  app.all("/sandboxes/:ref/ports", only("GET"));

  app.get("/ports", async (c) => {
    const user = c.get("user");
    const hot = sandboxes.list(user).filter((sandbox) => sandbox.thermal === "hot");
    return reply(c, (await Promise.all(hot.map((sandbox) => portsOf(c, sandboxes, sandbox)))).flat());
  });
  app.all("/ports", only("GET"));

  app.all("/sandboxes/:ref/proxy/:port{[^/]+}", (c) => proxy(c, sandboxes));
  app.all("/sandboxes/:ref/proxy/:port{[^/]+}/*", (c) => proxy(c, sandboxes));
  return app;
}

/** Of one of several: one that does not answer takes the place of its ports, and does not keep the others waiting. */
async function portsOf(c: Context<AppEnv>, sandboxes: Sandboxes, { id, name }: SandboxView) {
  const late = AbortSignal.timeout(LEASE_MS);
  let lease: GuestLease | undefined;
  try {
    lease = await sandboxes.lease(c.get("user"), id, "ports", late);
    const ports = await lease.guest.ports();
    return ports.map(({ port }) => ({
      sandbox_id: id,
      container_port: port,
      proxy_url: `/sandboxes/${id}/proxy/${port}/`,
    }));
  } catch (cause) {
    if (cause instanceof AppError && cause.code === "not_found") return []; // destroyed meanwhile
    const error =
      !lease && late.aborted
        ? new AppError("timeout", `sandbox "${name}" was busy for ${LEASE_MS / 1000} s`, { cause })
        : named(cause, { sandbox: name });
    return [{ sandbox_id: id, sandbox: name, ...((await c.get("tell")(error).json()) as { error: string }) }];
  } finally {
    lease?.release();
  }
}

async function proxy(c: Context<AppEnv>, sandboxes: Sandboxes): Promise<Response> {
  const port = Number(c.req.param("port"));
  if (!Number.isInteger(port) || port < 1 || port > 65535)
    throw badRequest("invalid port", "a port is a number from 1 to 65535");
  if (/^websocket$/i.test(c.req.header("upgrade") ?? "")) {
    throw new AppError("not_implemented", "WebSockets through the proxy are not supported yet", {
      remedy: "plain requests and event streams pass",
    });
  }
  c.env?.server?.timeout(c.req.raw, 0);
  const ref = c.req.param("ref")!;
  const lease = await sandboxes.lease(c.get("user"), ref, "proxy", c.req.raw.signal);
  try {
    const tunnel = await lease.guest.forward(port, signalOf(c, lease));
    const close = () => {
      tunnel.close();
      lease.release();
    };
    try {
      // The raw target, so that encoded characters arrive as they were sent.
      const target = c.req.raw.url
        .replace(/^[a-z]+:\/\/[^/]+/i, "")
        .replace(/^\/sandboxes\/[^/]+\/proxy\/[^/?]+/, "");
      const peer = c.env?.server?.requestIP(c.req.raw)?.address ?? "";
      void serializeRequest(c.req.raw, target || "/", port, peer)
        .pipeTo(tunnel.writable, { preventClose: true })
        .catch(() => {});
      const answer = await parseResponse(tunnel.readable, c.req.method === "HEAD");
      if (!answer.body) close();
      return new Response(answer.body ? releasing(answer.body, close) : null, {
        status: answer.status,
        headers: answer.headers,
      });
    } catch (cause) {
      close();
      throw cause;
    }
  } catch (cause) {
    lease.release();
    if (cause instanceof AppError && cause.code !== "unavailable") throw cause;
    throw new AppError("unavailable", `bad gateway: nothing answers on port ${port} of sandbox "${ref}"`, {
      status: 502,
      cause,
      remedy: `bhatti ports ${ref} shows what listens there`,
    });
  }
}
