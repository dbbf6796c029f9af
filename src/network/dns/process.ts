/**
 * The resolver's process: it reads what guests write, so it is not the daemon. It holds no file, no key and no privilege, and
 * ends with the daemon (end of its input). Whatever breaks here costs DNS for the moment in which it is started again.
 */
import { lines } from "../../lib/lines.ts";
import { CacheSpace } from "./cache.ts";
import { Forwarder } from "./forwarder.ts";
import type { Order, Outcome, ResolverSetup } from "./protocol.ts";
import { Resolver } from "./resolver.ts";
import { listen, type Responder } from "./responder.ts";
import { upstreams } from "./upstreams.ts";
import { Zone } from "./zone.ts";

/** A resolver that was killed with its daemon may hold the port for a moment. */
const BIND_MS = 3000;

interface View {
  zone: Zone;
  resolver: Resolver;
  responder: Responder | null;
}

/** Serves until the end of stdin, then ends the process. */
export async function serveResolver(setup: ResolverSetup): Promise<never> {
  if (setup.uid !== null) becomeUser(setup.uid);
  const forwarder = new Forwarder(upstreams(setup.upstreams));
  const space = new CacheSpace();
  const views = new Map<number, View>();
  const say = (outcome: Outcome) => process.stdout.write(`${JSON.stringify(outcome)}\n`);

  const close = (index: number) => {
    const view = views.get(index);
    views.delete(index);
    view?.responder?.stop();
    view?.resolver.close();
  };
  const open = async ({ id, index, address, names }: Order & { do: "listen" }) => {
    close(index);
    const zone = new Zone(address.slice(0, address.lastIndexOf(".")));
    for (const [name, of] of names) zone.set(name, of);
    const view: View = { zone, resolver: new Resolver(zone, forwarder, space), responder: null };
    views.set(index, view);
    try {
      const responder = await bind(address, setup.port, view.resolver);
      // Stopped meanwhile, or replaced.
      if (views.get(index) === view) view.responder = responder;
      else responder.stop();
      say({ id });
    } catch (error) {
      if (views.get(index) === view) close(index);
      say({ id, error: (error as Error).message });
    }
  };

  for await (const line of lines(Bun.stdin.stream())) {
    const order = JSON.parse(line) as Order;
    if (order.do === "listen") void open(order);
    else if (order.do === "stop") close(order.index);
    else if (order.do === "name") views.get(order.index)?.zone.set(order.name, order.address);
    else views.get(order.index)?.zone.remove(order.address);
  }
  process.exit(0);
}

async function bind(address: string, port: number, resolver: Resolver): Promise<Responder> {
  const end = performance.now() + BIND_MS;
  for (;;) {
    try {
      return await listen(address, port, resolver);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EADDRINUSE" || performance.now() > end) throw error;
      await Bun.sleep(20);
    }
  }
}

function becomeUser(uid: number): void {
  process.setgroups?.([]);
  process.setgid?.(uid);
  process.setuid?.(uid);
  if (process.getuid?.() !== uid) throw new Error(`cannot become user ${uid}`);
}

if (import.meta.main) await serveResolver(JSON.parse(process.argv[2] as string));
