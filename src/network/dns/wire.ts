/** DNS messages on the wire, as much as a forwarder needs (RFC 1035 §4). Every input may be hostile; nothing here throws on it. */

export const TYPE = { A: 1, SOA: 6, PTR: 12, AAAA: 28, OPT: 41, IXFR: 251, AXFR: 252 } as const;
export const RCODE = { NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3, NOTIMP: 4, REFUSED: 5 } as const;

const HEADER = 12;
const MAX_NAME = 255;

export interface Query {
  id: number;
  opcode: number;
  /** Number of questions; the fields below are of the first, and only there when it is 1. */
  questions: number;
  labels: string[];
  type: number;
  class: number;
  /** Offset behind the question. */
  end: number;
}

/** The header and only question of a query; null when it is not a query or the question cannot be read. */
export function parseQuery(message: Uint8Array): Query | null {
  if (message.length < HEADER || (byte(message, 2) & 0x80) !== 0) return null;
  const query = {
    id: u16(message, 0),
    opcode: (byte(message, 2) >> 3) & 15,
    questions: u16(message, 4),
    labels: [] as string[],
    type: 0,
    class: 0,
    end: HEADER,
  };
  if (query.questions !== 1) return query;
  let at = HEADER;
  for (;;) {
    const length = byte(message, at++);
    if (length === 0) break;
    // A question is the first name of a message, so it has nothing to point to.
    if (length > 63 || at + length > message.length || at + length - HEADER > MAX_NAME) return null;
    query.labels.push(latin1(message.subarray(at, at + length)).toLowerCase());
    at += length;
  }
  if (at + 4 > message.length) return null;
  query.type = u16(message, at);
  query.class = u16(message, at + 2);
  query.end = at + 4;
  return query;
}

/** An answer of our own to `message`, with at most one record on the question's name. */
export function reply(
  message: Uint8Array,
  query: Query,
  rcode: number,
  record?: { type: number; ttlS: number; data: Uint8Array },
): Uint8Array {
  const question = query.questions === 1 ? message.subarray(HEADER, query.end) : new Uint8Array();
  const out = new Uint8Array(HEADER + question.length + (record ? 12 + record.data.length : 0));
  const view = new DataView(out.buffer);
  view.setUint16(0, query.id);
  // Response, opcode and RD as asked, authoritative when it is from our zone, recursion available.
  view.setUint8(2, 0x80 | (byte(message, 2) & 0x79) | (record ? 0x04 : 0));
  view.setUint8(3, 0x80 | rcode);
  view.setUint16(4, query.questions === 1 ? 1 : 0);
  view.setUint16(6, record ? 1 : 0);
  out.set(question, HEADER);
  if (record) {
    const at = HEADER + question.length;
    view.setUint16(at, 0xc000 | HEADER);
    view.setUint16(at + 2, record.type);
    view.setUint16(at + 4, 1);
    view.setUint32(at + 6, record.ttlS);
    view.setUint16(at + 10, record.data.length);
    out.set(record.data, at + 12);
  }
  return out;
}

/** `a.b` as length-prefixed labels. */
export function encodeName(name: string): Uint8Array {
  const parts = name.split(".").map((label) => [label.length, ...Buffer.from(label, "latin1")]);
  return Uint8Array.from([...parts.flat(), 0]);
}

/** True when `response` answers the question of `asked` (RFC 5452 §3: id and question must match). */
export function answers(asked: Uint8Array, end: number, response: Uint8Array): boolean {
  if (response.length < end || (byte(response, 2) & 0x80) === 0) return false;
  if (u16(response, 0) !== u16(asked, 0) || u16(response, 4) !== 1) return false;
  for (let i = HEADER; i < end; i++) if (lower(byte(response, i)) !== lower(byte(asked, i))) return false;
  return true;
}

export const rcodeOf = (response: Uint8Array): number => byte(response, 3) & 15;
export const isTruncated = (response: Uint8Array): boolean => (byte(response, 2) & 0x02) !== 0;

/** Offsets of the TTL fields of all records but OPT; null when the message is damaged. */
export function ttlOffsets(response: Uint8Array): number[] | null {
  if (response.length < HEADER) return null;
  let at: number | null = HEADER;
  for (let i = u16(response, 4); i > 0; i--) {
    at = skipName(response, at);
    if (at === null) return null;
    at += 4;
  }
  const offsets: number[] = [];
  for (let i = u16(response, 6) + u16(response, 8) + u16(response, 10); i > 0; i--) {
    at = skipName(response, at);
    if (at === null || at + 10 > response.length) return null;
    if (u16(response, at) !== TYPE.OPT) offsets.push(at + 4);
    at += 10 + u16(response, at + 8);
    if (at > response.length) return null;
  }
  return offsets;
}

export const u16 = (m: Uint8Array, at: number): number => (byte(m, at) << 8) | byte(m, at + 1);
export const u32 = (m: Uint8Array, at: number): number => u16(m, at) * 65536 + u16(m, at + 2);
export const latin1 = (m: Uint8Array): string =>
  Buffer.from(m.buffer, m.byteOffset, m.length).toString("latin1");
/** A copy of `message` with another id. */
export function withId(message: Uint8Array, id: number): Uint8Array {
  const copy = message.slice();
  copy[0] = id >> 8;
  copy[1] = id & 255;
  return copy;
}

const byte = (m: Uint8Array, at: number): number => m[at] ?? 0;
const lower = (c: number): number => (c >= 65 && c <= 90 ? c + 32 : c);

function skipName(message: Uint8Array, from: number): number | null {
  let at = from;
  while (at < message.length) {
    const length = byte(message, at);
    if (length >= 0xc0) return at + 2;
    if (length > 63) return null;
    at += 1 + length;
    if (length === 0) return at;
  }
  return null;
}
