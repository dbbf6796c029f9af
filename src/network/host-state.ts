/** What of ours is on the host, read from the kernel. */
import { readdirSync, writeFileSync } from "node:fs";
import type { Names } from "./names.ts";

export interface HostState {
  /** Slots that have a namespace or a veth, whole or not. */
  slots: Set<number>;
  /** Subnet indexes that have a bridge. */
  bridges: Set<number>;
}

export function readHostState(names: Names): HostState {
  const slots = new Set<number>();
  const bridges = new Set<number>();
  for (const name of list("/run/netns")) add(slots, names.slotOfNetns(name));
  for (const name of list("/sys/class/net")) {
    add(slots, names.slotOfVeth(name));
    add(bridges, names.indexOfBridge(name));
  }
  return { slots, bridges };
}

/** Writes /proc/sys/`path`; a setting that this kernel does not have (IPv6 off) is skipped. */
export function sysctl(path: string, value: string): void {
  try {
    writeFileSync(`/proc/sys/${path}`, value);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}

function list(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch {
    return [];
  }
}

const add = (to: Set<number>, value: number | null) => value !== null && to.add(value);
