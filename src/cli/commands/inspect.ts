import type { GuestWork, InitView } from "../../client/sandboxes.ts";
import { connect } from "../base/context.ts";
import { age, bytes, labels, secretsOf, span } from "../base/format.ts";
import { fields, printJson, say } from "../base/output.ts";
import { define, options } from "../base/program.ts";

export const command = () =>
  define(
    "inspect <sandbox>",
    "Show one sandbox: state and why, resources, network, what keeps it awake. Wakes nothing.",
    ["bhatti inspect dev", "bhatti inspect dev --json"],
  ).action(async (sandbox: string, _flags, self) => {
    const flags = options(self);
    const s = await connect(flags).sandboxes.detail(sandbox);
    if (printJson(s)) return;
    const after = (seconds: number | undefined) =>
      seconds === undefined ? undefined : seconds === 0 ? "never" : span(seconds);
    const time = (at: string | undefined) => (at ? `${at} (${age(at)} ago)` : undefined);
    fields([
      ["Name", s.name],
      ["ID", s.id],
      ["Status", s.status],
      ["Thermal", s.thermal ? `${s.thermal}${s.reason ? ` (${s.reason})` : ""}` : undefined],
      ["Error", s.last_error],
      ["Unresponsive", s.unresponsive && `${s.unresponsive.why}, since ${time(s.unresponsive.since)}`],
      ["Remedy", s.unresponsive?.remedy],
      ["Paused", s.paused && `${s.paused.reason}, since ${time(s.paused.since)}`],
      ["Remedy", s.paused?.remedy],
      ["Last end", s.last_end && `${s.last_end.reason}: ${s.last_end.why}, ${time(s.last_end.at)}`],
      ["Init", s.init && initOf(s.init)],
      ["Image", s.image || undefined],
      ["Created", time(s.created_at)],
      ["From", s.created_from],
      ["Stopped", s.status === "stopped" ? time(s.stopped_at) : undefined],
      ["Durable", s.thermal === "cold" ? String(s.durable) : undefined],
      ["Activity", time(s.last_activity_at)],
      ["Secrets", s.secrets && secretsOf(s.secrets)],
      ["Problem", s.secret_problems?.join("; ")],
      ["Labels", s.labels ? labels(s.labels) : undefined],
    ]);
    say("\nResources:");
    fields(
      [
        ["CPUs", String(s.cpus || 1)],
        [
          "Memory",
          `${s.memory_mb || 1024} MB${s.memory_held_bytes ? ` (${bytes(s.memory_held_bytes)} held)` : ""}`,
        ],
        ["Disk", disk(s)],
      ],
      "  ",
    );
    say("\nNetwork:");
    fields([["IP", s.ip || "-"]], "  ");
    say("\nIdle:");
    fields(
      [
        ["Warm after", s.keep_hot ? "never (keep hot)" : after(s.warm_after_s)],
        ["If unresponsive", s.on_unresponsive === "restart" ? "restart" : undefined],
        ["Cold after", s.keep_hot ? "never (keep hot)" : after(s.cold_after_s)],
        [
          "Busy with",
          s.leases?.length ? s.leases.map((l) => `${l.kind} (${age(l.since)})`).join(", ") : undefined,
        ],
        ["In the guest", s.guest_work && workOf(s.guest_work)],
      ],
      "  ",
    );
  });

/** What keeps it awake from inside. */
function workOf({ execs, detached, init_running, cpu_percent, busy }: GuestWork): string {
  const several = (n: number, what: string) => (n > 0 ? `${n} ${what}${n > 1 ? "s" : ""}` : "");
  const cpu = cpu_percent === null ? "" : `CPU ${cpu_percent} %`;
  const parts = [
    several(execs, "command"),
    several(detached, "detached job"),
    init_running ? "the init script" : "",
    cpu,
  ];
  const said = parts.filter(Boolean).join(", ");
  return busy ? `${said}: stays awake` : `no work that keeps it awake${cpu ? ` (${cpu})` : ""}`;
}

function initOf(init: InitView): string {
  const end =
    init.status === "failed"
      ? `did not start: ${init.error ?? "unknown"}`
      : init.status === "running"
        ? "running"
        : `exit ${init.exit_code}${init.signal ? ` (${init.signal})` : ""}`;
  return `${end}${init.log ? `, output in ${init.log}` : ""}`;
}

function disk(s: {
  disk_size_mb: number;
  disk_used_bytes?: number;
  disk_exclusive_bytes?: number | null;
}): string {
  const size = s.disk_size_mb > 0 ? `${s.disk_size_mb} MB` : "size of the image";
  if (!s.disk_used_bytes) return size;
  const own = s.disk_exclusive_bytes == null ? "" : `, ${bytes(s.disk_exclusive_bytes)} its own`;
  return `${size} (${bytes(s.disk_used_bytes)} used${own})`;
}
