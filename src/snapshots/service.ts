/** Named snapshots, forks, rollback, export. */
import type { SandboxView } from "../sandboxes/service.ts";
import type { User } from "../users/user.ts";

/** Copies that one fork makes. */
export const MAX_FORKS = 100;

export interface SnapshotView {
  id: string;
  user_id: string;
  name: string;
  /** Sandbox id, and the name it had. "" where it is not known (imports). */
  source_sandbox: string;
  source_name: string;
  size_mb: number;
  created_at: string;
  image: string;
  cpus: number;
  memory_mb: number;
  /** Bytes on disk, and those that no other file shares (null where the file system cannot tell). */
  allocated_bytes: number;
  exclusive_bytes: number | null;
  /** "memory" restores processes; "disk" boots. */
  kind: "memory" | "disk";
  /** Milliseconds the source was paused. */
  pause_ms?: number;
}

export interface FileReport {
  name: string;
  /** As it was made, bytes. */
  size: number;
  /** As it was made; null when it is not known because the file was damaged before anybody read it. */
  sha256: string | null;
  /** What is wrong with it, for people. */
  damage: string | null;
}

export interface Verification {
  id: string;
  name: string;
  /** Every byte is what it was. */
  ok: boolean;
  /** False: there was no hash yet to compare with, and it was taken now; sizes and times are those of its making. */
  compared: boolean;
  files: FileReport[];
}

export interface Snapshots {
  create(user: User, sandboxRef: string, name: string): Promise<SnapshotView>;
  list(user: User): SnapshotView[];
  get(user: User, name: string): Promise<SnapshotView>;
  delete(user: User, name: string): Promise<void>;
  resume(user: User, name: string, options: { name?: string }): Promise<SandboxView>;
  /** N running copies of a running (warm, cold) sandbox. All or nothing. */
  fork(
    user: User,
    sandboxRef: string,
    options: { count: number; names?: string[] },
  ): Promise<{ sandboxes: SandboxView[]; pause_ms: number }>;
  /**
   * Puts the sandbox back to the snapshot, identity kept. A safety snapshot of the present state is taken first and named in
   * the answer, unless `safety` is false; it counts in the quota, and the oldest ones give way (quota.ts).
   */
  restore(
    user: User,
    sandboxRef: string,
    name: string,
    options?: { safety?: boolean },
  ): Promise<{ sandbox: SandboxView; safety_snapshot?: string; replaced: string[] }>;
  /**
   * Reads every byte of disk, memory and state and compares them with the hashes of their making. Damage is a report, not an
   * error. One import, export or verification a user at a time. `progress`: bytes.
   */
  verify(
    user: User,
    name: string,
    options: { signal: AbortSignal; progress?(read: number, of: number): void },
  ): Promise<Verification>;
  /** One zstd-compressed tar with manifest and checksums; refused (restore_failed) when a file is not what it was. */
  export(user: User, name: string, signal: AbortSignal): Promise<ReadableStream<Uint8Array>>;
  /**
   * Refused (conflict) when CPU, VMM or kernel do not match. The memory is taken only of an archive that this host made, or
   * when an operator vouches for it (`trustState`); otherwise, and with `cold`, the disk alone, and `notice` says so.
   */
  import(
    user: User,
    name: string,
    body: ReadableStream<Uint8Array>,
    options: { cold: boolean; trustState: boolean; signal: AbortSignal },
  ): Promise<SnapshotView & { notice?: string }>;
}
