/** How many snapshots a user may have. Those that `restore` takes count like any other. */
import { AppError, conflict } from "../lib/errors.ts";
import type { User } from "../users/user.ts";
import type { SnapshotRow, SnapshotRows } from "./rows.ts";

/** Safety snapshots kept of one sandbox: one to go back, one more for a second thought. */
export const SAFETY_PER_SANDBOX = 2;
const DEFAULT_MAX = 5;

const maxOf = (user: User): number => (user.maxSnapshots > 0 ? user.maxSnapshots : DEFAULT_MAX);

/** Throws conflict for a name that is taken, limit_reached when there is no room for one more. */
export function assertRoom(rows: SnapshotRows, user: User, name: string): void {
  if (rows.find(user.id, name)) {
    throw conflict(
      `snapshot "${name}" already exists`,
      `choose another name or 'bhatti snapshot delete ${name}'`,
    );
  }
  const { count, safety } = rows.count(user.id);
  if (count >= maxOf(user)) throw full(user, count, safety, "bhatti snapshot delete <name> makes room");
}

/** Throws limit_reached when the quota is full and no older safety snapshot can give way. */
export function assertSafetyRoom(rows: SnapshotRows, user: User, sandbox: string): void {
  const { count, safety } = rows.count(user.id);
  if (count >= maxOf(user) && safety === 0) {
    const remedy = `bhatti snapshot delete <name> makes room; 'bhatti snapshot restore --no-safety ${sandbox} <name>' gives up the present state`;
    throw full(user, count, safety, remedy);
  }
}

/** The oldest safety snapshots that are too many, now that `made` was taken of its sandbox. */
export function surplus(rows: SnapshotRows, user: User, made: SnapshotRow): SnapshotRow[] {
  const older = rows.of(user.id).filter((row) => row.safety === 1 && row.id !== made.id);
  const own = older.filter((row) => row.source_sandbox === made.source_sandbox);
  const gone = new Set(own.slice(SAFETY_PER_SANDBOX - 1));
  const left = older.filter((row) => !gone.has(row));
  for (let over = rows.count(user.id).count - gone.size - maxOf(user); over > 0 && left.length > 0; over--)
    gone.add(left.pop()!);
  return [...gone];
}

function full(user: User, count: number, safety: number, remedy: string): AppError {
  const of = safety > 0 ? `, ${safety} of them taken by restore` : "";
  return new AppError("limit_reached", `snapshot limit reached (${count}/${maxOf(user)}${of})`, { remedy });
}
