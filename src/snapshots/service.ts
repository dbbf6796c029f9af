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
  /** One zstd-compressed tar with manifest and checksums. One import or export a user at a time. */
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
