/** Names of one owner's sandboxes: `web`, `web.internal`, and `web.sb` as earlier versions had it. */
import { type Query, RCODE, reply } from "./wire.ts";

/** Short, because an address passes to another sandbox when the name does. */
const TTL_S = 5;

export class Zone {
  private readonly addresses = new Map<string, string>();
  private readonly namesOf = new Map<string, string>();

  /** @param subnet "10.hi.lo": reverse look-ups in it are answered here alone */
  constructor(private readonly subnet: string) {}

  /** `address` is now called `name`, and by no other name. */
  set(name: string, address: string): void {
    this.remove(address);
    const key = name.toLowerCase();
    const former = this.addresses.get(key);
    if (former) this.namesOf.delete(former);
    this.addresses.set(key, address);
    this.namesOf.set(address, key);
  }

  remove(address: string): void {
    const name = this.namesOf.get(address);
    if (name === undefined) return;
    this.namesOf.delete(address);
    this.addresses.delete(name);
  }

  /** Name and address of everybody. */
  entries = (): [string, string][] => [...this.addresses];

  /** The answer to a question about the zone; null when it is for the upstreams. */
  answer(query: Query): Buffer | null {
    const labels = query.name.split(".");
    const [name = "", suffix] = labels;
    if (labels.length === 1 || (labels.length === 2 && (suffix === "internal" || suffix === "sb"))) {
      const address = this.addresses.get(name);
      if (address === undefined) return suffix === "internal" ? reply(query, RCODE.NXDOMAIN) : null;
      if (query.type !== "A") return reply(query, RCODE.NOERROR);
      return reply(query, RCODE.NOERROR, { type: "A", ttlS: TTL_S, data: address });
    }
    if (labels.length === 6 && labels[4] === "in-addr" && labels[5] === "arpa") {
      const address = labels.slice(0, 4).reverse().join(".");
      if (!address.startsWith(`${this.subnet}.`)) return null;
      const owner = this.namesOf.get(address);
      if (owner === undefined) return reply(query, RCODE.NXDOMAIN);
      if (query.type !== "PTR") return reply(query, RCODE.NOERROR);
      return reply(query, RCODE.NOERROR, { type: "PTR", ttlS: TTL_S, data: `${owner}.internal` });
    }
    return null;
  }
}
