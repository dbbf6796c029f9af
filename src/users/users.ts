/** Users and their API keys. Works on the database alone, so that the server's own command line can use it as well. */
import { createHash } from "node:crypto";
import { AppError, badRequest, conflict, notFound } from "../lib/errors.ts";
import { hex } from "../lib/ids.ts";
import type { Migration, Store } from "../store/store.ts";
import type { User } from "./user.ts";

export const userMigrations: Migration[] = [
  {
    id: "0010-users",
    sql: `
CREATE TABLE users (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  api_key_hash TEXT NOT NULL UNIQUE,
  admin INTEGER NOT NULL DEFAULT 0,
  subnet_index INTEGER NOT NULL UNIQUE,
  max_sandboxes INTEGER NOT NULL,
  max_cpus_per_sandbox INTEGER NOT NULL,
  max_memory_mb_per_sandbox INTEGER NOT NULL,
  max_volume_storage_mb INTEGER NOT NULL,
  max_snapshots INTEGER NOT NULL,
  max_images INTEGER NOT NULL,
  created_at TEXT NOT NULL
) STRICT;`,
  },
  { id: "0020-max-secrets", sql: "ALTER TABLE users ADD COLUMN max_secrets INTEGER NOT NULL DEFAULT 100" },
  { id: "0030-storage", sql: "ALTER TABLE users ADD COLUMN max_storage_mb INTEGER NOT NULL DEFAULT 0" },
  { id: "0040-max-published", sql: "ALTER TABLE users ADD COLUMN max_published INTEGER NOT NULL DEFAULT 50" },
];

/** Of users that are no operators, MiB. */
const DEFAULT_STORAGE_MB = 102_400;

interface UserRow {
  id: string;
  name: string;
  admin: number;
  subnet_index: number;
  max_sandboxes: number;
  max_cpus_per_sandbox: number;
  max_memory_mb_per_sandbox: number;
  max_volume_storage_mb: number;
  max_snapshots: number;
  max_images: number;
  max_secrets: number;
  max_published: number;
  max_storage_mb: number;
  created_at: string;
}

export interface UserLimitsInput {
  maxSandboxes?: number;
  maxCpusPerSandbox?: number;
  maxMemoryMbPerSandbox?: number;
  maxSnapshots?: number;
  maxSecrets?: number;
  maxPublished?: number;
  /** MiB; 0 = no limit. */
  maxStorageMb?: number;
}

/** Subnet indexes above this are reserved (templates). */
const MAX_SUBNET = 65_000;
const COLUMNS =
  "id, name, admin, subnet_index, max_sandboxes, max_cpus_per_sandbox, max_memory_mb_per_sandbox, max_volume_storage_mb, max_snapshots, max_images, max_secrets, max_published, max_storage_mb, created_at";

const hashOf = (key: string): string => createHash("sha256").update(key).digest("hex");
const newKey = (): string => `bht_${hex(32)}`;

export class Users {
  constructor(private readonly store: Store) {}

  /** The key is returned once and stored only as a hash. Throws bad_request, conflict. */
  create(input: { name: string; admin?: boolean } & UserLimitsInput): { user: User; key: string } {
    if (!/^[a-zA-Z0-9][a-zA-Z0-9._@-]{0,62}$/.test(input.name))
      throw badRequest(
        "invalid user name: letters, digits, '.', '_', '-' and '@', 63 at most",
        "begin it with a letter or digit",
      );
    checkLimits(input);
    const key = newKey();
    const id = `usr_${hex(4)}`;
    this.store.transaction(() => {
      if (this.byName(input.name))
        throw conflict(
          `user "${input.name}" already exists`,
          `choose another name; a new key for this one: bhatti user rotate-key ${input.name}`,
        );
      this.store.db
        .query(
          "INSERT INTO users (id, name, api_key_hash, admin, subnet_index, max_sandboxes, max_cpus_per_sandbox, max_memory_mb_per_sandbox, max_volume_storage_mb, max_snapshots, max_images, max_secrets, max_published, max_storage_mb, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .run(
          id,
          input.name,
          hashOf(key),
          input.admin ? 1 : 0,
          this.freeSubnet(),
          input.maxSandboxes ?? 5,
          input.maxCpusPerSandbox ?? 4,
          input.maxMemoryMbPerSandbox ?? 4096,
          20_480,
          input.maxSnapshots ?? 5,
          10,
          input.maxSecrets ?? 100,
          input.maxPublished ?? 50,
          input.maxStorageMb ?? (input.admin ? 0 : DEFAULT_STORAGE_MB),
          new Date().toISOString(),
        );
    });
    return { user: this.byName(input.name)!, key };
  }

  list(): User[] {
    return this.store.db
      .query<UserRow, []>(`SELECT ${COLUMNS} FROM users ORDER BY created_at, name`)
      .all()
      .map(toUser);
  }

  byName(name: string): User | null {
    const row = this.store.db
      .query<UserRow, [string]>(`SELECT ${COLUMNS} FROM users WHERE name = ?`)
      .get(name);
    return row ? toUser(row) : null;
  }

  byId(id: string): User | null {
    const row = this.store.db.query<UserRow, [string]>(`SELECT ${COLUMNS} FROM users WHERE id = ?`).get(id);
    return row ? toUser(row) : null;
  }

  /** Refused while the user owns sandboxes, snapshots or secrets. */
  delete(name: string): void {
    this.store.transaction(() => {
      const user = this.mustFind(name);
      for (const [table, column] of [
        ["sandboxes", "created_by"],
        ["snapshots", "user_id"],
        ["secrets", "user_id"],
      ] as const) {
        const exists = this.store.db.query("SELECT 1 FROM sqlite_master WHERE name = ?").get(table);
        if (!exists) continue;
        const row = this.store.db
          .query<{ n: number }, [string]>(`SELECT count(*) AS n FROM ${table} WHERE ${column} = ?`)
          .get(user.id);
        if (row && row.n > 0)
          throw conflict(
            `user "${name}" still owns ${row.n} ${table}`,
            `the user destroys them; without their key: bhatti user rotate-key ${name} gives you one`,
          );
      }
      this.store.db.query("DELETE FROM users WHERE id = ?").run(user.id);
    });
  }

  /** The old key is invalid at once. */
  rotateKey(name: string): string {
    const user = this.mustFind(name);
    const key = newKey();
    this.store.db.query("UPDATE users SET api_key_hash = ? WHERE id = ?").run(hashOf(key), user.id);
    return key;
  }

  setLimits(name: string, limits: UserLimitsInput): User {
    checkLimits(limits);
    const user = { ...this.mustFind(name) };
    const pick = (given: number | undefined, old: number) => given ?? old;
    this.store.db
      .query(
        "UPDATE users SET max_sandboxes = ?, max_cpus_per_sandbox = ?, max_memory_mb_per_sandbox = ?, max_snapshots = ?, max_secrets = ?, max_published = ?, max_storage_mb = ? WHERE id = ?",
      )
      .run(
        pick(limits.maxSandboxes, user.maxSandboxes),
        pick(limits.maxCpusPerSandbox, user.maxCpusPerSandbox),
        pick(limits.maxMemoryMbPerSandbox, user.maxMemoryMbPerSandbox),
        pick(limits.maxSnapshots, user.maxSnapshots),
        pick(limits.maxSecrets, user.maxSecrets),
        pick(limits.maxPublished, user.maxPublished),
        pick(limits.maxStorageMb, user.maxStorageMb),
        user.id,
      );
    return this.mustFind(name);
  }

  /** By the key's hash: the comparison is the index's, on a value the caller cannot choose freely. */
  authenticate(key: string): User | null {
    if (key.length > 256) return null;
    const row = this.store.db
      .query<UserRow, [string]>(`SELECT ${COLUMNS} FROM users WHERE api_key_hash = ?`)
      .get(hashOf(key));
    return row ? toUser(row) : null;
  }

  private mustFind(name: string): User {
    const user = this.byName(name);
    if (!user) throw notFound(`user "${name}" not found`, "bhatti user list shows the users");
    return user;
  }

  private freeSubnet(): number {
    const used = new Set(
      this.store.db
        .query<{ i: number }, []>("SELECT subnet_index AS i FROM users")
        .all()
        .map((row) => row.i),
    );
    for (let index = 1; index <= MAX_SUBNET; index++) if (!used.has(index)) return index;
    throw new AppError("limit_reached", "no subnet is left for another user");
  }
}

function checkLimits(limits: UserLimitsInput): void {
  for (const [name, value] of Object.entries(limits)) {
    if (typeof value === "number" && (!Number.isInteger(value) || value < 0 || value > 10_000_000))
      throw badRequest(`${name} must be a whole number`);
  }
}

const toUser = (row: UserRow): User => ({
  id: row.id,
  name: row.name,
  admin: row.admin === 1,
  subnetIndex: row.subnet_index,
  maxSandboxes: row.max_sandboxes,
  maxCpusPerSandbox: row.max_cpus_per_sandbox,
  maxMemoryMbPerSandbox: row.max_memory_mb_per_sandbox,
  maxVolumeStorageMb: row.max_volume_storage_mb,
  maxSnapshots: row.max_snapshots,
  maxImages: row.max_images,
  maxSecrets: row.max_secrets,
  maxPublished: row.max_published,
  maxStorageMb: row.max_storage_mb,
  createdAt: row.created_at,
});

export const createUsers = (store: Store): Users => new Users(store);
