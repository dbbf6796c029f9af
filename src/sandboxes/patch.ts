/** Changes of a sandbox that need no transition: name, labels, idle times, keep_hot. */
import { badRequest } from "../lib/errors.ts";
import { changedRefs, refsOf } from "../secrets/reference.ts";
import type { Actor } from "./actor.ts";
import type { SandboxDeps } from "./deps.ts";
import { nameInUse } from "./refusals.ts";
import type { SandboxRow } from "./rows.ts";
import { MAX_LABELS } from "./schemas.ts";
import type { PatchInput } from "./service.ts";
import { netOf, ownerOf } from "./vm-spec.ts";

/** All changes of the row in one write; a failed wake does not undo them. `renamed` is told the old name. */
export async function patch(
  deps: SandboxDeps,
  actor: Actor,
  input: PatchInput,
  renamed: (before: string) => void,
): Promise<void> {
  const { row } = actor;
  const change: Partial<SandboxRow> = {};
  const before = row.name;
  if (input.name !== undefined && input.name !== row.name) {
    if (deps.rows.byName(row.created_by, input.name)) throw nameInUse(input.name);
    change.name = input.name;
  }
  if (input.labels_add || input.labels_remove) {
    const labels = { ...(JSON.parse(row.labels) as Record<string, string>), ...input.labels_add };
    for (const key of input.labels_remove ?? []) delete labels[key];
    const count = Object.keys(labels).length;
    if (count > MAX_LABELS) {
      throw badRequest(
        `too many labels: ${count} > ${MAX_LABELS}`,
        "remove some: labels_remove, --label-delete",
      );
    }
    change.labels = JSON.stringify(labels);
  }
  if (input.secrets_add || input.secrets_remove) {
    const refs = changedRefs(refsOf(row.secrets), input.secrets_add ?? [], input.secrets_remove ?? []);
    deps.secrets.assertUsable(row.created_by, input.secrets_add ?? []);
    deps.secrets.assertTogether(row.created_by, refs);
    change.secrets = JSON.stringify(refs);
  }
  if (input.keep_hot !== undefined) change.keep_hot = input.keep_hot ? 1 : 0;
  if (input.warm_after_s !== undefined) change.warm_after_s = input.warm_after_s;
  if (input.cold_after_s !== undefined) change.cold_after_s = input.cold_after_s;
  if (input.on_unresponsive !== undefined) change.on_unresponsive = input.on_unresponsive;
  deps.rows.update(row, change);
  if (change.secrets !== undefined) actor.secretFiles.changed();
  if (change.name) renamed(before);
  if (change.name) deps.network.setName(ownerOf(row), netOf(row), change.name);
  if (Object.keys(change).length > 0) {
    const meta = change.name
      ? { old_name: before, new_name: row.name }
      : {
          name: row.name,
          labels_added: Object.keys(input.labels_add ?? {}).length,
          labels_removed: input.labels_remove?.length ?? 0,
          keep_hot: row.keep_hot === 1,
        };
    deps.events.record({ type: "sandbox.updated", userId: row.created_by, sandboxId: row.id, meta });
  }
  if (change.secrets !== undefined) await actor.bringSecrets();
  if (input.keep_hot === true) await actor.ensureHot();
  actor.idle.arm();
}
