/** The little of DNS messages (RFC 1035) that a forwarding resolver with a few names of its own needs. */

export interface Question {
  id: number;
  /** Lower case, without the trailing dot. */
  name: string;
  type: number;
  class: number;
  /** Recursion desired. */
  rd: boolean;
  /** Offset behind the question. */
  end: number;
}

export const TYPE = { A: 1, PTR: 12, AAAA: 28 } as const;
export const RCODE = { ok: 0, formErr: 1, servFail: 2, nxDomain: 3 } as const;

/** null for anything that is not a query with exactly one well-formed question. */
export function parseQuestion(message: Uint8Array): Question | null {
  if (message.length < 17 || message.length > 65_535) return null;
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
  const flags = view.getUint16(2);
  if (flags & 0x8000 || (flags & 0x7800) !== 0 || view.getUint16(4) !== 1) return null;
  const labels: string[] = [];
  let at = 12;
  for (;;) {
    const length = message[at];
    if (length === undefined || length > 63) return null;
    at++;
    if (length === 0) break;
    if (at + length > message.length || at - 12 > 255) return null;
    labels.push(String.fromCharCode(...message.subarray(at, at + length)));
    at += length;
  }
  if (at + 4 > message.length) return null;
  return {
    id: view.getUint16(0),
    name: labels.join(".").toLowerCase(),
    type: view.getUint16(at),
    class: view.getUint16(at + 2),
    rd: (flags & 0x0100) !== 0,
    end: at + 4,
  };
}

/** An answer to `query`: the given record data (A: 4 bytes, PTR: an encoded name), or none. */
export function answer(
  query: Uint8Array,
  question: Question,
  rcode: number,
  data: Uint8Array[] = [],
  ttl = 5,
): Uint8Array {
  const records = data.map((rdata) => {
    const record = new Uint8Array(12 + rdata.length);
    const view = new DataView(record.buffer);
    view.setUint16(0, 0xc00c); // the name of the question
    view.setUint16(2, question.type);
    view.setUint16(4, question.class);
    view.setUint32(6, ttl);
    view.setUint16(10, rdata.length);
    record.set(rdata, 12);
    return record;
  });
  const head = query.slice(0, question.end);
  const view = new DataView(head.buffer);
  view.setUint16(2, 0x8480 | (question.rd ? 0x0100 : 0) | rcode);
  view.setUint16(6, records.length);
  view.setUint16(8, 0);
  view.setUint16(10, 0);
  return Buffer.concat([head, ...records]);
}

/** Header-only FORMERR for a message that could not be parsed; null when not even its id is there. */
export function formError(query: Uint8Array): Uint8Array | null {
  if (query.length < 12 || query[2]! & 0x80) return null;
  const head = new Uint8Array(12);
  head.set(query.subarray(0, 2));
  head[2] = 0x80;
  head[3] = RCODE.formErr;
  return head;
}

/** Labels of a domain name. */
export function encodeName(name: string): Uint8Array {
  return Buffer.concat([
    ...name.split(".").map((label) => Buffer.from([label.length, ...Buffer.from(label)])),
    Buffer.from([0]),
  ]);
}

/** Smallest TTL of the answers, seconds; 0 when the message cannot be walked. */
export function smallestTtl(message: Uint8Array, question: Question): number {
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
  let ttl = 3600;
  let at = question.end;
  const count = view.getUint16(6) + view.getUint16(8);
  if (count === 0) return 0;
  for (let i = 0; i < count; i++) {
    for (;;) {
      const length = message[at];
      if (length === undefined) return 0;
      if (length >= 0xc0) {
        at += 2;
        break;
      }
      at += 1 + length;
      if (length === 0) break;
    }
    if (at + 10 > message.length) return 0;
    ttl = Math.min(ttl, view.getUint32(at + 4));
    at += 10 + view.getUint16(at + 8);
  }
  return ttl;
}
