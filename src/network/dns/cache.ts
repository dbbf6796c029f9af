/** Answers of the upstreams, per owner, as long as their TTLs allow. Bounded in number and in bytes. */
import { isTruncated, RCODE, rcodeOf, ttlOffsets, u32, withId } from "./wire.ts";

const MAX_ENTRIES = 512;
const MAX_BYTES = 2048;
const MAX_TTL_S = 300;
const MAX_NEGATIVE_TTL_S = 30;

interface Entry {
  response: Uint8Array;
  ttls: number[];
  at: number;
  lifetimeS: number;
}

export class Cache {
  private readonly entries = new Map<string, Entry>();

  /** @param now seconds, monotonic */
  constructor(private readonly now: () => number = () => performance.now() / 1000) {}

  /** The stored answer with `id` and with TTLs reduced by its age, or null. */
  get(key: string, id: number): Uint8Array | null {
    const entry = this.entries.get(key);
    if (!entry) return null;
    const age = this.now() - entry.at;
    if (age >= entry.lifetimeS) {
      this.entries.delete(key);
      return null;
    }
    const copy = withId(entry.response, id);
    const view = new DataView(copy.buffer);
    for (const at of entry.ttls) view.setUint32(at, Math.max(0, view.getUint32(at) - Math.floor(age)));
    return copy;
  }

  /** Keeps `response` if it may be kept. The oldest entry goes when there is no room. */
  put(key: string, response: Uint8Array): void {
    const rcode = rcodeOf(response);
    if (rcode !== RCODE.NOERROR && rcode !== RCODE.NXDOMAIN) return;
    if (isTruncated(response) || response.length > MAX_BYTES || key.length > MAX_BYTES) return;
    const ttls = ttlOffsets(response);
    if (!ttls || ttls.length === 0) return;
    const cap = rcode === RCODE.NOERROR ? MAX_TTL_S : MAX_NEGATIVE_TTL_S;
    const lifetimeS = Math.min(cap, ...ttls.map((at) => u32(response, at)));
    if (lifetimeS <= 0) return;
    this.entries.delete(key);
    if (this.entries.size >= MAX_ENTRIES) this.entries.delete(this.entries.keys().next().value as string);
    this.entries.set(key, { response: response.slice(), ttls, at: this.now(), lifetimeS });
  }
}
