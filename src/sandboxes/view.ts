import { refsOf } from "../secrets/reference.ts";
import type { Actor } from "./actor.ts";
import { makeSpace, restartIt } from "./refusals.ts";
import type { InitView, LastEnd, SandboxView } from "./service.ts";

/** The wire object, from memory alone: never touches a VM, never waits for a transition. */
export function view(actor: Actor): SandboxView {
  const { row } = actor;
  const labels = JSON.parse(row.labels) as Record<string, string>;
  return {
    id: row.id,
    name: row.name,
    template_id: "",
    engine_id: row.engine_id,
    status: row.status === "running" || row.status === "stopped" ? row.status : "unknown",
    ip: row.address,
    engine_meta: {},
    created_by: row.created_by,
    created_at: row.created_at,
    ...(row.stopped_at && row.status === "stopped" ? { stopped_at: row.stopped_at } : {}),
    keep_hot: row.keep_hot === 1,
    cpus: row.cpus,
    memory_mb: row.memory_mb,
    disk_size_mb: row.disk_size_mb,
    image: row.image,
    ...(Object.keys(labels).length > 0 ? { labels } : {}),
    thermal: row.status === "stopped" ? "cold" : actor.thermal,
    reason: row.reason,
    last_activity_at: new Date(actor.lastActivity).toISOString(),
    warm_after_s: row.warm_after_s,
    cold_after_s: row.cold_after_s,
    durable: row.durable === 1,
    created_from: row.created_from as SandboxView["created_from"],
    ...(row.last_error ? { last_error: row.last_error } : {}),
    ...(row.last_end ? { last_end: JSON.parse(row.last_end) as LastEnd } : {}),
    ...(row.unresponsive_since
      ? {
          unresponsive: {
            since: row.unresponsive_since,
            why: row.unresponsive_why,
            remedy: restartIt(row.name),
          },
        }
      : {}),
    ...(actor.stoppedFor
      ? { paused: { reason: actor.stoppedFor.reason, since: actor.stoppedFor.since, remedy: makeSpace } }
      : {}),
    on_unresponsive: row.on_unresponsive,
    ...(row.init_status ? { init: JSON.parse(row.init_status) as InitView } : {}),
    ...(row.secrets !== "[]" ? { secrets: refsOf(row.secrets) } : {}),
    ...(actor.secretFiles.problems.length > 0 ? { secret_problems: actor.secretFiles.problems } : {}),
  };
}
