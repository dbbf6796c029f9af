/** `bhatti serve`: start, recover, listen, wait for a signal, leave. */
import { renameSync, unlinkSync, writeFileSync } from "node:fs";
import { watchImages } from "../images/watch.ts";
import { collectKernels } from "../kernel/collect.ts";
import { createLog } from "../lib/log.ts";
import { neverDumped } from "../lib/no-core-dump.ts";
import { DiskWatch } from "../sandboxes/disk-watch.ts";
import { recover } from "../sandboxes/recovery.ts";
import { netOf, ownerOf } from "../sandboxes/vm-spec.ts";
import { isKeyCommand, type KeyCommand, keyCommand } from "../secrets/key-commands.ts";
import { makePrivate, mendPermissions } from "../storage/permissions.ts";
import { type LocalCommand, localCommands } from "../users/local-commands.ts";
import { VERSION } from "../version.ts";
import { serveAdmin } from "./admin-socket.ts";
import { build } from "./build.ts";
import type { Config } from "./config.ts";
import { adminSocket, daemonFile } from "./files.ts";
import { startEdge } from "./front.ts";
import { lockDataDir } from "./lock.ts";
import { watchPressure } from "./pressure.ts";
import { openReserve } from "./reserve.ts";
import { freezeAll, hostIsStopping } from "./shutdown.ts";

/** Runs until a signal: SIGTERM and SIGINT leave VMs running, unless the host goes down; SIGUSR2 always saves them. */
export async function runDaemon(config: Config): Promise<number> {
  const log = createLog(process.env.BHATTI_LOG_LEVEL ?? config.logLevel);
  process.on("unhandledRejection", (err) => log.error({ err }, "unhandled rejection"));
  process.on("uncaughtException", (err) => log.error({ err }, "uncaught exception"));
  makePrivate();
  if (!neverDumped())
    log.warn("a core dump of the daemon would hold secrets: the kernel refused to switch it off");
  const unlock = lockDataDir(config.dataDir);
  const mended = mendPermissions(config.dataDir);
  if (mended > 0) log.warn({ mended }, "files of an older version were open to other users: closed");
  await openReserve(config, (text) => log.info({ text }, "reserve"));
  const parts = await build(config, log);
  const { sandboxes, network, templates, snapshots, events } = parts;
  await network.start(
    sandboxes.deps.rows.all().map((row) => ({
      owner: ownerOf(row),
      net: netOf(row),
      name: row.name,
      live: row.status === "running",
    })),
  );
  await templates.start();
  await snapshots.start();
  const recovered = await recover(sandboxes);
  const edge = await startEdge(parts, config, log);
  const stopWatching = watchPressure(() => sandboxes.evictOne(), log);
  const diskWatch = new DiskWatch({
    dataDir: config.dataDir,
    registry: sandboxes.registry,
    totalBytes: parts.storage.free().totalBytes,
    log,
    events,
  });
  diskWatch.start();
  const users = localCommands(
    parts.store,
    (type, user, meta) => events.record({ type, userId: user.id, meta: { name: user.name, ...meta } }),
    (userId) => parts.quota.held(userId),
  );
  const stopAdmin = serveAdmin(adminSocket(config.dataDir), (command: LocalCommand | KeyCommand) =>
    isKeyCommand(command) ? keyCommand(parts.keyring, parts.secretRows, command) : users(command),
  );
  writeFileSync(
    `${daemonFile(config.dataDir)}.new`,
    JSON.stringify({ pid: process.pid, url: edge.url, version: VERSION }),
  );
  renameSync(`${daemonFile(config.dataDir)}.new`, daemonFile(config.dataDir));
  log.info({ url: edge.url, version: VERSION, ...recovered }, "listening");
  snapshots.places.hashAll();
  try {
    const needed = [...sandboxes.deps.rows.all(), ...snapshots.rows.all()].map((row) => row.kernel);
    const kernels = collectKernels(config.dataDir, new Set(needed));
    if (kernels.length > 0) log.info({ kernels }, "old guest kernels removed");
  } catch (err) {
    log.warn({ err }, "old guest kernels could not be removed");
  }
  const prepare = () =>
    void sandboxes.prepare().catch((err) => log.warn({ err }, "a template could not be prepared"));
  prepare();
  const forgetImages = watchImages(config.dataDir, prepare);
  events.record({
    type: "daemon.started",
    meta: { version: VERSION, recovered_vms: recovered.adopted, listen: config.listen },
  });

  const signal = await new Promise<NodeJS.Signals>((resolve) => {
    for (const name of ["SIGTERM", "SIGINT", "SIGUSR2"] as const) process.once(name, () => resolve(name));
  });
  log.info({ signal }, "stopping");
  events.record({ type: "daemon.shutdown", meta: { signal } });
  stopWatching();
  stopAdmin();
  diskWatch.stop();
  forgetImages();
  const saveAll = signal === "SIGUSR2" || (await hostIsStopping());
  await edge.stop(saveAll ? 1000 : 10_000);
  if (saveAll) {
    const left = await freezeAll(sandboxes, config.shutdownDeadlineS * 1000, log);
    log.info({ left }, "sandboxes saved");
  }
  await snapshots.places.hashing.stop();
  await parts.pool.stop();
  for (const actor of sandboxes.registry.all()) actor.idle.clear();
  await network.stop();
  await events.stop();
  parts.store.close();
  unlinkSync(daemonFile(config.dataDir));
  unlock();
  return 0;
}
