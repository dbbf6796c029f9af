/** Answers of the upstreams, per owner, as long as their TTLs allow. Bounded in number, and in bytes for all owners together. */
import { isTruncated, RCODE, rcodeOf, ttlOffsets, withId } from "./wire.ts";

const MAX_ENTRIES = 512;
const MAX_BYTES = 2048;
const MAX_TTL_S = 300;
const MAX_NEGATIVE_TTL_S = 30;
/** What an entry costs beside key and answer, about. */
const ENTRY_BYTES = 256;

/** The memory that all caches share. Who finds it full makes room among his own entries. */
export class CacheSpace {
  used = 0;
  constructor(readonly bytes = 32 * 1024 * 1024) {}
}

interface Entry {
  response: Buffer;
  ttls: number[];
  at: number;
  lifetimeS: number;
}

export class Cache {
  private readonly entries = new Map<string, Entry>();

  /** @param now seconds, monotonic */
  constructor(
    private readonly space = new CacheSpace(),
    private readonly now: () => number = () => performance.now() / 1000,
  ) {}

  /** The stored answer with `id` and with TTLs reduced by its age, or null. */
  get(key: string, id: number): Buffer | null {
    const entry = this.entries.get(key);
    if (!entry) return null;
    const age = this.now() - entry.at;
    if (age >= entry.lifetimeS) {
      this.drop(key);
      return null;
    }
    const copy = withId(entry.response, id);
    for (const at of entry.ttls) copy.writeUInt32BE(Math.max(0, copy.readUInt32BE(at) - Math.floor(age)), at);
    return copy;
  }

  /** Keeps `response` if it may be kept. The oldest entry goes when there is no room. */
  put(key: string, response: Buffer): void {
    const rcode = rcodeOf(response);
    if (rcode !== RCODE.NOERROR && rcode !== RCODE.NXDOMAIN) return;
    if (isTruncated(response) || response.length > MAX_BYTES || key.length > MAX_BYTES) return;
    const ttls = ttlOffsets(response);
    if (!ttls || ttls.length === 0) return;
    const cap = rcode === RCODE.NOERROR ? MAX_TTL_S : MAX_NEGATIVE_TTL_S;
    const lifetimeS = Math.min(cap, ...ttls.map((at) => response.readUInt32BE(at)));
    if (lifetimeS <= 0) return;
    this.drop(key);
    const entry = { response: Buffer.from(response), ttls, at: this.now(), lifetimeS };
    const bytes = size(key, entry);
    const full = () => this.entries.size >= MAX_ENTRIES || this.space.used + bytes > this.space.bytes;
    while (full()) {
      const oldest = this.entries.keys().next();
      if (oldest.done) return;
      this.drop(oldest.value);
    }
    this.entries.set(key, entry);
    this.space.used += bytes;
  }

  /** Gives the space back. */
  clear(): void {
    for (const key of [...this.entries.keys()]) this.drop(key);
  }

  private drop(key: string): void {
    const entry = this.entries.get(key);
    if (!entry) return;
    this.entries.delete(key);
    this.space.used -= size(key, entry);
  }
}

const size = (key: string, { response, ttls }: Entry): number =>
  ENTRY_BYTES + key.length + response.length + 8 * ttls.length;
