/** What clients meet: the edge's process, behind it the API's own server on a socket that only it reaches. */
import type { Logger } from "pino";
import { Edge } from "../edge/edge.ts";
import type { Begin } from "../edge/protocol.ts";
import { type Listener, listen } from "../http/listen.ts";
import type { build } from "./build.ts";
import type { Config } from "./config.ts";
import { edgeDir } from "./files.ts";
import { edgePath } from "./programs.ts";

/** Methods that a Request cannot have, or that make no sense through a proxy. */
const METHOD = /^(?!(?:CONNECT|TRACE|TRACK)$)[A-Z-]{1,32}$/;

/** Listens on the configured address. Throws when it cannot. */
export async function startEdge(
  {
    app,
    sockets,
    network,
    urls,
    visitors,
  }: Pick<Awaited<ReturnType<typeof build>>, "app" | "sockets" | "network" | "urls" | "visitors">,
  config: Config,
  log: Logger,
): Promise<Listener> {
  const edge = new Edge({
    program: await edgePath(config.dataDir),
    dir: edgeDir(config.dataDir),
    uid: process.getuid?.() === 0 ? network.edgeUid : null,
    listen: [config.listen],
    trustedProxies: config.trustedProxies,
    log,
    zones: urls.zones,
    async begin(begin, passage, signal) {
      if (begin.kind !== "path") return visitors.begin(begin, passage, signal);
      return app.fetch(requestOf(begin, signal), { server: undefined as never, peer: begin.peer, passage });
    },
  });
  edge.prepare();
  const api = listen(app, `unix:${edge.apiSocket}`, sockets);
  const [address = ""] = await edge.start();
  urls.listensOn(Number(address.slice(address.lastIndexOf(":") + 1)));
  return {
    url: urlOf(config.listen, address),
    async stop(drainMs) {
      await edge.stop(drainMs);
      await api.stop(0);
    },
  };
}

/** The question as a request of the API: the same keys, shares, errors and log. Its body never comes here. */
function requestOf({ sandbox, port, auth, method }: Begin, signal: AbortSignal): Request {
  return new Request(`http://edge/sandboxes/${segment(sandbox)}/proxy/${segment(port)}/`, {
    method: METHOD.test(method) ? method : "GET",
    headers: auth ? { authorization: auth } : {},
    signal,
  });
}

/** A part of the client's path as one segment: nothing in it leads to another route. */
function segment(raw = ""): string {
  let text = raw;
  try {
    text = decodeURIComponent(raw);
  } catch {}
  return /^\.*$/.test(text) ? "-" : encodeURIComponent(text);
}

/** Where clients on this machine reach it: as configured, with the port that it got. */
function urlOf(listen: string, address: string): string {
  const host = listen.slice(0, listen.lastIndexOf(":"));
  return `http://${host || "127.0.0.1"}:${address.slice(address.lastIndexOf(":") + 1)}`;
}
