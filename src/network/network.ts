/** The network of sandboxes: a namespace each, a bridge and subnet per owner. See ARCHITECTURE.md, Network. */

/** Same in every guest, so that any clone fits into any namespace. */
export const GUEST = {
  address: "169.254.77.2",
  gateway: "169.254.77.1",
  prefix: 30,
  mac: "02:00:00:00:00:02",
  tapMac: "02:00:00:00:00:01",
  tap: "tap0",
  agentPort: 1024,
} as const;

export interface Owner {
  userId: string;
  /** 1-based; owns 10.hi.lo.0/24 with hi = index div 255, lo = index mod 255. */
  subnetIndex: number;
}

/** A namespace that is in use by one sandbox. */
export interface SandboxNet {
  /** Number of the slot; also decides `netns` and `uid`. Stored with the sandbox. */
  slot: number;
  /** Unprivileged user of the VMM; owns the TAP. Unique per slot. */
  uid: number;
  netns: string;
  /** Routable IPv4 address of the sandbox on its owner's bridge, as users see it. */
  address: string;
  /** Address of the bridge on the host. */
  gateway: string;
}

export interface Network {
  /**
   * Brings up the table, the pool and the responder. `inUse` are the sandboxes in the store, with the networks they hold:
   * those are kept (or built again after a host reboot); everything else that carries our names is removed.
   */
  start(inUse: { owner: Owner; net: SandboxNet; name: string; live: boolean }[]): Promise<void>;
  /** Picks slot and address without touching the host, so that they can be journalled first. */
  plan(owner: Owner, slot?: number): SandboxNet;
  /** Takes a ready namespace for a VM that has no owner yet; null when none is ready. Its slot goes into `plan` later. */
  borrow(): { slot: number; uid: number; netns: string } | null;
  /** Removes a borrowed namespace that never got an owner. */
  giveUp(slot: number): Promise<void>;
  /** First and last uid that this network may give to a VMM. */
  uids(): { from: number; to: number };
  /**
   * Gives back a planned or attached network: namespace removed or recycled clean, address free, name gone from DNS. `last` runs
   * before slot and address can be somebody else's; when it throws they stay held.
   */
  release(owner: Owner, net: SandboxNet, last?: () => Promise<void>): Promise<void>;
  /** Makes the namespace of a plan ready for a VMM: from the pool when there is one. Idempotent (also for wakes). */
  attach(owner: Owner, net: SandboxNet): Promise<void>;
  /** Names for the owner's DNS view. */
  setName(owner: Owner, net: SandboxNet, name: string): void;
  /** Forgets connection tracking entries of the sandbox; called at each wake from cold. */
  flush(net: SandboxNet): Promise<void>;
  /** Stops pool filling and the responders. Live sandboxes keep their networks. */
  stop(): Promise<void>;
  /** Removes everything this class ever created on the host (uninstall). */
  purge(): Promise<void>;
}
