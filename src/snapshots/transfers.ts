/** What reads or brings whole snapshots: export, import, verification. */
import { mkdir } from "node:fs/promises";
import type { Engine } from "../engine/engine.ts";
import type { Events } from "../events/events.ts";
import { AppError, conflict } from "../lib/errors.ts";
import { newId } from "../lib/ids.ts";
import type { Reservation } from "../storage/storage.ts";
import type { StorageQuota } from "../users/storage-quota.ts";
import type { User } from "../users/user.ts";
import { exportSnapshot } from "./export.ts";
import { namesOf, seal } from "./files.ts";
import { importSnapshot } from "./import.ts";
import { damaged, verify } from "./integrity.ts";
import { isHashed, type Places, type PlacesDeps } from "./places.ts";
import { assertRoom } from "./quota.ts";
import type { SnapshotRow, SnapshotRows } from "./rows.ts";
import type { SnapshotView, Verification } from "./service.ts";
import { blankRow } from "./views.ts";

export interface TransferDeps extends PlacesDeps {
  engine: Pick<Engine, "fingerprint">;
  quota: Pick<StorageQuota, "take">;
  events: Events;
  /** See host-key.ts. */
  hostKey: Buffer;
  config: PlacesDeps["config"] & { maxDiskMb: number };
}

export class Transfers {
  private readonly running = new Set<string>();

  constructor(
    private readonly deps: TransferDeps,
    private readonly places: Places,
  ) {}

  private get rows(): SnapshotRows {
    return this.deps.rows;
  }

  async export(user: User, name: string, signal: AbortSignal): Promise<ReadableStream<Uint8Array>> {
    const { deps } = this;
    const row = this.rows.ready(user.id, name);
    const release = this.begin(user);
    this.places.hold(row, 1);
    const done = () => {
      this.places.hold(row, -1);
      release();
    };
    try {
      await this.places.settled(row);
      // Of another VMM or CPU it is worth as much elsewhere, or as a disk.
      await verify(row, this.places.at(row), row.fingerprint, deps.lohar);
      const { files, found } = await this.places.read(row, { signal });
      const wrong = files.find((file) => file.damage);
      if (wrong) throw damaged(name, `${wrong.name} ${wrong.damage}`);
      return await exportSnapshot({
        row,
        at: this.places.at(row),
        files: found,
        scratch: this.places.root,
        key: deps.hostKey,
        signal,
        done,
      });
    } catch (error) {
      done();
      throw error;
    }
  }

  async verify(
    user: User,
    name: string,
    options: { signal: AbortSignal; progress?(read: number, of: number): void },
  ): Promise<Verification> {
    const row = this.rows.ready(user.id, name);
    const release = this.begin(user);
    try {
      const compared = isHashed(row);
      const { files } = await this.places.using(row, () => this.places.read(row, options));
      const ok = files.every((file) => !file.damage);
      if (!ok) this.event("snapshot.damaged", user, row.source_sandbox, { name, files });
      return { id: row.id, name, ok, compared, files };
    } finally {
      release();
    }
  }

  async import(
    user: User,
    name: string,
    body: ReadableStream<Uint8Array>,
    options: { cold: boolean; trustState: boolean; signal: AbortSignal },
  ): Promise<SnapshotView & { notice?: string }> {
    const { deps } = this;
    if (options.trustState && !user.admin)
      throw new AppError("forbidden", "only an operator can vouch for a device state", {
        remedy: "without --trust-state the disk is imported",
      });
    assertRoom(this.rows, user, name);
    const release = this.begin(user);
    const row: SnapshotRow = { ...blankRow(user, name), id: newId() };
    /** Until the row is ready and counts by itself. */
    let share: Reservation | undefined;
    const dir = this.places.dir(row);
    try {
      this.rows.insert(row);
      await mkdir(dir, { recursive: true, mode: 0o700 });
      const { digests, notice, ...columns } = await importSnapshot(body, {
        ...options,
        dir,
        fingerprint: deps.engine.fingerprint(),
        user,
        maxDiskMb: deps.config.maxDiskMb,
        lohar: deps.lohar,
        key: deps.hostKey,
        storage: {
          reserve(bytes, what) {
            share ??= deps.quota.take(user, bytes, what);
            return deps.storage.reserve(bytes, what);
          },
        },
      });
      const files = await seal(this.places.at(row), columns.kind, columns.memory_mb);
      for (const [file, digest] of Object.entries(digests)) if (files[file]) files[file].digest = digest;
      const { allocatedBytes } = await this.places.usage(row);
      await deps.storage.sync(namesOf(columns.kind).map(this.places.at(row)));
      options.signal.throwIfAborted();
      this.rows.update(row, {
        ...columns,
        files: JSON.stringify(files),
        size_mb: Math.ceil(allocatedBytes / 1048576),
        status: "ready",
      });
      this.event("snapshot.imported", user, "", { name, kind: row.kind, ...(notice ? { notice } : {}) });
      return { ...(await this.places.view(row)), ...(notice ? { notice } : {}) };
    } catch (error) {
      await this.places.remove(row);
      this.rows.delete(row.id);
      throw error;
    } finally {
      share?.release();
      release();
    }
  }

  /** One import, export or verification a user at a time: each is a child at full speed. */
  private begin(user: User): () => void {
    if (this.running.has(user.id))
      throw conflict("another import, export or verification of yours is running", "wait until it is done");
    this.running.add(user.id);
    let held = true;
    return () => {
      if (held) this.running.delete(user.id);
      held = false;
    };
  }

  private event(type: string, user: User, sandboxId: string, meta: Record<string, unknown>): void {
    this.deps.events.record({ type, userId: user.id, sandboxId, meta });
  }
}
