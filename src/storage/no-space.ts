/** A disk without room, whoever noticed it: a system call, a program, the database. */
import { AppError } from "../lib/errors.ts";

/** The error as `disk_full`, with what helps; null for any other. */
export function noSpaceError(error: unknown): AppError | null {
  const seen = error as { code?: unknown; stderr?: unknown; message?: unknown } | null;
  const code = String(seen?.code ?? "");
  const text = `${seen?.stderr ?? ""} ${seen?.message ?? ""}`;
  const full =
    ["ENOSPC", "EDQUOT", "SQLITE_FULL"].includes(code) ||
    /No space left on device|Disk quota exceeded|database or disk is full/.test(text);
  if (!full || error instanceof AppError) return null;
  return new AppError("disk_full", "the server's disk is full", {
    cause: error,
    remedy: "destroy sandboxes or snapshots you no longer need",
  });
}
