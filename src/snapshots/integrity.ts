/** Whether a snapshot is still what it was; noticed before anybody boots from it. */
import type { Logger } from "pino";
import { AppError, conflict } from "../http/errors.ts";
import { damage, type FileFacts, hashFile } from "./files.ts";
import type { SnapshotRow, SnapshotRows } from "./rows.ts";

/** Refuses a snapshot that cannot be what it was. */
export async function verify(row: SnapshotRow, dir: string, fingerprint: string): Promise<void> {
  if (row.kind === "memory" && row.fingerprint !== fingerprint) {
    throw conflict(
      `snapshot "${row.name}" was taken by another VMM version or on another CPU: its memory cannot be restored here`,
      "export it and import it with --cold to keep its disk",
    );
  }
  const wrong = await damage(dir, JSON.parse(row.files) as Record<string, FileFacts>);
  if (wrong) throw new AppError("restore_failed", `snapshot "${row.name}" is damaged: ${wrong}`);
  if (row.kind === "memory" && (await hashFile(`${dir}/state`)) !== row.state_sha256) {
    throw new AppError("restore_failed", `snapshot "${row.name}" is damaged: state was changed`);
  }
}

/** Full hashes, so that a touched file can be told from a changed one; costs no caller time. */
export async function hashLater(
  rows: SnapshotRows,
  row: SnapshotRow,
  dir: string,
  log: Logger,
): Promise<void> {
  try {
    const files = JSON.parse(row.files) as Record<string, FileFacts>;
    for (const [name, facts] of Object.entries(files)) {
      const child = Bun.spawn(["nice", "-n", "19", "sha256sum", `${dir}/${name}`], {
        stderr: "ignore",
      });
      const text = await new Response(child.stdout).text();
      if ((await child.exited) === 0) facts.sha256 = text.replace(/^\\/, "").slice(0, 64);
    }
    if (rows.find(row.user_id, row.name)?.id === row.id) rows.update(row, { files: JSON.stringify(files) });
  } catch (err) {
    log.warn({ snapshot: row.id, err }, "snapshot could not be hashed");
  }
}
