/** The server's database, opened from the command line. The daemon may run: SQLite's locks keep the two apart. */
import { accessSync, constants, existsSync, statSync } from "node:fs";
import { join } from "node:path";
import type { User } from "../../users/user.ts";
import type { Users } from "../../users/users.ts";
import { dataDir } from "../base/config.ts";
import { CliError } from "../base/errors.ts";

type RecordEvent = (type: string, user: User, meta?: Record<string, unknown>) => void;

/**
 * Opens `<data dir>/state.db`, runs `work`, closes it. A directory without a database gets one: that is a fresh server.
 * @throws CliError when there is no such directory or it may not be written, and for what the user rules refuse.
 */
export async function withUsers<T>(
  flag: string | undefined,
  work: (users: Users, record: RecordEvent, sandboxes: (user: User) => number) => T,
): Promise<T> {
  const directory = dataDir(flag);
  const file = join(directory, "state.db");
  check(directory, file);
  const [{ Store }, { migrations }, { createUsers }, { AppError }] = await Promise.all([
    import("../../store/store.ts"),
    import("../../daemon/migrations.ts"),
    import("../../users/users.ts"),
    import("../../lib/errors.ts"),
  ]);
  const store = new Store(file, migrations);
  try {
    const insert = store.db.query(
      "INSERT INTO events (ts, type, user_id, sandbox_id, meta) VALUES (?, ?, ?, '', ?)",
    );
    const count = store.db.query<{ n: number }, [string]>(
      "SELECT count(*) AS n FROM sandboxes WHERE created_by = ?",
    );
    return work(
      createUsers(store),
      (type, user, meta = {}) =>
        insert.run(new Date().toISOString(), type, user.id, JSON.stringify({ name: user.name, ...meta })),
      (user) => count.get(user.id)?.n ?? 0,
    );
  } catch (error) {
    if (error instanceof AppError)
      throw new CliError(error.message, { code: error.code, remedy: error.remedy, cause: error });
    throw error;
  } finally {
    store.close();
  }
}

function check(directory: string, file: string): void {
  if (!existsSync(directory) || !statSync(directory).isDirectory())
    throw new CliError(`there is no data directory ${directory}`, {
      code: "no_database",
      remedy: "user commands work on the server itself; another directory: --data-dir",
    });
  try {
    accessSync(existsSync(file) ? file : directory, constants.R_OK | constants.W_OK);
    accessSync(directory, constants.W_OK | constants.X_OK);
  } catch (cause) {
    throw new CliError(`${file} may not be written by you`, {
      code: "forbidden",
      remedy: "run it with sudo",
      cause,
    });
  }
}
