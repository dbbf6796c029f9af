/** What snapshots and forks may do with sandboxes: look at one, copy it, put it back, make a new one from a copy. */
import type { SecretRef } from "../secrets/reference.ts";
import type { CloneSource } from "../templates/clone-source.ts";
import type { User } from "../users/user.ts";
import type { SandboxRow } from "./rows.ts";
import type { OnUnresponsive, SandboxView } from "./service.ts";

/** A sandbox that is about to come into being. */
export interface Admitted {
  name?: string;
  /** Prefix of a generated name. */
  namePrefix: string;
  image: string;
  cpus: number;
  memoryMb: number;
  diskSizeMb: number;
  env: Record<string, string>;
  init: string;
  secrets: SecretRef[];
  keepHot: boolean;
  labels: Record<string, string>;
  warmAfterS: number;
  coldAfterS: number;
  /** Default "none". */
  onUnresponsive?: OnUnresponsive;
  kernel: string;
  createdFrom: "template" | "boot" | "snapshot" | "fork";
}

/**
 * What a fork, and a sandbox made from a snapshot, has of the one it was made of, column by column. "taken": its value at that
 * moment. "own": every sandbox has its own, or it comes with the copied machine. "left": it belongs to the first one alone: who
 * wants a copy kept hot, which holds memory for as long as it lives, says so; `init` has run already.
 */
export const IN_COPIES = {
  id: "own",
  name: "own",
  created_by: "own",
  engine_id: "own",
  status: "own",
  reason: "own",
  image: "taken",
  cpus: "taken",
  memory_mb: "taken",
  disk_size_mb: "taken",
  labels: "taken",
  keep_hot: "left",
  warm_after_s: "taken",
  cold_after_s: "taken",
  env: "taken",
  init: "left",
  subnet_index: "own",
  slot: "own",
  uid: "own",
  netns: "own",
  address: "own",
  gateway: "own",
  kernel: "own",
  fingerprint: "own",
  token: "own",
  machine_id: "own",
  agent_generation: "own",
  disk_file: "own",
  mem_file: "own",
  generation: "own",
  consumed: "own",
  frozen: "own",
  state_sha256: "own",
  boot_id: "own",
  durable: "own",
  pid: "own",
  pid_start: "own",
  created_from: "own",
  created_at: "own",
  stopped_at: "own",
  last_activity_at: "own",
  last_error: "own",
  last_end: "own",
  unresponsive_since: "own",
  unresponsive_why: "own",
  on_unresponsive: "taken",
  init_status: "own",
  secrets: "taken",
} as const satisfies Record<keyof SandboxRow, "taken" | "own" | "left">;

/** Where a copy of a machine goes: `state` and `disk` into the directory, `mem` to where snapshot `id` keeps its memory. */
export interface CopyTarget {
  id: string;
  dir: string;
}

/** A copy of a machine: files `mem`, `state` and `disk` of one moment. */
export interface Checkpoint {
  /** How long the source's vCPUs stood still, ms; 0 for a cold source. */
  pauseMs: number;
  stateSha256: string;
  token: string;
  agentGeneration: number;
  kernel: string;
}

/** What a rollback puts in place of the machine. */
export interface RollbackTarget {
  clone: CloneSource;
  cpus: number;
  memoryMb: number;
  fingerprint: string;
}

export interface Copies {
  /** The row of the user's sandbox of that id or name. Throws not_found. */
  find(user: User, ref: string): Readonly<SandboxRow>;
  /** Whether the user has a sandbox of that id or name. */
  has(user: User, ref: string): boolean;
  /** Sandboxes of the user, those that come and go included. */
  count(user: User): number;
  /** What the sandbox's files have on disk, bytes. */
  bytes(id: string): number;
  /** Writes `mem`, `state` and `disk`; the source goes on. On failure the caller removes what is there. */
  checkpoint(id: string, into: CopyTarget): Promise<Checkpoint>;
  /** Replaces memory and disk in place; hot when it returns. */
  rollback(id: string, target: RollbackTarget): Promise<SandboxView>;
  /** A new sandbox from files. All-or-nothing like create. */
  createFrom(user: User, want: Admitted, clone: CloneSource | null, disk: string): Promise<SandboxView>;
  destroy(user: User, ref: string): Promise<void>;
}
