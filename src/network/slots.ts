/** Who holds which slot and which address. Touches nothing but memory. */
import { AppError } from "../lib/errors.ts";
import { FIRST_HOST, LAST_HOST, MAX_SLOTS, type Names } from "./names.ts";
import type { Owner, SandboxNet } from "./network.ts";

export class Slots {
  /** Slots that are planned, attached, prepared, or being removed. */
  private readonly taken = new Set<number>();
  private readonly hosts = new Map<number, Set<number>>();

  constructor(private readonly names: Names) {}

  /** Lowest free slot ≥ 1, now taken; null when all are. */
  takeSlot(): number | null {
    for (let slot = 1; slot <= MAX_SLOTS; slot++) {
      if (this.taken.has(slot)) continue;
      this.taken.add(slot);
      return slot;
    }
    return null;
  }

  /** Nobody gets `slot` until it is freed. */
  hold(slot: number): void {
    this.taken.add(slot);
  }

  freeSlot(slot: number): void {
    this.taken.delete(slot);
  }

  /** A network for `owner` on `ready` (a taken slot), or on the lowest free one. Throws limit_reached. */
  plan(owner: Owner, ready: number | undefined): SandboxNet {
    const used = this.hosts.get(owner.subnetIndex) ?? new Set<number>();
    let host = FIRST_HOST;
    while (used.has(host)) host++;
    if (host > LAST_HOST) {
      throw new AppError(
        "limit_reached",
        `all ${LAST_HOST - FIRST_HOST + 1} addresses of this user are in use`,
        {
          remedy: "destroy a sandbox that is no longer needed",
        },
      );
    }
    const slot = ready ?? this.takeSlot();
    if (slot === null) {
      throw new AppError("limit_reached", `all ${MAX_SLOTS} networks of this host are in use`, {
        remedy: "destroy sandboxes that are no longer needed",
      });
    }
    this.hosts.set(owner.subnetIndex, used.add(host));
    return this.names.net(owner, slot, host);
  }

  /** Marks what a stored sandbox holds. */
  reserve(owner: Owner, net: SandboxNet): void {
    this.taken.add(net.slot);
    const used = this.hosts.get(owner.subnetIndex) ?? new Set<number>();
    this.hosts.set(owner.subnetIndex, used.add(hostPart(net)));
  }

  freeAddress(owner: Owner, net: SandboxNet): void {
    const used = this.hosts.get(owner.subnetIndex);
    used?.delete(hostPart(net));
    if (used?.size === 0) this.hosts.delete(owner.subnetIndex);
  }
}

const hostPart = (net: SandboxNet): number => Number(net.address.split(".")[3]);
