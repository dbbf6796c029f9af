/** Local commands of root: the daemon carries them out; while none runs, they work on the database under its lock. */
import { accessSync, constants, existsSync, statSync } from "node:fs";
import type { LocalCommand, LocalResult } from "../../users/local-commands.ts";
import { dataDir } from "../base/config.ts";
import { CliError } from "../base/errors.ts";

/** How long a command waits for a daemon that starts or another local command, ms. */
const WAIT_MS = 20_000;

/**
 * A data directory without a database gets one: that is a fresh server.
 * @throws CliError when there is no such directory or it may not be written, and for what the user rules refuse.
 */
export function localCommand(flag: string | undefined, command: LocalCommand): Promise<LocalResult> {
  return withDaemonOrDatabase(dataDir(flag), command, (file) => direct(file, command));
}

/** The daemon's answer; while none runs, what `direct` makes of the database, whose lock is held meanwhile. @throws CliError. */
export async function withDaemonOrDatabase<R>(
  directory: string,
  command: { op: string },
  direct: (database: string) => Promise<R>,
): Promise<R> {
  check(directory);
  const [{ callAdmin }, { adminSocket, databaseFile }, { tryLock }, { AppError }] = await Promise.all([
    import("../../daemon/admin-socket.ts"),
    import("../../daemon/files.ts"),
    import("../../daemon/lock.ts"),
    import("../../lib/errors.ts"),
  ]);
  try {
    for (const end = Date.now() + WAIT_MS; ; await Bun.sleep(50)) {
      const answer = await callAdmin<R>(adminSocket(directory), command);
      if (answer) return answer;
      const unlock = tryLock(directory);
      if (unlock) return await direct(databaseFile(directory)).finally(unlock);
      if (Date.now() > end)
        throw new CliError("the daemon holds the database and does not answer", {
          code: "unavailable",
          remedy: "sudo bhatti host service restart",
        });
    }
  } catch (error) {
    if (error instanceof AppError)
      throw new CliError(error.message, { code: error.code, remedy: error.remedy, cause: error });
    throw error;
  }
}

async function direct(file: string, command: LocalCommand): Promise<LocalResult> {
  const [{ Store }, { migrations }, { localCommands }] = await Promise.all([
    import("../../store/store.ts"),
    import("../../daemon/migrations.ts"),
    import("../../users/local-commands.ts"),
  ]);
  const store = new Store(file, migrations);
  try {
    const insert = store.db.query(
      "INSERT INTO events (ts, type, user_id, sandbox_id, meta) VALUES (?, ?, ?, '', ?)",
    );
    const record = (type: string, user: { id: string; name: string }, meta: Record<string, unknown>) =>
      insert.run(new Date().toISOString(), type, user.id, JSON.stringify({ name: user.name, ...meta }));
    return localCommands(store, record)(command);
  } finally {
    store.close();
  }
}

function check(directory: string): void {
  const forbidden = (cause?: unknown) =>
    new CliError(`${directory} may not be written by you`, {
      code: "forbidden",
      remedy: "run it with sudo",
      cause,
    });
  if (!existsSync(directory) || !statSync(directory).isDirectory())
    throw new CliError(`there is no data directory ${directory}`, {
      code: "no_database",
      remedy: "user commands work on the server itself; another directory: --data-dir",
    });
  try {
    accessSync(directory, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (cause) {
    throw forbidden(cause);
  }
  // Old folders let others through: what lies in them does not.
  const file = `${directory}/state.db`;
  if (existsSync(file) && process.getuid?.() !== 0 && statSync(file).uid !== process.getuid?.())
    throw forbidden();
}
