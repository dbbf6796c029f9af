/** Names and numbers of everything the network creates on the host. A prefix separates daemons that share a host. */
import { badRequest } from "../http/errors.ts";

export interface Naming {
  /** 2–4 letters. */
  prefix: string;
  /** Added to the second octet of every subnet, to the resolver's last octet and (× 4096) to the uids. */
  base: number;
}

/** Highest slot number; slot n has uid `uidBase + n`. */
export const MAX_SLOT = 4000;
const UID_BASE = 200_000;

export const names = ({ prefix, base }: Naming) => ({
  netns: (slot: number) => `${prefix}${slot}`,
  veth: (slot: number) => `${prefix}v${slot}`,
  bridge: (subnetIndex: number) => `${prefix}b${subnetIndex}`,
  bridgeGlob: `${prefix}b*`,
  vethGlob: `${prefix}v*`,
  table: `bhatti_${prefix}`,
  dummy: `${prefix}dns`,
  /** Address of the resolver on the host. */
  resolver: `169.254.78.${53 + base}`,
  uid: (slot: number) => UID_BASE + base * 4096 + slot,
  isNetns: (name: string) => new RegExp(`^${prefix}\\d+$`).test(name),
  isLink: (name: string) => new RegExp(`^${prefix}([vb]\\d+|dns)$`).test(name),
  subnet: (subnetIndex: number) => subnet(subnetIndex, base),
});

export type Names = ReturnType<typeof names>;

/** First three octets of an owner's /24: 10.hi.lo with hi = index div 255, lo = index mod 255 (spec/engine §6.1). */
function subnet(index: number, base: number): string {
  if (!Number.isInteger(index) || index < 1 || index > 65_024)
    throw badRequest(`subnet index ${index} is out of range`);
  return `10.${(Math.floor(index / 255) + base) % 256}.${index % 255}`;
}
