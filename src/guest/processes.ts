/** What runs in the guest, as the agent reads it from /proc. */
import { type Connection, errorOf, protocolError } from "./connection.ts";
import { FRAME } from "./frames.ts";
import type { Process } from "./guest.ts";

/** Kept of one answer; a guest that has more is cut there. */
const MAX_PROCESSES = 10_000;
/** Bytes read of one answer. */
const MAX_BYTES = 16 << 20;

export async function listProcesses(c: Connection): Promise<Process[]> {
  await c.request("processes");
  const list: Process[] = [];
  let left = MAX_BYTES;
  for (;;) {
    const frame = await c.next();
    if (frame.type === FRAME.error) throw errorOf(frame);
    if (frame.type === FRAME.end) break;
    left -= frame.payload.length;
    if (frame.type !== FRAME.data || left < 0) throw protocolError();
    for (const entry of parsed(frame.payload)) if (list.length < MAX_PROCESSES) list.push(processOf(entry));
  }
  await c.result();
  return list.sort((a, b) => a.pid - b.pid);
}

function parsed(payload: Uint8Array): unknown[] {
  try {
    const batch: unknown = JSON.parse(new TextDecoder().decode(payload));
    if (Array.isArray(batch)) return batch;
  } catch {}
  throw protocolError();
}

function processOf(value: unknown): Process {
  const r = (value ?? {}) as Record<string, unknown>;
  const { pid, ppid, uid, state, rss_kb: rssKb, argv } = r;
  if (!Number.isInteger(pid) || typeof argv !== "string") throw protocolError();
  const number = (n: unknown) => (Number.isFinite(n) ? (n as number) : 0);
  return {
    pid: pid as number,
    ppid: number(ppid),
    uid: number(uid),
    state: String(state).slice(0, 1),
    rssKb: number(rssKb),
    argv: argv.slice(0, 4096),
  };
}
