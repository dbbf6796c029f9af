/**
 * Tables of others in the database. The name of the file is documented, and the commands of bhatti v1 open it wherever they find
 * it: they add tables of their own. Those are noticed, never changed in content, and never in the way of a later migration.
 */
import type { Database } from "bun:sqlite";
import { AppError } from "../lib/errors.ts";
import type { Migration } from "./migration.ts";

const tablesOf = (sql: string): string[] =>
  [...sql.matchAll(/CREATE TABLE (?:IF NOT EXISTS )?(\w+)/gi)].map((match) => match[1]!);

function present(db: Database): string[] {
  return db
    .query<{ name: string }, []>(
      "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name",
    )
    .all()
    .map(({ name }) => name);
}

/** Throws conflict when the file is not a database of ours. Nothing was written to it yet. */
export function refuseForeign(db: Database, path: string): void {
  const tables = present(db);
  if (tables.length === 0 || tables.includes("migrations")) return;
  const v1 = tables.includes("users") && tables.includes("sandboxes");
  throw new AppError(
    "conflict",
    `${path} is ${v1 ? "the database of bhatti v1" : "not a database of bhatti"}`,
    {
      remedy: `its sandboxes cannot be taken over. Keep it, and name another folder: data_dir in /etc/bhatti/config.yaml${
        v1 ? "; or move it away once v1 is stopped" : ""
      }`,
    },
  );
}

/** Tables that no migration of ours made. */
export function foreignTables(db: Database, migrations: Migration[]): string[] {
  const ours = new Set(["migrations", ...migrations.flatMap(({ sql }) => tablesOf(sql))]);
  return present(db).filter((name) => !ours.has(name));
}

/** Renames tables that stand where `step` makes its own: `secrets` becomes `foreign_secrets`. Inside the step's transaction. */
export function makeWay(db: Database, step: Migration): void {
  for (const table of tablesOf(step.sql)) {
    const there = present(db);
    if (!there.includes(table)) continue;
    let name = `foreign_${table}`;
    for (let n = 2; there.includes(name); n++) name = `foreign_${table}_${n}`;
    // Names of indexes stay with the table that has them: ours may have the same.
    const indexes = db
      .query<{ name: string }, [string]>(
        "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = ? AND sql IS NOT NULL",
      )
      .all(table);
    for (const index of indexes) db.exec(`DROP INDEX "${index.name}"`);
    db.exec(`ALTER TABLE "${table}" RENAME TO "${name}"`);
  }
}
