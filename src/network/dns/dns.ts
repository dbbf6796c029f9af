/** DNS of all owners: who is called what, and the process that answers (process.ts), started again when it ends. */
import type { Logger } from "pino";
import { AppError } from "../../lib/errors.ts";
import { DNS_PORT } from "../host-rules.ts";
import { ResolverProcess } from "./resolver-process.ts";
import { upstreams } from "./upstreams.ts";
import { Zone } from "./zone.ts";

export interface Responder {
  stop(): void;
}

export class Dns {
  private readonly zones = new Map<number, Zone>();
  /** Gateways that are answered at, per owner. */
  private readonly listening = new Map<number, string>();
  private readonly resolver: ResolverProcess;

  /** Throws when `configured` names an upstream that is no address. `uid` is the resolver's user. */
  constructor(
    configured: string[],
    uid: number,
    private readonly subnet: (index: number) => string,
    log: Logger,
  ) {
    if (upstreams(configured)().length === 0)
      log.warn("no DNS upstreams: set dns_upstreams, or nameserver in /etc/resolv.conf");
    this.resolver = new ResolverProcess({ uid, port: DNS_PORT, upstreams: configured }, log, () =>
      [...this.listening].map(([index, address]) => ({ index, address, names: this.zone(index).entries() })),
    );
  }

  /** Of the resolver, while it runs. */
  get pid(): number | null {
    return this.resolver.pid;
  }

  /** Starts the resolver, without waiting for it. */
  start(): void {
    this.resolver.start();
  }

  /** Ends the resolver. */
  stop(): Promise<void> {
    return this.resolver.stop();
  }

  setName(index: number, name: string, address: string): void {
    this.zone(index).set(name, address);
    if (this.listening.has(index)) this.resolver.order({ do: "name", index, name, address });
  }

  removeName(index: number, address: string): void {
    const zone = this.zones.get(index);
    if (!zone) return;
    zone.remove(address);
    if (zone.entries().length === 0) this.zones.delete(index);
    if (this.listening.has(index)) this.resolver.order({ do: "unname", index, address });
  }

  /** Answers on the owner's gateway. A sandbox without DNS is of no use, so a failure is one of the whole attach. */
  async listen(index: number, gateway: string): Promise<Responder> {
    this.listening.set(index, gateway);
    try {
      await this.resolver.listen({ index, address: gateway, names: this.zone(index).entries() });
    } catch (cause) {
      this.listening.delete(index);
      throw new AppError("unavailable", `the DNS responder cannot listen on ${gateway}:${DNS_PORT}`, {
        cause,
        remedy: `find what holds the port: ss -lntup sport = ${DNS_PORT}`,
      });
    }
    return {
      stop: () => {
        this.listening.delete(index);
        this.resolver.order({ do: "stop", index });
      },
    };
  }

  private zone(index: number): Zone {
    let zone = this.zones.get(index);
    if (!zone) {
      zone = new Zone(this.subnet(index));
      this.zones.set(index, zone);
    }
    return zone;
  }
}
