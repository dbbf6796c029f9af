/** Both ends of a connection prove that they know the token; neither says it. Twin: lohar/internal/proto/auth.go. */
import { createHash, createHmac, randomBytes, timingSafeEqual } from "node:crypto";

const NONCE_BYTES = 32;

export const newNonce = (): Buffer => randomBytes(NONCE_BYTES);

/** 32 bytes from WELCOME, or null for anything else. */
export function parseNonce(value: unknown): Buffer | null {
  return typeof value === "string" && /^[0-9a-f]{64}$/.test(value) ? Buffer.from(value, "hex") : null;
}

const prove = (label: string, token: string, host: Buffer, guest: Buffer): Buffer =>
  createHmac("sha256", createHash("sha256").update(token).digest())
    .update(`${label} 3\0`)
    .update(host)
    .update(guest)
    .digest();

/** What the host sends. */
export const hostProof = (token: string, host: Buffer, guest: Buffer): Buffer =>
  prove("bhatti host", token, host, guest);

/** What the agent sends. */
export const guestProof = (token: string, host: Buffer, guest: Buffer): Buffer =>
  prove("bhatti guest", token, host, guest);

/** Whether the peer, by what it sent, knows the token. */
export function guestProves(token: string, host: Buffer, guest: Buffer, proof: unknown): boolean {
  const theirs = parseNonce(proof);
  return theirs !== null && timingSafeEqual(theirs, guestProof(token, host, guest));
}
