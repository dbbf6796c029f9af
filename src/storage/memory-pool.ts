/**
 * Who may have how much of the reserve (reserve.ts). A VM that runs is promised its whole memory, however little of it was
 * ever touched; memory that sleeps (cold sandboxes, templates, snapshots) counts with the blocks it has. Every block of the
 * file system belongs to some file, and no file has more than what was promised for it: so what was promised is there,
 * and a page fault of a guest never meets a full disk. Sharing (reflinks) only makes it less.
 */
import { existsSync, readdirSync, rmSync, statfsSync } from "node:fs";
import { mkdir, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { AppError } from "../lib/errors.ts";
import { faultPoint } from "../lib/fault.ts";
import { run } from "../lib/run.ts";
import { blocks } from "./blocks.ts";
import { reserveDir } from "./reserve.ts";

export type Kind = "sandboxes" | "templates" | "snapshots";
const KINDS: Kind[] = ["sandboxes", "templates", "snapshots"];

/**
 * Left to the file system's own records, the database and its log, and to pages that two running copies share with nobody
 * else and overwrite at the same moment (they are there three times until they are written back): a share and bytes.
 */
const MARGIN_SHARE = 0.05;
const MARGIN_BYTES = 128 << 20;

export class MemoryPool {
  private readonly charges = new Map<string, number>();
  readonly capacityBytes: number;
  /**
   * Ways to make room, tried in this order until one says that it did: each gives back what it can spare, or moves it to the
   * data file system.
   */
  makeRoom: (() => Promise<boolean>)[] = [];

  /** The reserve is mounted. What lies in it is counted as sleeping; recovery says what runs. */
  constructor(private readonly dataDir: string) {
    const fs = statfsSync(reserveDir(dataDir));
    const bytes = fs.blocks * fs.bsize;
    this.capacityBytes = Math.max(0, Math.floor(bytes * (1 - MARGIN_SHARE)) - MARGIN_BYTES);
    for (const kind of KINDS)
      for (const id of list(this.root(kind))) this.charges.set(`${kind}/${id}`, this.allocated(kind, id));
  }

  root(kind: Kind): string {
    return `${reserveDir(this.dataDir)}/${kind}`;
  }

  dir(kind: Kind, id: string): string {
    return `${this.root(kind)}/${id}`;
  }

  /** Where a file of that machine is: in the reserve; or, when it moved out (or is an older version's), beside its disk. */
  locate(kind: Kind, id: string, name: string): string {
    const here = `${this.dir(kind, id)}/${name}`;
    const outside = this.outside(kind, id, name);
    return !existsSync(here) && existsSync(outside) ? outside : here;
  }

  async makeDir(kind: Kind, id: string): Promise<string> {
    await mkdir(this.dir(kind, id), { recursive: true, mode: 0o700 });
    return this.dir(kind, id);
  }

  /** Bytes that nobody was promised. */
  freeBytes(): number {
    let sum = 0;
    for (const bytes of this.charges.values()) sum += bytes;
    return this.capacityBytes - sum;
  }

  /**
   * Promises `bytes` in all to the machine, making room first where needed. Throws memory_full, and nothing is promised then
   * beyond what was.
   */
  async promise(kind: Kind, id: string, bytes: number, what: string): Promise<void> {
    const key = `${kind}/${id}`;
    while (this.freeBytes() + (this.charges.get(key) ?? 0) < bytes) {
      if (await this.spare()) continue;
      const mb = (n: number) => Math.ceil(n / 1048576);
      throw new AppError(
        "memory_full",
        `no room for ${what} in the server's memory reserve: ${mb(bytes)} MB needed, ${mb(Math.max(0, this.freeBytes()))} of ${mb(this.capacityBytes)} MB are free`,
        {
          remedy:
            "stop or destroy a sandbox, delete a snapshot, or enlarge the reserve: 'bhatti host memory-pool SIZE' on the server",
          retryAfter: 5,
        },
      );
    }
    this.charges.set(key, Math.max(bytes, this.charges.get(key) ?? 0));
  }

  /** Without a check: what runs already. */
  adopt(kind: Kind, id: string, bytes: number): void {
    if (existsSync(this.dir(kind, id))) this.charges.set(`${kind}/${id}`, bytes);
  }

  /** The machine runs no longer: from now on it counts with the blocks it has. */
  settle(kind: Kind, id: string): void {
    const bytes = this.allocated(kind, id);
    if (bytes > 0) this.charges.set(`${kind}/${id}`, bytes);
    else this.charges.delete(`${kind}/${id}`);
  }

  /** What the machine was promised or has, bytes. */
  charged(kind: Kind, id: string): number {
    return this.charges.get(`${kind}/${id}`) ?? 0;
  }

  /** The machine gets another name; the one that had it is gone already. */
  async rename(kind: Kind, from: string, to: string): Promise<void> {
    await rename(this.dir(kind, from), this.dir(kind, to));
    this.charges.set(`${kind}/${to}`, this.charged(kind, from));
    this.charges.delete(`${kind}/${from}`);
  }

  /** Removes everything the machine has here. */
  async remove(kind: Kind, id: string): Promise<void> {
    await rm(this.dir(kind, id), { recursive: true, force: true });
    this.charges.delete(`${kind}/${id}`);
  }

  /** Removes what belongs to none of `known`. */
  async sweep(kind: Kind, known: Set<string>): Promise<void> {
    for (const id of list(this.root(kind))) if (!known.has(id)) await this.remove(kind, id);
  }

  /** The machine's files here, bytes on disk. */
  allocated(kind: Kind, id: string): number {
    let sum = 0;
    for (const name of list(this.dir(kind, id))) sum += blocks(`${this.dir(kind, id)}/${name}`);
    return sum;
  }

  /**
   * Moves a file to the data file system, holes as holes, on disk before it is gone here. Both are there for a moment: the one
   * in the reserve counts. False when there is nothing to move.
   */
  async moveOut(kind: Kind, id: string, name: string): Promise<boolean> {
    const from = `${this.dir(kind, id)}/${name}`;
    if (!existsSync(from)) return false;
    await move(from, this.outside(kind, id, name));
    this.settle(kind, id);
    return true;
  }

  /** Brings a file back that moved out; its machine was promised the room. */
  async bringBack(kind: Kind, id: string, name: string): Promise<void> {
    const from = this.outside(kind, id, name);
    const to = `${await this.makeDir(kind, id)}/${name}`;
    if (existsSync(to)) rmSync(from, { force: true });
    else if (existsSync(from)) await move(from, to);
  }

  /** Where a file of that machine lies that moved out. */
  outside(kind: Kind, id: string, name: string): string {
    return `${this.dataDir}/${kind}/${id}/${name}`;
  }

  private async spare(): Promise<boolean> {
    for (const way of this.makeRoom) if (await way()) return true;
    return false;
  }
}

const list = (dir: string): string[] => (existsSync(dir) ? readdirSync(dir) : []);

/** A copy with owner, mode and times; then the original goes. */
async function move(from: string, to: string): Promise<void> {
  const staging = `${to}.moving`;
  try {
    await run([
      "cp",
      "--reflink=never",
      "--sparse=always",
      "--preserve=mode,ownership,timestamps",
      from,
      staging,
    ]);
    faultPoint("memory-move:copied");
    await sync(staging);
    await rename(staging, to);
    faultPoint("memory-move:there");
    await sync(dirname(to));
  } catch (error) {
    await rm(staging, { force: true });
    throw error;
  }
  await rm(from);
}

async function sync(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
