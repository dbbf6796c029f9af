/**
 * DNS messages on the wire, as much as a forwarder needs. The parsing is dns-packet's; answers of the upstreams are passed on
 * byte for byte, because no library knows every record. Every input may be hostile; nothing here throws on it.
 */
import packet, { type Answer } from "dns-packet";

/** Parts of the library that its types leave out. `bytes` is the length of what the last call read. */
interface Part<T> {
  decode: { (message: Buffer, offset: number): T; bytes: number };
}
const { name, question, answer } = packet as unknown as {
  name: Part<string>;
  question: Part<Question>;
  answer: Part<Answer>;
};

interface Question {
  name: string;
  type: string;
  class: string;
}

export const RCODE = { NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3, NOTIMP: 4, REFUSED: 5 } as const;

const HEADER = 12;
const RESPONSE = 0x8000;
const OPCODE = 0x7800;

export interface Query extends Question {
  id: number;
  flags: number;
  /** Number of questions; name, type and class are of the only one, and empty when it is not 1. */
  questions: number;
}

/** The header and only question of a query; null when it is not a query or the question cannot be read. */
export function parseQuery(message: Buffer): Query | null {
  const flags = flagsOf(message);
  if (flags === null || (flags & RESPONSE) !== 0) return null;
  const query = { id: message.readUInt16BE(0), flags, questions: message.readUInt16BE(4) };
  if (query.questions !== 1) return { ...query, name: "", type: "", class: "" };
  const asked = firstQuestion(message);
  return asked && { ...query, ...asked };
}

export const opcodeOf = (query: Query): number => (query.flags & OPCODE) >> 11;

/** An answer of our own, with at most one record; with one it comes from our zone, so it is authoritative. */
export function reply(
  query: Query,
  rcode: number,
  record?: { type: "A" | "PTR"; ttlS: number; data: string },
): Buffer {
  const asked = { name: query.name, type: query.type, class: query.class } as packet.Question;
  return packet.encode({
    type: "response",
    id: query.id,
    // Opcode and 'recursion desired' as asked.
    flags:
      (query.flags & (OPCODE | packet.RECURSION_DESIRED)) |
      packet.RECURSION_AVAILABLE |
      (record ? packet.AUTHORITATIVE_ANSWER : 0) |
      rcode,
    questions: query.questions === 1 ? [asked] : [],
    answers: record ? [{ type: record.type, name: query.name, ttl: record.ttlS, data: record.data }] : [],
  });
}

/** True when `response` answers the question of `asked` (RFC 5452 §3: id and question must match). */
export function answers(asked: Buffer, response: Buffer): boolean {
  const flags = flagsOf(response);
  if (flags === null || (flags & RESPONSE) === 0 || response.readUInt16BE(4) !== 1) return false;
  if (response.readUInt16BE(0) !== asked.readUInt16BE(0)) return false;
  const [ours, theirs] = [firstQuestion(asked), firstQuestion(response)];
  return (
    ours !== null &&
    theirs !== null &&
    ours.name === theirs.name &&
    ours.type === theirs.type &&
    ours.class === theirs.class
  );
}

export const rcodeOf = (response: Buffer): number => (flagsOf(response) ?? RCODE.SERVFAIL) & 15;
export const isTruncated = (response: Buffer): boolean =>
  ((flagsOf(response) ?? 0) & packet.TRUNCATED_RESPONSE) !== 0;

/** Offsets of the TTL fields of all records but OPT; null when the message is damaged or holds what cannot be read. */
export function ttlOffsets(response: Buffer): number[] | null {
  try {
    let at = HEADER;
    for (let i = response.readUInt16BE(4); i > 0; i--) {
      question.decode(response, at);
      at += question.decode.bytes;
    }
    const offsets: number[] = [];
    const records = response.readUInt16BE(6) + response.readUInt16BE(8) + response.readUInt16BE(10);
    for (let i = records; i > 0; i--) {
      name.decode(response, at);
      const ttlAt = at + name.decode.bytes + 4;
      if (answer.decode(response, at).type !== "OPT") offsets.push(ttlAt);
      at += answer.decode.bytes;
    }
    return at === response.length ? offsets : null;
  } catch {
    return null;
  }
}

/** A copy of `message` with another id. */
export function withId(message: Buffer, id: number): Buffer {
  const copy = Buffer.from(message);
  copy.writeUInt16BE(id, 0);
  return copy;
}

const flagsOf = (message: Buffer): number | null =>
  message.length < HEADER ? null : message.readUInt16BE(2);

function firstQuestion(message: Buffer): Question | null {
  try {
    const asked = question.decode(message, HEADER);
    return { ...asked, name: asked.name.toLowerCase() };
  } catch {
    return null;
  }
}
