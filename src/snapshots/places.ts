/** Where the files of snapshots are, who reads them, and what becomes of them: moved, hashed, removed. */
import { readdir, rm } from "node:fs/promises";
import type { Logger } from "pino";
import { blocks } from "../storage/blocks.ts";
import type { MemoryPool } from "../storage/memory-pool.ts";
import type { Storage } from "../storage/storage.ts";
import { compare, readContent } from "./content.ts";
import { type DigestOptions, type FileFacts, namesOf, type PathOf } from "./files.ts";
import { Hashing } from "./hashing.ts";
import type { SnapshotRow, SnapshotRows } from "./rows.ts";
import type { SnapshotView } from "./service.ts";
import { plainView } from "./views.ts";

export interface PlacesDeps {
  rows: SnapshotRows;
  storage: Storage;
  memoryPool: MemoryPool;
  log: Logger;
  /** Hashes and unpacks, as a child. */
  lohar: string;
  config: { dataDir: string };
}

export class Places {
  /** Readers of a snapshot's files: a delete waits for nobody, it is refused while they work. */
  private readonly inUse = new Map<string, number>();
  /** Memory on its way out of the reserve, by snapshot: readers wait, or they would look for it where it was. */
  private readonly moving = new Map<string, Promise<unknown>>();
  readonly hashing: Hashing;

  constructor(private readonly deps: PlacesDeps) {
    this.hashing = new Hashing(async (id, signal) => {
      const row = deps.rows.byId(id);
      if (row?.status !== "ready") return;
      const { files } = await this.read(row, { signal, background: true });
      const wrong = files.filter((file) => file.damage);
      if (wrong.length > 0) deps.log.warn({ snapshot: id, files: wrong }, "a snapshot is damaged");
    }, deps.log);
  }

  get root(): string {
    return `${this.deps.config.dataDir}/snapshots`;
  }

  dir(row: SnapshotRow): string {
    return `${this.root}/${row.id}`;
  }

  at(row: SnapshotRow): PathOf {
    const memory = this.deps.memoryPool.locate("snapshots", row.id, "mem");
    return (name) => (name === "mem" ? memory : `${this.dir(row)}/${name}`);
  }

  async remove(row: SnapshotRow): Promise<void> {
    await rm(this.dir(row), { recursive: true, force: true });
    await this.deps.memoryPool.remove("snapshots", row.id);
  }

  /** Halves of a memory that was moving when the daemon died. Of two whole ones that in the reserve counts, as for a reader. */
  async tidy(row: SnapshotRow): Promise<void> {
    const wanted = new Set<string>(namesOf(row.kind));
    if (this.at(row)("mem") !== `${this.dir(row)}/mem`) wanted.delete("mem");
    for (const name of await readdir(this.dir(row)).catch(() => []))
      if (!wanted.has(name)) await rm(`${this.dir(row)}/${name}`, { recursive: true, force: true });
  }

  /** Hashes what nobody has hashed yet: snapshots of an older version, and what a former daemon did not get to. */
  hashAll(): void {
    for (const row of this.deps.rows.all())
      if (row.status === "ready" && !isHashed(row)) this.hashing.add(row.id);
  }

  isRead(row: SnapshotRow): boolean {
    return (this.inUse.get(row.id) ?? 0) > 0;
  }

  /** Keeps the files where they are and from being deleted while `work` reads them. */
  async using<T>(row: SnapshotRow, work: () => Promise<T>): Promise<T> {
    this.hold(row, 1);
    try {
      await this.settled(row);
      return await work();
    } finally {
      this.hold(row, -1);
    }
  }

  hold(row: SnapshotRow, delta: number): void {
    const count = (this.inUse.get(row.id) ?? 0) + delta;
    if (count > 0) this.inUse.set(row.id, count);
    else this.inUse.delete(row.id);
  }

  /** Resolves when the memory is not on its way. */
  async settled(row: SnapshotRow): Promise<void> {
    await this.moving.get(row.id)?.catch(() => {});
  }

  /** Reads every byte, and keeps the hashes that were not known yet. See content.ts. */
  async read(row: SnapshotRow, options: DigestOptions) {
    await this.settled(row);
    const content = await readContent(row, this.at(row), this.deps.lohar, options);
    // Others may have read it meanwhile: the first hash counts.
    const { files } = this.deps.rows.byId(row.id) ?? row;
    const facts = JSON.parse(files) as Record<string, FileFacts>;
    compare(content, facts);
    const known = JSON.stringify(facts);
    if (known !== files) this.deps.rows.update(row, { files: known });
    return content;
  }

  /** Bytes on disk; what of the memory is shared with others is not looked for. */
  async usage(row: SnapshotRow) {
    const files = await this.deps.storage.usage(this.dir(row));
    const memory = this.deps.memoryPool.allocated("snapshots", row.id);
    return {
      allocatedBytes: files.allocatedBytes + memory,
      exclusiveBytes: files.exclusiveBytes === null ? null : files.exclusiveBytes + memory,
    };
  }

  /** With sizes as they are now. */
  async view(row: SnapshotRow): Promise<SnapshotView> {
    const usage = await this.usage(row).catch(() => null);
    return {
      ...plainView(row),
      ...(usage ? { allocated_bytes: usage.allocatedBytes, exclusive_bytes: usage.exclusiveBytes } : {}),
    };
  }

  /** What the owner's snapshots hold on disk, those taken by `restore` included, bytes: see StorageQuota. */
  bytesHeld(userId: string): number {
    return this.deps.rows
      .of(userId)
      .flatMap((row) => namesOf(row.kind).map(this.at(row)))
      .reduce((sum, path) => sum + blocks(path), 0);
  }

  /** Moves the memory of the oldest snapshot that nobody reads out of the reserve; false when there is none. */
  async moveOutOne(): Promise<boolean> {
    const { memoryPool, storage } = this.deps;
    const oldest = this.deps.rows
      .all()
      .filter((row) => row.status === "ready" && !this.inUse.has(row.id))
      .filter((row) => memoryPool.allocated("snapshots", row.id) > 0)
      .sort((a, b) => (a.created_at < b.created_at ? -1 : 1));
    for (const row of oldest) {
      const room = storage.tryReserve(memoryPool.allocated("snapshots", row.id));
      if (!room) return false;
      try {
        this.hold(row, 1);
        const hashed = isHashed(row);
        const move = this.hashing.cancel(row.id).then(() => memoryPool.moveOut("snapshots", row.id, "mem"));
        this.moving.set(row.id, move);
        const moved = await move;
        if (!hashed) this.hashing.add(row.id);
        if (moved) return true;
      } finally {
        this.moving.delete(row.id);
        this.hold(row, -1);
        room.release();
      }
    }
    return false;
  }
}

export const isHashed = (row: SnapshotRow): boolean =>
  Object.values(JSON.parse(row.files) as Record<string, FileFacts>).every((file) => file.digest);
