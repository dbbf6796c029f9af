/** The host's tables as they should be, and back again when somebody else's firewall has swept them away. */
import type { Logger } from "pino";
import {
  addBridge,
  addPort,
  hostRules,
  noHostRules,
  type PortBinding,
  removeBridge,
  removePort,
} from "./host-rules.ts";
import type { Names } from "./names.ts";
import { Nft } from "./nft.ts";
import { RuleWatch } from "./rule-watch.ts";
import { run } from "./run.ts";

export class HostTables {
  private readonly nft = new Nft();
  private readonly ports = new Map<string, PortBinding>();
  private readonly bridges = new Set<string>();
  private readonly watch: RuleWatch;
  /** What `listed` says of tables that nobody has touched. */
  private reference: string[] | null = null;
  private mending: Promise<void> | null = null;
  private started = false;

  constructor(
    private readonly names: Names,
    private readonly allowedPrivate: string[],
    private readonly log: Logger,
  ) {
    this.watch = new RuleWatch(names.table, log, () => this.mend());
  }

  /** Replaces both tables in one transaction, and keeps them from then on. */
  async start(state: { ports: PortBinding[]; bridges: string[] }): Promise<void> {
    for (const port of state.ports) this.ports.set(port.veth, port);
    for (const bridge of state.bridges) this.bridges.add(bridge);
    await this.replace();
    this.started = true;
    this.watch.start();
  }

  /** The tables stay as they are. */
  async stop(): Promise<void> {
    this.watch.stop();
    await this.mending?.catch(() => {});
  }

  /** Takes both tables away. */
  async remove(): Promise<void> {
    await this.stop();
    await this.nft.apply(noHostRules(this.names));
  }

  addPort(port: PortBinding): Promise<void> {
    this.ports.set(port.veth, port);
    return this.change(addPort(this.names, port));
  }

  removePort(port: PortBinding): Promise<void> {
    this.ports.delete(port.veth);
    return this.change(removePort(this.names, port));
  }

  addBridge(bridge: string): Promise<void> {
    this.bridges.add(bridge);
    return this.change(addBridge(this.names, bridge));
  }

  removeBridges(bridges: string[]): Promise<void> {
    for (const bridge of bridges) this.bridges.delete(bridge);
    return this.change(bridges.map((bridge) => removeBridge(this.names, bridge)).join(""));
  }

  /** Does nothing before `start`: then there are no tables, or those of another process, which `start` replaces. */
  private async change(text: string): Promise<void> {
    if (!this.started) return;
    try {
      await this.nft.apply(text);
    } catch (error) {
      // Are the tables gone? Then they come back with this change in them.
      if (!(await this.mend())) throw error;
    }
  }

  /** Puts the tables back unless they are whole. False when they were. */
  private async mend(): Promise<boolean> {
    if (this.mending) {
      await this.mending;
      return true;
    }
    if (this.reference !== null && holds(await this.listed(), this.reference)) return false;
    this.mending ??= this.replace().finally(() => {
      this.mending = null;
    });
    await this.mending;
    this.log.warn("another program removed firewall rules of bhatti; they are back");
    return true;
  }

  private async replace(): Promise<void> {
    await this.nft.apply(() =>
      hostRules(this.names, {
        ports: [...this.ports.values()],
        bridges: [...this.bridges],
        allowedPrivate: this.allowedPrivate,
      }),
    );
    this.reference = await this.listed();
  }

  /** Lines of both tables, without what changes by itself: elements and counters. Null when one is not there. */
  private async listed(): Promise<string[] | null> {
    try {
      const tables = ["inet", "bridge"].map((family) =>
        run(["nft", "-t", "list", "table", family, this.names.table]),
      );
      return (await Promise.all(tables))
        .join("")
        .replace(/packets \d+ bytes \d+/g, "")
        .split("\n");
    } catch {
      return null;
    }
  }
}

/** Every wanted line is there, in order. What somebody has added is theirs to keep. */
function holds(listed: string[] | null, wanted: string[]): boolean {
  let found = 0;
  for (const line of listed ?? []) if (line === wanted[found]) found++;
  return found === wanted.length;
}
