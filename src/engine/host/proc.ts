/** What /proc tells about VMM processes. */
import { readdirSync, readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";

interface ProcStat {
  state: string;
  /** Clock ticks since host boot. */
  startTime: number;
  cpuTicks: number;
}

/** null when there is no such process. */
export function procStat(pid: number): ProcStat | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "latin1");
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    return {
      state: fields[0]!,
      startTime: Number(fields[19]),
      cpuTicks: Number(fields[11]) + Number(fields[12]),
    };
  } catch {
    return null;
  }
}

/** True while the process of that identity exists and is not a zombie. */
export function isAlive(pid: number, startTime: number): boolean {
  const stat = procStat(pid);
  return stat !== null && stat.startTime === startTime && stat.state !== "Z" && stat.state !== "X";
}

/** Real user id, or null. */
export function uidOf(pid: number): number | null {
  try {
    return Number(readFileSync(`/proc/${pid}/status`, "latin1").match(/^Uid:\s+(\d+)/m)?.[1]);
  } catch {
    return null;
  }
}

/** Live processes by their user: one look at all of /proc. */
export function liveUsers(): Map<number, number[]> {
  const found = new Map<number, number[]>();
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const pid = Number(name);
    const uid = uidOf(pid);
    if (!uid || procStat(pid)?.state === "Z") continue;
    found.set(uid, [...(found.get(uid) ?? []), pid]);
  }
  return found;
}

/** Bytes, from smaps_rollup: the kernel walks all page tables for it, which must not hold up the daemon. */
export async function memoryOf(pid: number): Promise<{ rssBytes: number; pssBytes: number }> {
  try {
    const text = await readFile(`/proc/${pid}/smaps_rollup`, "latin1");
    const kb = (key: string) => Number(text.match(new RegExp(`^${key}:\\s+(\\d+)`, "m"))?.[1] ?? 0) * 1024;
    return { rssBytes: kb("Rss"), pssBytes: kb("Pss") };
  } catch {
    return { rssBytes: 0, pssBytes: 0 };
  }
}
