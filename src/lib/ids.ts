/** Random identifiers, in the formats that v1's clients know. */
import { randomBytes } from "node:crypto";

/** `bytes` random bytes as lower-case hex. */
export const hex = (bytes: number): string => randomBytes(bytes).toString("hex");
/** 16 hex digits: sandboxes, VMs, snapshots. */
export const newId = (): string => hex(8);
/** 64 hex digits: agent tokens. */
export const newToken = (): string => hex(32);
