/** Whether a snapshot is still what it was; noticed before anybody boots from it. */
import { AppError, conflict } from "../lib/errors.ts";
import { sha256 } from "../lib/hash.ts";
import { damage, type FileFacts, type PathOf } from "./files.ts";
import type { SnapshotRow } from "./rows.ts";

/** Refuses a snapshot that cannot be what it was. */
export async function verify(
  row: SnapshotRow,
  at: PathOf,
  fingerprint: string,
  lohar: string,
): Promise<void> {
  if (row.kind === "memory" && row.fingerprint !== fingerprint) {
    throw conflict(
      `snapshot "${row.name}" was taken by another VMM version or on another CPU: its memory cannot be restored here`,
      "export it and import it with --cold to keep its disk",
    );
  }
  const wrong = await damage(at, JSON.parse(row.files) as Record<string, FileFacts>, lohar);
  if (wrong) throw damaged(row.name, wrong);
  if (row.kind === "memory" && (await sha256(at("state"))) !== row.state_sha256) {
    throw damaged(row.name, "state was changed");
  }
}

/** The error of a snapshot that is not what it was. */
export const damaged = (name: string, what: string): AppError =>
  new AppError("restore_failed", `snapshot "${name}" is damaged: ${what}`, {
    remedy: `bhatti snapshot delete ${name}; its files were changed on the server's disk`,
  });
