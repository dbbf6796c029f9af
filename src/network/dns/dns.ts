/** The resolvers of all owners: a view, a cache and a pair of sockets each. */
import type { Logger } from "pino";
import { AppError } from "../../lib/errors.ts";
import { DNS_PORT } from "../host-rules.ts";
import { Forwarder } from "./forwarder.ts";
import { Resolver } from "./resolver.ts";
import { listen, type Responder } from "./responder.ts";
import { upstreams } from "./upstreams.ts";
import { Zone } from "./zone.ts";

export type { Responder };

export class Dns {
  private readonly zones = new Map<number, Zone>();
  private readonly forwarder: Forwarder;

  /** Throws when `configured` names an upstream that is no address. */
  constructor(
    configured: string[],
    private readonly subnet: (index: number) => string,
    log: Logger,
  ) {
    const current = upstreams(configured);
    if (current().length === 0)
      log.warn("no DNS upstreams: set dns_upstreams, or nameserver in /etc/resolv.conf");
    this.forwarder = new Forwarder(current);
  }

  zone(index: number): Zone {
    let zone = this.zones.get(index);
    if (!zone) {
      zone = new Zone(this.subnet(index));
      this.zones.set(index, zone);
    }
    return zone;
  }

  /** Answers on the owner's gateway. A sandbox without DNS is of no use, so a failure is one of the whole attach. */
  async listen(index: number, gateway: string): Promise<Responder> {
    const resolver = new Resolver(() => this.zone(index), this.forwarder);
    try {
      return await listen(gateway, DNS_PORT, resolver);
    } catch (cause) {
      throw new AppError("unavailable", `the DNS responder cannot listen on ${gateway}:${DNS_PORT}`, {
        cause,
        remedy: `find what holds the port: ss -lntup sport = ${DNS_PORT}`,
      });
    }
  }
}
