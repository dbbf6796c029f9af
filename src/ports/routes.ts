/** Ports and the authenticated reverse proxy. */
import { type Context, Hono } from "hono";
import type { Passage } from "../edge/passage.ts";
import { named } from "../guest/errors.ts";
import { reply } from "../http/json.ts";
import { only } from "../http/server.ts";
import { AppError, badRequest } from "../lib/errors.ts";
import type { GuestLease, Sandboxes, SandboxView } from "../sandboxes/service.ts";
import type { AppEnv } from "../users/app-env.ts";
import { VERSION } from "../version.ts";
import { grantOf } from "./grant.ts";

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

/** A request to a port: the edge passes it on once it is let through, and says when it is over. */
async function proxy(c: Context<AppEnv>, sandboxes: Sandboxes): Promise<Response> {
  const port = Number(c.req.param("port"));
  if (!Number.isInteger(port) || port < 1 || port > 65535)
    throw badRequest("invalid port", "a port is a number from 1 to 65535");
  const passage = c.env?.passage as Passage | undefined;
  // The same path spelt in a way that the edge, which takes it as it is, does not know.
  if (!passage) throw badRequest("the path of a proxied request is /sandboxes/{sandbox}/proxy/{port}/…");
  const ref = c.req.param("ref")!;
  const lease = await sandboxes.lease(c.get("user"), ref, "proxy", c.req.raw.signal);
  try {
    const { status } = await passage.grant(grantOf(lease, ref, port), {
      "x-bhatti-version": VERSION,
      "x-request-id": c.get("requestId"),
    });
    return new Response(null, { status: status === 101 || (status >= 200 && status < 600) ? status : 502 });
  } finally {
    lease.release();
  }
}
