/** The network on Linux: iproute2 and nftables. Design: docs/network.md */
import { existsSync } from "node:fs";
import type { Logger } from "pino";
import { KeyedMutex } from "../lib/keyed-mutex.ts";
import { Semaphore } from "../lib/semaphore.ts";
import { flushAddress, flushNamespace } from "./conntrack.ts";
import { Dns } from "./dns/dns.ts";
import { HelperLock } from "./helper-lock.ts";
import { checkCidr } from "./host-rules.ts";
import { readHostState, sysctl } from "./host-state.ts";
import { HostTables } from "./host-tables.ts";
import { MAX_SLOTS, Names } from "./names.ts";
import { buildNamespace, joinBridge, refreshRules, removeNamespace, type TapKind } from "./namespace.ts";
import type { Network, Owner, SandboxNet } from "./network.ts";
import { OwnerBridges } from "./owner-bridges.ts";
import { Pool } from "./pool.ts";
import { Slots } from "./slots.ts";
import { Sweep } from "./sweep.ts";

export interface NetworkOptions {
  /** Namespaces kept ready. */
  poolSize: number;
  /** "1.1.1.1", "[2620:fe::fe]:53" …; empty = the host's /etc/resolv.conf. */
  dnsUpstreams: string[];
  /** CIDRs of private destinations that sandboxes may reach. Default none. */
  allowedPrivate?: string[];
  /** Default "bh". Daemons on one host need different ones. */
  prefix?: string;
  /** Added to the second octet of every subnet (mod 256). Default 0. */
  base?: number;
  log: Logger;
  /** For tests only. */
  tapKind?: TapKind;
}

/** A network that somebody holds, from plan to release. */
interface Held {
  owner: Owner;
  net: SandboxNet;
  attached: boolean;
}

type InUse = Parameters<Network["start"]>[0];

export class HostNetwork implements Network {
  private readonly names: Names;
  private readonly tables: HostTables;
  private readonly slots: Slots;
  private readonly dns: Dns;
  private readonly bridges: OwnerBridges;
  private readonly pool: Pool;
  private readonly sweep: Sweep;
  private readonly helpers: HelperLock;
  private readonly held = new Map<number, Held>();
  private readonly turn = new KeyedMutex<number>();
  private readonly tapKind: TapKind;
  private toldNoFlush = false;

  /** Needs root, iproute2, nftables and util-linux. Nothing on the host is touched before `start`. */
  constructor(private readonly options: NetworkOptions) {
    const { log } = options;
    this.names = new Names(options.prefix, options.base);
    this.helpers = new HelperLock(this.names.prefix);
    this.tapKind = options.tapKind ?? "tap";
    this.tables = new HostTables(this.names, (options.allowedPrivate ?? []).map(checkCidr), log);
    this.slots = new Slots(this.names);
    this.dns = new Dns(options.dnsUpstreams, this.names.uid(0), (index) => this.names.subnet(index), log);
    this.bridges = new OwnerBridges(this.names, this.tables, this.dns, this.options.log);
    this.pool = new Pool(options.poolSize, this.slots, log, {
      build: (slot) => buildNamespace(this.names, slot, this.tapKind),
      remove: (...slots) => removeNamespace(this.names, ...slots),
    });
    this.sweep = new Sweep(this.turn, log, {
      remove: (...slots) => removeNamespace(this.names, ...slots),
      gone: (slot) => !this.held.has(slot) && this.slots.freeSlot(slot),
    });
  }

  async start(inUse: InUse): Promise<void> {
    if (!(await this.helpers.take()))
      this.options.log.warn("programs of an earlier daemon are still at work on the network");
    sysctl("net/ipv4/ip_forward", "1");
    this.dns.start();
    for (const { owner, net, name } of inUse) {
      this.slots.reserve(owner, net);
      this.held.set(net.slot, { owner, net, attached: false });
      this.setName(owner, net, name);
    }
    const live = inUse.filter((sandbox) => sandbox.live);
    const liveOwners = new Set(live.map(({ owner }) => owner.subnetIndex));
    await this.tables.start({
      ports: live.map(({ net }) => this.portOf(net)),
      bridges: [...liveOwners].map(this.names.bridge),
    });
    // What is not under a running VMM may be half built: away with it; attach builds it again.
    const liveSlots = new Set(live.map(({ net }) => net.slot));
    const found = readHostState(this.names);
    const strays = [...found.slots].filter((slot) => !liveSlots.has(slot));
    for (const slot of strays) this.slots.hold(slot);
    const some = new Semaphore(4);
    await Promise.all(live.map(({ owner, net }) => some.with(() => this.adopt(owner, net))));
    const bridges = [...found.bridges].filter((index) => !liveOwners.has(index));
    this.sweep.start(strays, () => this.bridges.sweep(bridges));
    this.pool.fill();
    this.options.log.info(
      { strays: strays.length, kept: live.length, known: inUse.length, pool: this.options.poolSize },
      "network is up",
    );
  }

  plan(owner: Owner, slot?: number): SandboxNet {
    const ready = slot ?? this.pool.peek();
    const net = this.slots.plan(owner, ready);
    if (ready !== undefined && slot === undefined) this.pool.take(ready);
    this.held.set(net.slot, { owner, net, attached: false });
    return net;
  }

  borrow() {
    const slot = this.pool.peek();
    if (slot === undefined) return null;
    this.pool.take(slot);
    this.pool.fill();
    return { slot, uid: this.names.uid(slot), netns: this.names.netns(slot) };
  }

  async giveUp(slot: number): Promise<void> {
    this.pool.used(slot);
    await removeNamespace(this.names, slot);
    this.slots.freeSlot(slot);
  }

  /** User of the process that faces the clients: no sandbox's, and not the resolver's. */
  get edgeUid(): number {
    return this.names.uid(MAX_SLOTS + 1);
  }

  uids() {
    return { from: this.names.uid(1), to: this.names.uid(MAX_SLOTS) };
  }

  async attach(owner: Owner, net: SandboxNet): Promise<void> {
    await this.turn.with(net.slot, async () => {
      const held = this.holder(net);
      if (!held) throw new Error(`network ${net.netns} (${net.address}) was not planned, or was released`);
      if (held.attached && this.exists(net.slot)) return;
      await this.bring(owner, net);
      held.attached = true;
    });
    this.pool.fill();
  }

  async release(owner: Owner, net: SandboxNet, last?: () => Promise<void>): Promise<void> {
    await this.turn.with(net.slot, async () => {
      const held = this.holder(net);
      if (!held) return last?.();
      this.dns.removeName(owner.subnetIndex, net.address);
      const untouched = !held.attached && this.pool.isBuilt(net.slot);
      if (!untouched) {
        this.sweep.forget(net.slot);
        await this.takeDown(owner, net);
        held.attached = false;
      }
      await last?.();
      this.held.delete(net.slot);
      this.slots.freeAddress(owner, net);
      if (untouched) this.pool.giveBack(net.slot);
      else this.slots.freeSlot(net.slot);
    });
    this.pool.fill();
  }

  setName(owner: Owner, net: SandboxNet, name: string): void {
    this.dns.setName(owner.subnetIndex, name, net.address);
  }

  async flush(net: SandboxNet): Promise<void> {
    flushNamespace(net.netns);
    await this.forgetConnections(net.address);
  }

  private async forgetConnections(address: string): Promise<void> {
    if ((await flushAddress(address)) || this.toldNoFlush) return;
    this.toldNoFlush = true;
    this.options.log.warn(
      "connections of woken sandboxes may stall: install the package conntrack (this kernel is older than 6.11)",
    );
  }

  async stop(): Promise<void> {
    await Promise.all([this.pool.stop(), this.sweep.stop(), this.bridges.settled()]);
    await Promise.all([this.dns.stop(), this.tables.stop()]);
    this.helpers.release();
  }

  async purge(): Promise<void> {
    await this.stop();
    const found = readHostState(this.names);
    await removeNamespace(this.names, ...found.slots);
    await this.bridges.remove(...found.bridges);
    await this.tables.remove();
    this.helpers.forget();
  }

  /** Resolves when what nobody needs any more is gone, and the pool is full (or cannot be filled). */
  async settled(): Promise<void> {
    await Promise.all([this.sweep.settled(), this.pool.settled(), this.bridges.settled()]);
  }

  private async bring(owner: Owner, net: SandboxNet): Promise<void> {
    const index = owner.subnetIndex;
    this.sweep.forget(net.slot);
    const build = async () => {
      if (this.pool.isBuilt(net.slot)) this.pool.used(net.slot);
      else await buildNamespace(this.names, net.slot, this.tapKind);
    };
    const steps = await Promise.allSettled([this.bridges.acquire(index, net.slot), build()]);
    try {
      for (const step of steps) if (step.status === "rejected") throw step.reason;
      await settleAll([
        joinBridge(this.names, net, this.names.bridge(index)),
        this.tables.addPort(this.portOf(net)),
      ]);
    } catch (error) {
      await this.takeDown(owner, net).catch((err) =>
        this.options.log.error({ err }, "network roll-back failed"),
      );
      throw error;
    }
  }

  private async adopt(owner: Owner, net: SandboxNet): Promise<void> {
    const held = this.holder(net);
    if (!held) return;
    if (!this.exists(net.slot)) {
      await this.bring(owner, net);
    } else {
      await this.bridges.acquire(owner.subnetIndex, net.slot);
      await settleAll([joinBridge(this.names, net, this.names.bridge(owner.subnetIndex)), refreshRules(net)]);
    }
    held.attached = true;
  }

  private async takeDown(owner: Owner, net: SandboxNet): Promise<void> {
    await removeNamespace(this.names, net.slot);
    await this.tables.removePort(this.portOf(net));
    // The address may pass to another sandbox, and what others still send to this one is not meant for that.
    await this.forgetConnections(net.address);
    this.bridges.release(owner.subnetIndex, net.slot);
  }

  private holder(net: SandboxNet): Held | undefined {
    const held = this.held.get(net.slot);
    return held?.net.address === net.address ? held : undefined;
  }

  private exists(slot: number): boolean {
    return (
      existsSync(`/run/netns/${this.names.netns(slot)}`) &&
      existsSync(`/sys/class/net/${this.names.veth(slot)}`)
    );
  }

  private portOf = (net: SandboxNet) => ({ veth: this.names.veth(net.slot), address: net.address });
}

/** Waits for all of them, also when one fails, so that no step is under way when the roll-back begins. */
async function settleAll(work: Promise<unknown>[]): Promise<void> {
  for (const result of await Promise.allSettled(work)) if (result.status === "rejected") throw result.reason;
}
