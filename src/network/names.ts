/** Names, users and addresses of the network; everything is computed from a slot or a subnet index. docs/network.md */
import type { Owner, SandboxNet } from "./network.ts";

/** Slots of one daemon. A slot is a namespace, a uid and an interface name. */
export const MAX_SLOTS = 4000;
/** First and last host part that a sandbox may get; .1 is the gateway. */
export const FIRST_HOST = 2;
export const LAST_HOST = 254;
/** MAC of every owner bridge: the same everywhere, so that it never changes when ports come and go. */
export const BRIDGE_MAC = "02:62:68:00:00:01";

export class Names {
  /**
   * @param prefix two to four lower-case letters that start every name; no prefix may be the start of another's names
   * @param base added to the second octet of every subnet (mod 256); also moves the uids
   */
  constructor(
    readonly prefix = "bh",
    readonly base = 0,
  ) {
    if (!/^[a-z]{2,4}$/.test(prefix))
      throw new Error(`network prefix '${prefix}' must be 2 to 4 letters a-z`);
    this.table = prefix === "bh" ? "bhatti" : `bhatti_${prefix}`;
    this.bridges = `${prefix}b*`;
    this.veths = `${prefix}v*`;
  }
  /** nft table in the families inet and bridge. */
  readonly table: string;
  /** nft wildcard of all owner bridges. */
  readonly bridges: string;
  /** nft wildcard of all bridge ports. */
  readonly veths: string;

  netns = (slot: number): string => `${this.prefix}${slot}`;
  veth = (slot: number): string => `${this.prefix}v${slot}`;
  bridge = (index: number): string => `${this.prefix}b${index}`;
  uid = (slot: number): number => 200_000 + this.base * 5000 + slot;

  /** "10.hi.lo" of an owner. Throws RangeError outside 1…65024. */
  subnet(index: number): string {
    if (!Number.isInteger(index) || index < 1 || index > 65_024)
      throw new RangeError(`subnet index ${index}`);
    return `10.${(Math.floor(index / 255) + this.base) % 256}.${index % 255}`;
  }

  gateway = (index: number): string => `${this.subnet(index)}.1`;

  net(owner: Owner, slot: number, host: number): SandboxNet {
    return {
      slot,
      uid: this.uid(slot),
      netns: this.netns(slot),
      address: `${this.subnet(owner.subnetIndex)}.${host}`,
      gateway: this.gateway(owner.subnetIndex),
    };
  }

  /** Slot of one of our namespaces, or null for anybody else's. */
  slotOfNetns = (name: string): number | null => this.numberAfter(this.prefix, name);
  slotOfVeth = (name: string): number | null => this.numberAfter(`${this.prefix}v`, name);
  indexOfBridge = (name: string): number | null => this.numberAfter(`${this.prefix}b`, name);

  private numberAfter(start: string, name: string): number | null {
    const rest = name.startsWith(start) ? name.slice(start.length) : "";
    return /^[1-9]\d{0,4}$/.test(rest) ? Number(rest) : null;
  }
}

/** MAC of a sandbox on its bridge: made from the address, so that no neighbour cache can ever be stale. */
export function macOf(address: string): string {
  const octets = address.split(".").map((part) => Number(part).toString(16).padStart(2, "0"));
  return `02:61:${octets.join(":")}`;
}
