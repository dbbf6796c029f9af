/** Device state in and out of a VMM: a migration stream over a unix socket in the VM's directory, without guest memory. */
import { createWriteStream } from "node:fs";
import { chmod, chown, readFile, rm } from "node:fs/promises";
import { EngineError } from "../engine.ts";
import { IN_JAIL } from "./args.ts";
import type { Qmp } from "./qmp.ts";

/** A device state is about 100 KB; more than this is not one, bytes. */
const MAX_STATE = 64 << 20;
const DEADLINE_MS = 60_000;

const IGNORE_SHARED = { capabilities: [{ capability: "x-ignore-shared", state: true }] };

/** Writes the state of a paused VMM to the new file `path` and syncs nothing. `root`: the jail's directory on the host. */
export async function saveState(qmp: Qmp, root: string, uid: number, path: string): Promise<void> {
  const socketPath = `${root}${IN_JAIL.out}`;
  await rm(socketPath, { force: true });
  const file = createWriteStream(path, { flags: "wx", mode: 0o600 });
  let received = 0;
  const done = Promise.withResolvers<void>();
  done.promise.catch(() => {});
  file.on("error", (error) => done.reject(error));
  const server = Bun.listen({
    unix: socketPath,
    socket: {
      data(socket, chunk) {
        received += chunk.length;
        if (received > MAX_STATE) {
          socket.terminate();
          return done.reject(new EngineError("the VMM sent too much device state"));
        }
        file.write(Buffer.from(chunk));
      },
      close: () => done.resolve(),
      error: (_socket, error) => done.reject(error),
    },
  });
  try {
    await chown(socketPath, uid, uid);
    await chmod(socketPath, 0o600);
    await qmp.call("migrate-set-capabilities", IGNORE_SHARED);
    await qmp.call("migrate", { uri: `unix:${IN_JAIL.out}` });
    const end = Date.now() + DEADLINE_MS;
    for (;;) {
      const { status, "error-desc": why } = await qmp.call<{ status: string; "error-desc"?: string }>(
        "query-migrate",
      );
      if (status === "completed") break;
      if (status === "failed" || status === "cancelled")
        throw new EngineError(`device state was not saved: ${why ?? status}`);
      if (Date.now() > end) throw new EngineError("device state was not saved in time");
      await Bun.sleep(1);
    }
    await done.promise;
    await new Promise<void>((resolve, reject) =>
      file.end((error?: Error | null) => (error ? reject(error) : resolve())),
    );
    if (received === 0) throw new EngineError("the VMM sent no device state");
  } catch (error) {
    file.destroy();
    await rm(path, { force: true });
    throw error;
  } finally {
    server.stop(true);
    await rm(socketPath, { force: true });
  }
}

/** Feeds `path` to a VMM that waits for a state; resolves when it is loaded and the vCPUs are stopped. */
export async function loadState(qmp: Qmp, root: string, path: string): Promise<void> {
  const state = await readFile(path);
  await qmp.call("migrate-set-capabilities", IGNORE_SHARED);
  await qmp.call("migrate-incoming", { uri: `unix:${IN_JAIL.in}` });
  await feed(`${root}${IN_JAIL.in}`, state);
  const end = Date.now() + DEADLINE_MS;
  for (;;) {
    const { status } = await qmp.call<{ status: string }>("query-status");
    if (status === "paused" || status === "prelaunch") {
      const migration = await qmp.call<{ status?: string }>("query-migrate");
      if (migration.status === "completed") return;
      if (migration.status === "failed") throw new EngineError("the VMM refused the device state");
    } else if (status !== "inmigrate") {
      throw new EngineError(`the VMM is ${status} after loading its device state`);
    }
    if (Date.now() > end) throw new EngineError("device state was not loaded in time");
    await Bun.sleep(1);
  }
}

function feed(socketPath: string, state: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    let at = 0;
    const push = (socket: { write(data: Uint8Array): number; end(): void }) => {
      while (at < state.length) {
        const n = socket.write(state.subarray(at));
        if (n <= 0) return;
        at += n;
      }
      socket.end();
      resolve();
    };
    Bun.connect({
      unix: socketPath,
      socket: {
        open: push,
        drain: push,
        data() {},
        close: () =>
          at < state.length ? reject(new EngineError("the VMM closed while it loaded its state")) : resolve(),
        error: (_socket, error) => reject(error),
      },
    }).catch(reject);
  });
}
