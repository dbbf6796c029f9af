/** The network of one daemon. Every change of the host goes through here, and every name it makes carries its prefix. */
import { writeFileSync } from "node:fs";
import type { Logger } from "pino";
import { AppError } from "../http/errors.ts";
import { run } from "../lib/run.ts";
import { DnsServer } from "./dns/server.ts";
import { MAX_SLOT, type Names, names } from "./names.ts";
import { buildNamespace, ipBatch, plug, present, removeNamespace } from "./namespace.ts";
import type { Network, Owner, SandboxNet } from "./network.ts";
import { hostRules } from "./rules.ts";

export interface NetworkOptions {
  prefix: string;
  base: number;
  poolSize: number;
  dnsUpstreams: string[];
  allowedPrivate: string[];
  log: Logger;
}

export class HostNetwork implements Network {
  readonly names: Names;
  /** Slots that are planned or in use, with their address. */
  private readonly taken = new Map<number, { address: string; owner: Owner }>();
  private readonly attached = new Map<number, SandboxNet>();
  /** Namespaces ready for anybody. */
  private readonly ready: number[] = [];
  private readonly bridges = new Map<number, { users: Set<number>; up: Promise<void> }>();
  /** Changes of bridges and tables, one after the other. */
  private tail: Promise<unknown> = Promise.resolve();
  private filling: Promise<void> | null = null;
  private stopped = false;
  private readonly dns: DnsServer;

  constructor(private readonly options: NetworkOptions) {
    this.names = names(options);
    this.dns = new DnsServer({
      address: this.names.resolver,
      upstreams: options.dnsUpstreams,
      log: options.log,
    });
  }

  async start(inUse: { owner: Owner; net: SandboxNet; name: string; live: boolean }[]): Promise<void> {
    const here = await present();
    const keep = new Set(inUse.map(({ net }) => net.slot));
    const usedBridges = new Set<string>();
    for (const { owner, net, name } of inUse) {
      this.taken.set(net.slot, { address: net.address, owner });
      this.dns.set(owner.userId, net.address, name);
      if (!here.netns.includes(net.netns) || !here.links.includes(this.names.veth(net.slot))) continue;
      this.attached.set(net.slot, net);
      usedBridges.add(this.names.bridge(owner.subnetIndex));
    }
    await this.removeStrangers(here, keep, usedBridges);
    writeFileSync("/proc/sys/net/ipv4/ip_forward", "1");
    await run(["ip", "link", "add", this.names.dummy, "type", "bridge"]).catch(() => {});
    await ipBatch([
      `addr replace ${this.names.resolver}/32 dev ${this.names.dummy}`,
      `link set ${this.names.dummy} up`,
    ]);
    await run(["nft", "-f", "-"], {
      stdin: hostRules(this.names, { bridges: [], ports: [], allowedPrivate: this.options.allowedPrivate }),
    });
    for (const { owner, net } of inUse) {
      if (!this.attached.has(net.slot)) continue;
      await this.bridge(owner, net.slot);
      await plug(this.names, net, this.names.bridge(owner.subnetIndex));
      await this.port("add", net);
    }
    await this.dns.start();
    this.refill();
  }

  plan(owner: Owner): SandboxNet {
    const prefix = this.names.subnet(owner.subnetIndex);
    const used = new Set([...this.taken.values()].map(({ address }) => address));
    let last = 2;
    while (last <= 254 && used.has(`${prefix}.${last}`)) last++;
    if (last > 254) throw new AppError("limit_reached", "all 253 addresses of your network are in use");
    const slot = this.freeSlot();
    const address = `${prefix}.${last}`;
    this.taken.set(slot, { address, owner });
    return {
      slot,
      uid: this.names.uid(slot),
      netns: this.names.netns(slot),
      address,
      gateway: `${prefix}.1`,
    };
  }

  async attach(owner: Owner, net: SandboxNet): Promise<void> {
    if (this.attached.has(net.slot)) return;
    this.taken.set(net.slot, { address: net.address, owner });
    const at = this.ready.indexOf(net.slot);
    if (at >= 0) this.ready.splice(at, 1);
    else await buildNamespace(this.names, net.slot);
    await Promise.all([
      this.bridge(owner, net.slot).then(() => plug(this.names, net, this.names.bridge(owner.subnetIndex))),
      this.port("add", net),
    ]);
    this.attached.set(net.slot, net);
    this.refill();
  }

  async release(owner: Owner, net: SandboxNet): Promise<void> {
    this.dns.delete(net.address);
    const wasAttached = this.attached.delete(net.slot);
    // A slot is free again only when nothing of it is left on the host.
    const pooled = this.ready.includes(net.slot);
    if (!pooled) await removeNamespace(this.names, net.slot);
    if (wasAttached) await this.port("delete", net);
    await this.unbridge(owner, net.slot);
    this.taken.delete(net.slot);
    this.refill();
  }

  setName(owner: Owner, net: SandboxNet, name: string): void {
    this.dns.set(owner.userId, net.address, name);
  }

  async flush(net: SandboxNet): Promise<void> {
    await Promise.all([
      run(["ip", "netns", "exec", net.netns, "conntrack", "-F"]).catch(() => ""),
      run(["conntrack", "-D", "-s", net.address]).catch(() => ""),
    ]);
  }

  async stop(): Promise<void> {
    this.stopped = true;
    await this.filling;
    await this.tail;
    await this.dns.stop();
    for (const slot of this.ready.splice(0)) await removeNamespace(this.names, slot);
  }

  async purge(): Promise<void> {
    await this.stop();
    await this.removeStrangers(await present(), new Set(), new Set());
    for (const family of ["inet", "bridge"])
      await run(["nft", "delete", "table", family, this.names.table]).catch(() => {});
  }

  private freeSlot(): number {
    const pooled = this.ready.find((slot) => !this.taken.has(slot));
    if (pooled !== undefined) return pooled;
    for (let slot = 1; slot <= MAX_SLOT; slot++)
      if (!this.taken.has(slot) && !this.building.has(slot)) return slot;
    throw new AppError("limit_reached", `all ${MAX_SLOT} sandbox slots of this server are in use`);
  }

  /** Slots whose namespace the pool is making. */
  private readonly building = new Set<number>();

  private refill(): void {
    if (this.stopped || this.filling) return;
    this.filling = (async () => {
      while (
        !this.stopped &&
        this.ready.filter((slot) => !this.taken.has(slot)).length < this.options.poolSize
      ) {
        const slot = this.freeSlotForPool();
        if (slot === null) return;
        this.building.add(slot);
        try {
          await buildNamespace(this.names, slot);
          this.ready.push(slot);
        } finally {
          this.building.delete(slot);
        }
      }
    })()
      .catch((err) => this.options.log.error({ err }, "network pool"))
      .finally(() => {
        this.filling = null;
      });
  }

  private freeSlotForPool(): number | null {
    for (let slot = 1; slot <= MAX_SLOT; slot++) {
      if (!this.taken.has(slot) && !this.ready.includes(slot) && !this.building.has(slot)) return slot;
    }
    return null;
  }

  /** The owner's bridge, made by the first sandbox that needs it; others wait for the same. */
  private bridge(owner: Owner, slot: number): Promise<void> {
    const index = owner.subnetIndex;
    let entry = this.bridges.get(index);
    if (!entry) {
      entry = { users: new Set(), up: this.serial(() => this.makeBridge(index)) };
      this.bridges.set(index, entry);
      entry.up.catch(() => this.bridges.delete(index));
    }
    entry.users.add(slot);
    return entry.up;
  }

  private async makeBridge(index: number): Promise<void> {
    const name = this.names.bridge(index);
    const subnet = this.names.subnet(index);
    await run(["ip", "link", "add", name, "type", "bridge"]).catch((error) => {
      if (!/File exists/.test(String(error))) throw error;
    });
    try {
      writeFileSync(`/proc/sys/net/ipv6/conf/${name}/disable_ipv6`, "1");
    } catch {}
    await ipBatch([`addr replace ${subnet}.1/24 dev ${name}`, `link set ${name} up`]);
    await this.nft(`add element inet ${this.names.table} pairs { "${name}" . "${name}" }
add element inet ${this.names.table} subnets { ${subnet}.0/24 }`);
  }

  private async unbridge(owner: Owner, slot: number): Promise<void> {
    const index = owner.subnetIndex;
    const entry = this.bridges.get(index);
    if (!entry?.users.delete(slot) || entry.users.size > 0) return;
    this.bridges.delete(index);
    const name = this.names.bridge(index);
    await this.serial(async () => {
      if (this.bridges.has(index)) return; // somebody came back: its makeBridge is queued behind us
      await run(["ip", "link", "del", name]).catch(() => {});
      await this.nft(`delete element inet ${this.names.table} pairs { "${name}" . "${name}" }
delete element inet ${this.names.table} subnets { ${this.names.subnet(index)}.0/24 }`).catch(() => {});
    });
  }

  /** Lets the port speak with its own address only, or takes that right away. */
  private port(verb: "add" | "delete", net: SandboxNet): Promise<void> {
    const element = `{ "${this.names.veth(net.slot)}" . ${net.address} }`;
    return this.nft(`${verb} element bridge ${this.names.table} ports ${element}`).catch((error) => {
      if (verb === "add") throw error;
    });
  }

  private async nft(script: string): Promise<void> {
    await run(["nft", "-f", "-"], { stdin: `${script}\n` });
  }

  private serial<T>(work: () => Promise<T>): Promise<T> {
    const result = this.tail.then(work);
    this.tail = result.catch(() => {});
    return result;
  }

  private async removeStrangers(
    here: { netns: string[]; links: string[] },
    keep: Set<number>,
    bridges: Set<string>,
  ): Promise<void> {
    const keepNames = new Set([...keep].flatMap((slot) => [this.names.netns(slot), this.names.veth(slot)]));
    for (const link of here.links) {
      if (this.names.isLink(link) && !keepNames.has(link) && !bridges.has(link))
        await run(["ip", "link", "del", link]).catch(() => {});
    }
    for (const ns of here.netns) {
      if (this.names.isNetns(ns) && !keepNames.has(ns)) await run(["ip", "netns", "del", ns]).catch(() => {});
    }
  }
}

/** Names the rule set of another program that would drop our forwarded traffic; null when there is none. */
export async function detectForeignDrop(): Promise<string | null> {
  const text = await run(["nft", "-j", "list", "chains"]).catch(() => "");
  if (!text) return null;
  const chains = (
    JSON.parse(text) as {
      nftables: { chain?: { family: string; table: string; name: string; hook?: string; policy?: string } }[];
    }
  ).nftables;
  const found = chains.find(
    ({ chain }) => chain?.hook === "forward" && chain.policy === "drop" && !chain.table.startsWith("bhatti_"),
  )?.chain;
  return found ? `${found.family} ${found.table} ${found.name}` : null;
}
