/** What a create asked for that an existing sandbox of the same name is not. */
import type { SandboxRow } from "./rows.ts";
import type { CreateInput } from "./service.ts";

/** Names of members; only those that were given are compared. Values stay unsaid: they may be secrets. */
export function differences(input: CreateInput, row: Readonly<SandboxRow>): string[] {
  const same: Record<string, boolean> = {
    image: input.image === row.image,
    cpus: input.cpus === row.cpus,
    memory_mb: input.memory_mb === row.memory_mb,
    disk_size_mb: input.disk_size_mb === row.disk_size_mb,
    env: sameMap(input.env, row.env),
    init: input.init === row.init,
    secrets: JSON.stringify(input.secrets) === row.secrets,
    keep_hot: input.keep_hot === (row.keep_hot === 1),
    labels: sameMap(input.labels, row.labels),
    warm_after_s: input.warm_after_s === row.warm_after_s,
    cold_after_s: input.cold_after_s === row.cold_after_s,
  };
  return Object.keys(same).filter((key) => input[key as keyof CreateInput] !== undefined && !same[key]);
}

function sameMap(asked: Record<string, string> = {}, stored: string): boolean {
  const found = JSON.parse(stored) as Record<string, string>;
  const keys = Object.keys(asked);
  return keys.length === Object.keys(found).length && keys.every((key) => asked[key] === found[key]);
}
