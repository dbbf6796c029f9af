/** Binds the app to an address. */
import type { Hono } from "hono";
import type { Caller, HttpEnv } from "./env.ts";

export interface Listener {
  url: string;
  /** Stops accepting, waits up to `drainMs` for running requests, then cuts them. */
  stop(drainMs: number): Promise<void>;
}

/** What a server in front of us says about the client; nobody else reaches the socket. */
const PEER = "x-bhatti-peer";

/**
 * `address`: "127.0.0.1:8080", ":8080" (all addresses), "127.0.0.1:0" (any port) or "unix:PATH", where the edge stands in
 * front. `sockets`: what happens on connections that a route upgraded.
 */
export function listen<U extends Caller, D>(
  app: Hono<HttpEnv<U>>,
  address: string,
  sockets: Bun.WebSocketHandler<D>,
): Listener {
  const unix = address.startsWith("unix:") ? address.slice(5) : null;
  const at = address.lastIndexOf(":");
  const hostname = address.slice(0, at).replace(/^\[|\]$/g, "");
  const common = {
    // Bodies have their own bounds; a request that sends nothing for so long is cut (streams switch it off).
    idleTimeout: 120,
    maxRequestBodySize: Number.MAX_SAFE_INTEGER,
    websocket: sockets,
  };
  const server = unix
    ? Bun.serve<D>({
        unix: unix as never,
        ...common,
        fetch: (request, server) =>
          app.fetch(request, { server: server as never, peer: request.headers.get(PEER) ?? "" }),
      })
    : Bun.serve<D>({
        hostname: hostname || "0.0.0.0",
        port: Number(address.slice(at + 1)),
        ...common,
        fetch: (request, server) => app.fetch(request, { server: server as never }),
      });
  return {
    url: unix ? address : `http://${hostname || "127.0.0.1"}:${server.port}`,
    async stop(drainMs) {
      await Promise.race([server.stop(false), Bun.sleep(drainMs)]);
      await server.stop(true);
    },
  };
}
