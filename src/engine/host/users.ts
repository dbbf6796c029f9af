/** VMMs by their users: each runs as one that nobody else has. */
import { liveUsers } from "./proc.ts";

/** How long a killed process may take to be gone, ms. */
const KILL_MS = 5000;

/** Users in `from`…`to` that have a live process. */
export function liveUids(from: number, to: number): Set<number> {
  return new Set([...liveUsers().keys()].filter((uid) => uid >= from && uid <= to));
}

/** Kills every process of these users; returns the users whose processes do not end. */
export async function killUids(uids: Iterable<number>): Promise<Set<number>> {
  const wanted = new Set(uids);
  const end = Date.now() + KILL_MS;
  while (wanted.size > 0) {
    const live = liveUsers();
    for (const uid of wanted) {
      if (!live.has(uid)) wanted.delete(uid);
      for (const pid of live.get(uid) ?? []) {
        try {
          process.kill(pid, "SIGKILL");
        } catch {}
      }
    }
    if (wanted.size === 0 || Date.now() > end) break;
    await Bun.sleep(5);
  }
  return wanted;
}
