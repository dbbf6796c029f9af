/** What the agent tells of the script that a sandbox was created with, as the wire object. */
import type { InitStatus } from "../guest/guest.ts";
import type { InitView } from "./service.ts";

export function initView({ state, exitCode, signal, error, log, startedAt, endedAt }: InitStatus): InitView {
  const time = (ms: number | undefined) => {
    const date = new Date(ms ?? Number.NaN);
    return Number.isNaN(date.getTime()) ? undefined : date.toISOString();
  };
  return {
    status: state,
    exit_code: exitCode,
    signal,
    error,
    log,
    started_at: time(startedAt),
    ended_at: time(endedAt),
  };
}
