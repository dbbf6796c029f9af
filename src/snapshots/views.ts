/** Rows as clients see them, and rows that are about to be. */
import { newId } from "../lib/ids.ts";
import type { Admitted } from "../sandboxes/copies.ts";
import type { SandboxRow } from "../sandboxes/rows.ts";
import { refsOf } from "../secrets/reference.ts";
import type { User } from "../users/user.ts";
import type { Settings, SnapshotRow } from "./rows.ts";
import type { SnapshotView } from "./service.ts";

/** Without a look at the disk. */
export function plainView(row: SnapshotRow): SnapshotView {
  return {
    id: row.id,
    user_id: row.user_id,
    name: row.name,
    source_sandbox: row.source_sandbox,
    source_name: row.source_name,
    size_mb: row.size_mb,
    created_at: row.created_at,
    image: row.image,
    cpus: row.cpus,
    memory_mb: row.memory_mb,
    allocated_bytes: row.size_mb * 1048576,
    exclusive_bytes: null,
    kind: row.kind,
    pause_ms: row.pause_ms,
  };
}

/** A snapshot that begins; everything that is not known yet is empty. */
export function blankRow(user: User, name: string): SnapshotRow {
  return {
    id: newId(),
    user_id: user.id,
    name,
    source_sandbox: "",
    source_name: "",
    status: "creating",
    kind: "memory",
    safety: 0,
    image: "",
    cpus: 1,
    memory_mb: 0,
    disk_size_mb: 0,
    env: "{}",
    labels: "{}",
    token: "",
    agent_generation: 0,
    kernel: "",
    fingerprint: "",
    state_sha256: "",
    files: "{}",
    size_mb: 0,
    pause_ms: 0,
    created_at: new Date().toISOString(),
    settings: "{}",
    secrets: "[]",
  };
}

/** What of the source has no column of its own here. */
const settingsOf = ({ warm_after_s, cold_after_s, on_unresponsive }: Readonly<SandboxRow>): Settings => ({
  warm_after_s,
  cold_after_s,
  on_unresponsive,
});

/** A sandbox that is made from a snapshot: see IN_COPIES. `defaults`: for what the snapshot does not know. */
export function wantOf(
  row: SnapshotRow,
  how: "snapshot" | "fork",
  name: string | undefined,
  prefix: string,
  defaults: { warmAfterS: number; coldAfterS: number; kernel: string },
): Admitted {
  const settings = JSON.parse(row.settings) as Settings;
  return {
    name,
    namePrefix: prefix.slice(0, 56),
    image: row.image,
    cpus: row.cpus,
    memoryMb: row.memory_mb,
    diskSizeMb: row.disk_size_mb,
    env: JSON.parse(row.env) as Record<string, string>,
    init: "",
    secrets: refsOf(row.secrets),
    keepHot: false,
    labels: JSON.parse(row.labels) as Record<string, string>,
    warmAfterS: settings.warm_after_s ?? defaults.warmAfterS,
    coldAfterS: settings.cold_after_s ?? defaults.coldAfterS,
    onUnresponsive: settings.on_unresponsive,
    kernel: row.kind === "memory" ? row.kernel : defaults.kernel,
    createdFrom: how,
  };
}

/** A snapshot of `source` that begins. */
export function rowOf(user: User, source: Readonly<SandboxRow>, name: string, safety: boolean): SnapshotRow {
  return {
    ...blankRow(user, name),
    source_sandbox: source.id,
    source_name: source.name,
    safety: safety ? 1 : 0,
    image: source.image,
    cpus: source.cpus,
    memory_mb: source.memory_mb,
    disk_size_mb: source.disk_size_mb,
    env: source.env,
    labels: source.labels,
    settings: JSON.stringify(settingsOf(source)),
    secrets: source.secrets,
  };
}
