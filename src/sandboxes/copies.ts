/** What snapshots and forks may do with sandboxes: look at one, copy it, put it back, make a new one from a copy. */
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
  keepHot: boolean;
  labels: Record<string, string>;
  warmAfterS: number;
  coldAfterS: number;
  /** Default "none". */
  onUnresponsive?: OnUnresponsive;
  kernel: string;
  createdFrom: "template" | "boot" | "snapshot" | "fork";
}

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
  /** Writes `mem`, `state` and `disk`; the source goes on. On failure the caller removes what is there. */
  checkpoint(id: string, into: CopyTarget): Promise<Checkpoint>;
  /** Replaces memory and disk in place; hot when it returns. */
  rollback(id: string, target: RollbackTarget): Promise<SandboxView>;
  /** A new sandbox from files. All-or-nothing like create. */
  createFrom(user: User, want: Admitted, clone: CloneSource | null, disk: string): Promise<SandboxView>;
  destroy(user: User, ref: string): Promise<void>;
}
