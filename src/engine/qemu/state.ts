/**
 * Device state in and out of a VMM: a migration stream without guest memory. Out of it over a unix socket in a folder of
 * root that the VMM sees read-only, into it through a socket that it inherited.
 */
import { createWriteStream } from "node:fs";
import { chmod, chown, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { EngineError } from "../engine.ts";
import { peerOf } from "../host/libc.ts";
import { IN_JAIL, INHERITED } from "./args.ts";
import type { Peer, Qmp } from "./qmp.ts";

/** A device state is about 100 KB; more than this is not one, bytes. */
const MAX_STATE = 64 << 20;
const DEADLINE_MS = 60_000;
/** From 'completed' to the end of the stream, ms. */
const CLOSE_MS = 3000;

const IGNORE_SHARED = { capabilities: [{ capability: "x-ignore-shared", state: true }] };

/** Writes the state of a paused VMM to the new file `path` and syncs nothing. `dir`: the VM's directory on the host. */
export async function saveState(qmp: Qmp, dir: string, peer: Peer, path: string): Promise<void> {
  const socketPath = `${dir}${IN_JAIL.out}`;
  await rm(socketPath, { force: true });
  const file = createWriteStream(path, { flags: "wx", mode: 0o600 });
  let received = 0;
  const done = Promise.withResolvers<void>();
  done.promise.catch(() => {});
  file.on("error", (error) => done.reject(error));
  const server = Bun.listen({
    unix: socketPath,
    socket: {
      open(socket) {
        const found = peerOf(socket);
        if (found?.pid === peer.pid && found.uid === peer.uid) return;
        socket.terminate();
        done.reject(new EngineError("somebody else connected for the VMM's state"));
      },
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
    // Each time: the folder may have been closed since the VMM started, and then no state could be saved.
    await chown(dirname(socketPath), 0, peer.uid);
    await chmod(dirname(socketPath), 0o710);
    await chown(socketPath, peer.uid, peer.uid);
    await chmod(socketPath, 0o600);
    await qmp.call("migrate-set-capabilities", IGNORE_SHARED);
    await qmp.call("migrate", { uri: `unix:${IN_JAIL.out}` });
    const end = Date.now() + DEADLINE_MS;
    for (;;) {
      const { status, "error-desc": why } = await qmp.query("query-migrate");
      if (status === "completed") break;
      if (status === "failed" || status === "cancelled")
        throw new EngineError(`device state was not saved: ${why ?? status}`);
      if (Date.now() > end) throw new EngineError("device state was not saved in time");
      await Bun.sleep(1);
    }
    const late = setTimeout(
      () => done.reject(new EngineError("the VMM does not close the connection of its device state")),
      CLOSE_MS,
    );
    await done.promise.finally(() => clearTimeout(late));
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

/**
 * Makes a VMM that waits for a state read it from the socket it inherited; resolves when it is loaded and the vCPUs are
 * stopped. `lohar jail` sends the file into it.
 */
export async function loadState(qmp: Qmp): Promise<void> {
  await qmp.call("migrate-set-capabilities", IGNORE_SHARED);
  await qmp.call("migrate-incoming", { uri: `fd:${INHERITED.incoming}` });
  const end = Date.now() + DEADLINE_MS;
  for (;;) {
    const { status } = await qmp.query("query-status");
    if (status === "paused" || status === "prelaunch") {
      const migration = await qmp.query("query-migrate");
      if (migration.status === "completed") return;
      if (migration.status === "failed") throw new EngineError("the VMM refused the device state");
    } else if (status !== "inmigrate") {
      throw new EngineError(`the VMM is ${status} after loading its device state`);
    }
    if (Date.now() > end) throw new EngineError("device state was not loaded in time");
    await Bun.sleep(1);
  }
}
