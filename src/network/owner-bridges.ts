/** A bridge and a DNS responder per owner, there from the first attached sandbox to the last. */
import { existsSync } from "node:fs";
import type { Logger } from "pino";
import { KeyedMutex } from "../lib/keyed-mutex.ts";
import type { Dns, Responder } from "./dns/dns.ts";
import { sysctl } from "./host-state.ts";
import type { HostTables } from "./host-tables.ts";
import { BRIDGE_MAC, type Names } from "./names.ts";
import { ip, ipForce } from "./run.ts";

interface OwnerBridge {
  /** Slots that need the bridge, those in flight included. */
  members: Set<number>;
  responder: Responder | null;
}

export class OwnerBridges {
  private readonly owners = new Map<number, OwnerBridge>();
  private readonly turn = new KeyedMutex<number>();
  /** Removals under way. */
  private readonly removals = new Set<Promise<void>>();

  constructor(
    private readonly names: Names,
    private readonly tables: HostTables,
    private readonly dns: Dns,
    private readonly log: Logger,
  ) {}

  /** Makes sure that the owner's bridge is up and answers DNS, and keeps it for `slot`. On failure `slot` holds nothing. */
  async acquire(index: number, slot: number): Promise<void> {
    const owner = this.owners.get(index) ?? { members: new Set(), responder: null };
    this.owners.set(index, owner);
    owner.members.add(slot);
    try {
      await this.turn.with(index, async () => {
        if (owner.responder && existsSync(`/sys/class/net/${this.names.bridge(index)}`)) return;
        owner.responder?.stop();
        owner.responder = null;
        await this.create(index);
        owner.responder = await this.dns.listen(index, this.names.gateway(index));
      });
    } catch (error) {
      this.release(index, slot);
      throw error;
    }
  }

  /**
   * Gives up the hold of `slot`. With the last one the bridge goes, in the background: taking it apart takes the kernel longer
   * than all else of a destroy. What stays of it is of no harm: nothing is attached, and the owner's next sandbox takes it up.
   */
  release(index: number, slot: number): void {
    const owner = this.owners.get(index);
    if (!owner?.members.delete(slot) || owner.members.size > 0) return;
    const removal = this.turn
      .with(index, async () => {
        // Somebody came meanwhile and holds this very entry, or another removal was first.
        if (owner.members.size > 0 || this.owners.get(index) !== owner) return;
        owner.responder?.stop();
        owner.responder = null;
        await this.remove(index);
        if (owner.members.size === 0) this.owners.delete(index);
      })
      .catch((err) => this.log.warn({ err }, "the bridge of an owner could not be removed"))
      .finally(() => this.removals.delete(removal));
    this.removals.add(removal);
  }

  /** Resolves when no bridge is being removed. */
  async settled(): Promise<void> {
    while (this.removals.size > 0) await Promise.all(this.removals);
  }

  /** Removes those of `indexes` that nobody needs, in the background: an earlier daemon left them. */
  async sweep(indexes: number[]): Promise<void> {
    for (const index of indexes)
      await this.turn.with(index, async () => {
        if (!this.owners.has(index)) await this.remove(index);
      });
  }

  /** Removes the bridges of `indexes`, there or not. */
  async remove(...indexes: number[]): Promise<void> {
    if (indexes.length === 0) return;
    const bridges = indexes.map(this.names.bridge);
    await ipForce(bridges.map((bridge) => `link delete ${bridge}`));
    const left = bridges.find((bridge) => existsSync(`/sys/class/net/${bridge}`));
    if (left) throw new Error(`could not remove bridge ${left}`);
    await this.tables.removeBridges(bridges);
  }

  private async create(index: number): Promise<void> {
    const bridge = this.names.bridge(index);
    if (!existsSync(`/sys/class/net/${bridge}`)) {
      await ip([
        `link add ${bridge} address ${BRIDGE_MAC} type bridge stp_state 0 forward_delay 0 mcast_snooping 0`,
      ]);
    }
    sysctl(`net/ipv6/conf/${bridge}/disable_ipv6`, "1");
    sysctl(`net/ipv4/conf/${bridge}/forwarding`, "1");
    sysctl(`net/ipv4/conf/${bridge}/send_redirects`, "0");
    await Promise.all([
      ip([
        `link set ${bridge} addrgenmode none`,
        `address replace ${this.names.gateway(index)}/24 dev ${bridge}`,
        `link set ${bridge} up`,
      ]),
      this.tables.addBridge(bridge),
    ]);
  }
}
