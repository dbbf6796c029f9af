/** What the agent reports about itself; nothing in it is believed beyond its type and length. */
import type { Activity, InitStatus } from "./guest.ts";

type Members = Record<string, unknown>;

const number = (value: unknown): number => (typeof value === "number" && Number.isFinite(value) ? value : 0);
const text = (value: unknown, length: number): string | undefined =>
  typeof value === "string" && value ? value.slice(0, length) : undefined;

export function activityOf(r: Members): Activity {
  return {
    idleMs: number(r.idle_ms),
    execs: number(r.execs),
    detached: number(r.detached),
    initRunning: r.init_running === true,
    init: initOf(r.init),
    connections: number(r.connections),
    busyMs: number(r.busy_ms),
    uptimeMs: number(r.uptime_ms),
  };
}

function initOf(value: unknown): InitStatus | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const r = value as Members;
  if (r.state !== "running" && r.state !== "exited" && r.state !== "failed") return undefined;
  return {
    state: r.state,
    exitCode: Number.isInteger(r.exit_code) ? (r.exit_code as number) : undefined,
    signal: text(r.signal, 16),
    error: text(r.error, 500),
    log: text(r.log, 256),
    startedAt: number(r.started_at) || undefined,
    endedAt: number(r.ended_at) || undefined,
  };
}
