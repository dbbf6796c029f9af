/** Named snapshots, forks and rollback over the sandboxes' transitions. */
import { mkdir, readdir, rm } from "node:fs/promises";
import { EngineError } from "../engine/engine.ts";
import { AppError, conflict } from "../lib/errors.ts";
import { faultPoint } from "../lib/fault.ts";
import { hex } from "../lib/ids.ts";
import type { Copies } from "../sandboxes/copies.ts";
import { nameInUse } from "../sandboxes/refusals.ts";
import type { SandboxRow } from "../sandboxes/rows.ts";
import type { SandboxView } from "../sandboxes/service.ts";
import type { CloneSource } from "../templates/clone-source.ts";
import type { User } from "../users/user.ts";
import { namesOf, seal } from "./files.ts";
import { verify } from "./integrity.ts";
import { Places } from "./places.ts";
import { assertRoom, assertSafetyRoom, surplus } from "./quota.ts";
import type { SnapshotRow, SnapshotRows } from "./rows.ts";
import type { Snapshots, SnapshotView, Verification } from "./service.ts";
import { type TransferDeps, Transfers } from "./transfers.ts";
import { plainView, rowOf, wantOf } from "./views.ts";

/** Free space without which nothing is copied, bytes. */
const COPY_GROWTH = 64 << 20;

export interface SnapshotDeps extends TransferDeps {
  sandboxes: Copies;
  /** Kernel that a snapshot without memory boots with. */
  currentKernel(): string;
  config: TransferDeps["config"] & { warmAfterS: number; coldAfterS: number };
}

export class SnapshotService implements Snapshots {
  readonly places: Places;
  private readonly transfers: Transfers;

  constructor(private readonly deps: SnapshotDeps) {
    this.places = new Places(deps);
    this.transfers = new Transfers(deps, this.places);
  }

  get rows(): SnapshotRows {
    return this.deps.rows;
  }

  /** Removes what a former daemon left half done: rows that are not ready, directories without a row. */
  async start(): Promise<void> {
    await mkdir(this.places.root, { recursive: true, mode: 0o700 });
    const ready = new Set<string>();
    for (const row of this.rows.all()) {
      if (row.status === "ready") {
        ready.add(row.id);
        await this.places.tidy(row);
      } else {
        await this.places.remove(row);
        this.rows.delete(row.id);
      }
    }
    for (const name of await readdir(this.places.root)) {
      if (!ready.has(name)) await rm(`${this.places.root}/${name}`, { recursive: true, force: true });
    }
    await this.deps.memoryPool.sweep("snapshots", ready);
  }

  async create(user: User, sandboxRef: string, name: string): Promise<SnapshotView> {
    const source = this.deps.sandboxes.find(user, sandboxRef);
    return this.places.view(await this.take(user, source, name, false));
  }

  list(user: User): SnapshotView[] {
    return this.rows.of(user.id).map((row) => plainView(row));
  }

  async get(user: User, name: string): Promise<SnapshotView> {
    return this.places.view(this.rows.ready(user.id, name));
  }

  async delete(user: User, name: string): Promise<void> {
    const row = this.rows.ready(user.id, name);
    if (this.places.isRead(row)) {
      throw conflict(
        `snapshot "${name}" is in use`,
        "wait until the resume, fork or export that reads it has finished",
      );
    }
    this.rows.update(row, { status: "deleting" });
    faultPoint("snapshot-delete:marked");
    await this.places.hashing.cancel(row.id);
    await this.places.remove(row);
    this.rows.delete(row.id);
    this.event("snapshot.deleted", user, "", { name });
  }

  async resume(user: User, name: string, options: { name?: string }): Promise<SandboxView> {
    const row = this.rows.ready(user.id, name);
    const sandbox = await this.places.using(row, () =>
      this.clone(user, row, "snapshot", options.name, row.name),
    );
    this.event("snapshot.resumed", user, sandbox.id, { name, new_sandbox: sandbox.id });
    return sandbox;
  }

  async fork(user: User, sandboxRef: string, options: { count: number; names?: string[] }) {
    const source = this.deps.sandboxes.find(user, sandboxRef);
    const { count, names = [] } = options;
    for (const name of names) {
      if (this.deps.sandboxes.has(user, name)) throw nameInUse(name);
    }
    this.roomFor(user, count);
    const row = rowOf(user, source, `.fork-${hex(8)}`, false);
    const dir = this.places.dir(row);
    await mkdir(dir, { recursive: true, mode: 0o700 });
    try {
      faultPoint("fork:begin");
      await this.fill(row, source.id);
      faultPoint("fork:filled");
      const made = await Promise.allSettled(
        Array.from({ length: count }, (_, i) =>
          this.clone(user, row, "fork", names[i], `${source.name.slice(0, 48)}-fork`),
        ),
      );
      faultPoint("fork:cloned");
      const failed = made.find((result) => result.status === "rejected");
      const sandboxes = made.filter((result) => result.status === "fulfilled").map((result) => result.value);
      if (failed) {
        await Promise.allSettled(sandboxes.map((sandbox) => this.deps.sandboxes.destroy(user, sandbox.id)));
        throw failed.reason;
      }
      this.event("sandbox.forked", user, source.id, {
        name: source.name,
        count,
        pause_ms: row.pause_ms,
      });
      return { sandboxes, pause_ms: row.pause_ms };
    } finally {
      await this.places.remove(row);
    }
  }

  async restore(user: User, sandboxRef: string, name: string, options: { safety?: boolean } = {}) {
    const source = this.deps.sandboxes.find(user, sandboxRef);
    const row = this.rows.ready(user.id, name);
    if (row.kind !== "memory") {
      throw conflict(
        `snapshot "${name}" has no memory: it cannot replace a running sandbox`,
        `bhatti snapshot resume ${name} makes a new sandbox from it`,
      );
    }
    const keep = options.safety !== false;
    if (keep) assertSafetyRoom(this.rows, user, source.name);
    const { sandbox, safety } = await this.places.using(row, async () => {
      await verify(row, this.places.at(row), this.deps.engine.fingerprint(), this.deps.lohar);
      const safety = keep ? await this.take(user, source, `before-restore-${hex(3)}`, true) : null;
      const sandbox = await this.deps.sandboxes.rollback(source.id, {
        clone: this.source(row, "snapshot"),
        cpus: row.cpus,
        memoryMb: row.memory_mb,
        fingerprint: row.fingerprint,
      });
      const meta = { name: source.name, snapshot: name, safety: safety?.name ?? "" };
      this.event("sandbox.rolled_back", user, source.id, meta);
      return { sandbox, safety };
    });
    const replaced = safety ? await this.replaceOlder(user, safety) : [];
    return { sandbox, ...(safety ? { safety_snapshot: safety.name } : {}), replaced };
  }

  /** Deletes safety snapshots that are too many; one that is being read stays until the next restore. */
  private async replaceOlder(user: User, made: SnapshotRow): Promise<string[]> {
    const gone: string[] = [];
    for (const row of surplus(this.rows, user, made)) {
      if (this.places.isRead(row)) continue;
      await this.delete(user, row.name);
      gone.push(row.name);
    }
    return gone;
  }

  export(user: User, name: string, signal: AbortSignal): Promise<ReadableStream<Uint8Array>> {
    return this.transfers.export(user, name, signal);
  }

  verify(user: User, name: string, options: Parameters<Snapshots["verify"]>[2]): Promise<Verification> {
    return this.transfers.verify(user, name, options);
  }

  import(
    user: User,
    name: string,
    body: ReadableStream<Uint8Array>,
    options: Parameters<Snapshots["import"]>[3],
  ): Promise<SnapshotView & { notice?: string }> {
    return this.transfers.import(user, name, body, options);
  }

  /** A named snapshot of `source`: row first, files, then ready. A half one is never visible. */
  private async take(
    user: User,
    source: Readonly<SandboxRow>,
    name: string,
    safety: boolean,
  ): Promise<SnapshotRow> {
    if (!safety) assertRoom(this.rows, user, name);
    const room = this.deps.quota.take(user, this.deps.sandboxes.bytes(source.id), "this snapshot");
    const row = rowOf(user, source, name, safety);
    this.rows.insert(row);
    const dir = this.places.dir(row);
    try {
      await mkdir(dir, { recursive: true, mode: 0o700 });
      faultPoint("snapshot:begin");
      await this.fill(row, source.id);
      faultPoint("snapshot:filled");
      const files = await seal(this.places.at(row), "memory", row.memory_mb);
      await this.deps.storage.sync(namesOf("memory").map(this.places.at(row)));
      const { allocatedBytes } = await this.places.usage(row);
      this.rows.update(row, {
        ...row,
        files: JSON.stringify(files),
        size_mb: Math.ceil(allocatedBytes / 1048576),
        status: "ready",
      });
      faultPoint("snapshot:ready");
    } catch (error) {
      await this.places.remove(row);
      this.rows.delete(row.id);
      throw error;
    } finally {
      room.release();
    }
    this.event("snapshot.created", user, source.id, {
      name,
      sandbox: source.id,
      size_mb: row.size_mb,
      pause_ms: row.pause_ms,
    });
    this.places.hashing.add(row.id);
    return row;
  }

  private async fill(row: SnapshotRow, sandboxId: string): Promise<void> {
    // Copies are reflinks, but source and copy grow apart from now on.
    this.deps.storage.reserve(COPY_GROWTH, `a copy of ${row.name}`).release();
    const done = await this.deps.sandboxes.checkpoint(sandboxId, { id: row.id, dir: this.places.dir(row) });
    Object.assign(row, {
      pause_ms: done.pauseMs,
      state_sha256: done.stateSha256,
      token: done.token,
      agent_generation: done.agentGeneration,
      kernel: done.kernel,
      fingerprint: this.deps.engine.fingerprint(),
    });
  }

  private async clone(
    user: User,
    row: SnapshotRow,
    how: "snapshot" | "fork",
    name: string | undefined,
    prefix: string,
  ) {
    if (how === "snapshot")
      await verify(row, this.places.at(row), this.deps.engine.fingerprint(), this.deps.lohar);
    if (name !== undefined && this.deps.sandboxes.has(user, name)) throw nameInUse(name);
    const want = wantOf(row, how, name, prefix, {
      ...this.deps.config,
      kernel: this.deps.currentKernel(),
    });
    try {
      const clone = row.kind === "memory" ? this.source(row, how) : null;
      return await this.deps.sandboxes.createFrom(user, want, clone, `${this.places.dir(row)}/disk`);
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
      this.deps.log.error({ snapshot: row.id, err: error, detail: error.detail }, "clone failed");
      throw new AppError("restore_failed", `the VMM refused the state of snapshot "${row.name}"`, {
        cause: error,
        remedy: `'bhatti snapshot export ${row.name}' and an import with --cold keep its disk`,
      });
    }
  }

  private source(row: SnapshotRow, kind: "snapshot" | "fork"): CloneSource {
    return {
      kind,
      dir: this.places.dir(row),
      memory: this.places.at(row)("mem"),
      token: row.token,
      agentGeneration: row.agent_generation,
      kernel: row.kernel,
      stateSha256: row.state_sha256,
    };
  }

  private roomFor(user: User, count: number): void {
    const have = this.deps.sandboxes.count(user);
    if (have + count > user.maxSandboxes) {
      throw new AppError(
        "limit_reached",
        `sandbox limit reached (${have}/${user.maxSandboxes}), ${count} forks do not fit`,
        { remedy: "destroy sandboxes you no longer need, or ask the operator for a higher limit" },
      );
    }
  }

  private event(type: string, user: User, sandboxId: string, meta: Record<string, unknown>): void {
    this.deps.events.record({ type, userId: user.id, sandboxId, meta });
  }
}
