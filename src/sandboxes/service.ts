/** What the rest of the product may do with sandboxes. Implemented by sandboxes/, called by HTTP routes and snapshots. */
import type { Guest } from "../guest/guest.ts";
import type { SecretRef } from "../secrets/reference.ts";
import type { User } from "../users/user.ts";

export type Status = "creating" | "running" | "stopped" | "failed" | "destroying";
/** What the daemon does with a sandbox that does not answer. */
export type OnUnresponsive = "none" | "restart";

/** Why and when a machine ended the last time. */
export interface LastEnd {
  /** "poweroff", "reboot", "panic", "oom", "crashed", "failed", "unresponsive", "restart", "memory_lost". */
  reason: string;
  why: string;
  at: string;
}

/** The script that a sandbox was created with, in this boot of it. */
export interface InitView {
  status: "running" | "exited" | "failed";
  exit_code?: number;
  signal?: string;
  error?: string;
  /** File in the guest with its output. */
  log?: string;
  started_at?: string;
  ended_at?: string;
}

export type Thermal = "hot" | "warm" | "cold";

/** The wire object (snake case on purpose). Members up to `labels` are v1's. */
export interface SandboxView {
  id: string;
  name: string;
  template_id: string;
  engine_id: string;
  status: "running" | "stopped" | "unknown";
  ip: string;
  engine_meta: Record<string, never>;
  created_by: string;
  created_at: string;
  stopped_at?: string;
  keep_hot: boolean;
  cpus: number;
  memory_mb: number;
  disk_size_mb: number;
  image: string;
  labels?: Record<string, string>;
  thermal: Thermal;
  /** Why it is in this state: "created", "idle", "api", "memory_pressure", "shutdown", "crashed", "memory_lost", … */
  reason: string;
  last_activity_at: string;
  /** Times until warm and cold, seconds; 0 = never. */
  warm_after_s: number;
  cold_after_s: number;
  /** Survives a power cut as it is (cold only). */
  durable: boolean;
  /** How the sandbox came up: "template" (restore) or "boot". */
  created_from: "template" | "boot" | "snapshot" | "fork";
  /** Failure that blocks the next wake; cleared by start --force or restart. */
  last_error?: string;
  /** Absent before the first end. */
  last_end?: LastEnd;
  /** It does not answer: since when, what it is that does not, and what helps. */
  unresponsive?: { since: string; why: string; remedy: string };
  /** The machine stands still although it is wanted; it goes on by itself. */
  paused?: { reason: "disk_full"; since: string; remedy: string };
  on_unresponsive: OnUnresponsive;
  /** Absent without `init`, and until the agent has told of it. */
  init?: InitView;
  /** Secrets it is given, by name. */
  secrets?: SecretRef[];
  /** Files of secrets that the guest could not put where they belong, and why. */
  secret_problems?: string[];
}

/** Each of these keeps a sandbox awake: commands, detached jobs, the script of `init`, the CPU from BUSY_SHARE on (idle.ts). */
export interface GuestWork {
  execs: number;
  detached: number;
  init_running: boolean;
  /** Of one core since the last request; null when that was less than a second ago. */
  cpu_percent: number | null;
  /** It is kept awake by any of them. */
  busy: boolean;
}

/** `inspect` adds figures that cost a look at the host. Never wakes. */
export interface SandboxDetail extends SandboxView {
  memory_held_bytes: number;
  disk_used_bytes: number;
  disk_exclusive_bytes: number | null;
  leases: { kind: string; since: string }[];
  /** What the guest does by itself; absent when it is not hot, or did not say so in time. */
  guest_work?: GuestWork;
  generation: number;
  timings_ms?: Record<string, number>;
}

export interface CreateInput {
  name?: string;
  image?: string;
  cpus?: number;
  memory_mb?: number;
  disk_size_mb?: number;
  env?: Record<string, string>;
  init?: string;
  keep_hot?: boolean;
  labels?: Record<string, string>;
  /** `content` is already decoded. */
  files?: { guest_path: string; content: Uint8Array; mode: string }[];
  warm_after_s?: number;
  cold_after_s?: number;
  on_unresponsive?: OnUnresponsive;
  secrets?: SecretRef[];
}

export interface CreateOptions {
  /** The caller left before the end: what was made is destroyed, unless a key lets the caller come back for it. */
  signal?: AbortSignal;
  /** The same key and input within 24 hours mean the same sandbox. Throws conflict for another input. */
  idempotencyKey?: string;
}

export interface Created {
  sandbox: SandboxView;
  existing: boolean;
  /** Of an existing one: members that were asked for and are not so. Files are written once and not compared. */
  differs: string[];
  /** Steps of the create, ms. */
  timings: Record<string, number>;
}

export interface PatchInput {
  name?: string;
  labels_add?: Record<string, string>;
  labels_remove?: string[];
  keep_hot?: boolean;
  warm_after_s?: number;
  cold_after_s?: number;
  on_unresponsive?: OnUnresponsive;
  /** Takes the place of what goes to the same variable or path. */
  secrets_add?: SecretRef[];
  /** Names: whatever they are given as. */
  secrets_remove?: string[];
}

/** A sandbox that is hot and stays so until the lease is released. */
export interface GuestLease {
  sandboxId: string;
  guest: Guest;
  /** State before this lease: "hot" when nothing had to be done. */
  from: Thermal;
  /** Secrets that a new process has as variables, as they are now. Throws secret_unreadable. */
  secretEnv(): Promise<Record<string, string>>;
  /** Fires when the sandbox is stopped or destroyed over the head of this lease: end the work. */
  revoked: AbortSignal;
  /** Idempotent. */
  release(): void;
}

/** `ref` is an id or a name; both only within the caller's own. Unknown: AppError not_found. */
export interface Sandboxes {
  /** Idempotent by name and by key: an existing sandbox is returned with `existing` and left as it is. */
  create(user: User, input: CreateInput, options?: CreateOptions): Promise<Created>;
  get(user: User, ref: string): SandboxView;
  inspect(user: User, ref: string): Promise<SandboxDetail>;
  /** Newest first. Label filters are ANDed. Never touches a VM. */
  list(user: User, labels?: Record<string, string>): SandboxView[];
  patch(user: User, ref: string, input: PatchInput): Promise<SandboxView>;
  destroy(user: User, ref: string): Promise<void>;
  /** To cold. `sync`: resolves only when durable. Stopping the stopped succeeds. */
  stop(user: User, ref: string, options?: { sync?: boolean }): Promise<SandboxView>;
  /** To hot. `force`: gives up memory that cannot be restored and boots from disk. `already`: it was hot, and stays as it is. */
  start(user: User, ref: string, options?: { force?: boolean }): Promise<SandboxView & { already: boolean }>;
  /**
   * Boots it from its disk, whatever state it is in. A guest that answers shuts down first, so that nothing is lost that was
   * written; `force`, and a guest that does not: as if the power was cut. Hot when it returns.
   */
  restart(user: User, ref: string, options?: { force?: boolean }): Promise<SandboxView>;
  /** What the guest printed on its console since its last boot (`previous`: in the boot before), at most 128 KiB. Never wakes. */
  console(user: User, ref: string, options?: { previous?: boolean }): Promise<string>;
  /** Wakes if needed (single flight) and holds the sandbox hot. `kind` shows in inspect: "exec", "file", "proxy", … */
  lease(user: User, ref: string, kind: string, signal?: AbortSignal): Promise<GuestLease>;
  /** Figures for metrics and `admin status`. */
  stats(): {
    total: number;
    hot: number;
    warm: number;
    cold: number;
    /** Of all of them. */
    unresponsive: number;
    diskPaused: number;
    memoryHeldBytes: number;
    memoryBudgetBytes: number;
  };
}
