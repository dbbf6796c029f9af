/** The database: one SQLite file in WAL mode, one opener, synchronous statements. Queries live with their noun. */
import { Database } from "bun:sqlite";
import { closeSync, openSync } from "node:fs";
import { foreignTables, makeWay, refuseForeign } from "./foreign.ts";
import type { Migration } from "./migration.ts";

export type { Migration };

export class Store {
  readonly db: Database;
  /** Tables of another program (foreign.ts). */
  readonly foreign: string[];

  /** Opens (or creates, 0600) the file and applies what is missing of `migrations`, each in its own transaction. */
  constructor(path: string, migrations: Migration[]) {
    // WAL and wal-index take the mode of the database.
    closeSync(openSync(path, "a", 0o600));
    this.db = new Database(path, { create: true, strict: true });
    // EXCLUSIVE, before anything is read: one opener, so the wal-index lives on the heap and not in a shared-memory file, whose
    // mapping faults on a full disk.
    this.db.exec("PRAGMA busy_timeout=5000; PRAGMA locking_mode=EXCLUSIVE");
    refuseForeign(this.db, path);
    // The log is written back every MiB and never keeps more.
    // FULL: a committed 'consumed' must outlive a power cut, or old memory could meet a newer disk (ARCHITECTURE, Life).
    this.db.exec(
      "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=256; PRAGMA journal_size_limit=1048576; PRAGMA mmap_size=0; PRAGMA temp_store=MEMORY; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;",
    );
    this.db.exec(
      "CREATE TABLE IF NOT EXISTS migrations (id TEXT PRIMARY KEY, applied_at TEXT NOT NULL) STRICT",
    );
    this.migrate(migrations);
    this.foreign = foreignTables(this.db, migrations);
  }

  private migrate(migrations: Migration[]): void {
    const known = new Set(
      this.db
        .query<{ id: string }, []>("SELECT id FROM migrations")
        .all()
        .map((row) => row.id),
    );
    for (const step of [...migrations].sort((a, b) => (a.id < b.id ? -1 : 1))) {
      if (known.has(step.id)) continue;
      this.transaction(() => {
        makeWay(this.db, step);
        this.db.exec(step.sql);
        this.db.query("INSERT INTO migrations VALUES (?, ?)").run(step.id, new Date().toISOString());
      });
    }
  }

  /** Runs `work` in one immediate transaction. `work` is synchronous: nothing else can run in between. */
  transaction<T>(work: () => T): T {
    return this.db.transaction(work).immediate();
  }

  /** Writes the log back and empties it. */
  close(): void {
    this.db.exec("PRAGMA wal_checkpoint(TRUNCATE)");
    this.db.close();
  }
}
