/** The composition root: builds every part and hands each the narrow interfaces it needs. Nothing else knows them all. */
import { readFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import type { Logger } from "pino";
import { createEngine } from "../engine/choose.ts";
import { isVmmSilent } from "../engine/engine.ts";
import { AuthFailures } from "../events/auth-failures.ts";
import { EventLog } from "../events/event-log.ts";
import { Metrics } from "../events/metrics.ts";
import { streamSockets } from "../exec/stream.ts";
import { createGuestClient } from "../guest/client.ts";
import { guestErrorToApp } from "../guest/errors.ts";
import { GuestError } from "../guest/guest.ts";
import { createApp } from "../http/server.ts";
import { LIMITS, Shares } from "../http/shares.ts";
import { createImages } from "../images/images.ts";
import { refreshAgent } from "../kernel/install.ts";
import { createKernels } from "../kernel/kernels.ts";
import { AppError } from "../lib/errors.ts";
import { HostNetwork } from "../network/create.ts";
import { GUEST } from "../network/network.ts";
import { grantOf } from "../ports/grant.ts";
import { isProxied } from "../ports/routes.ts";
import { PublishService } from "../publish/publishing.ts";
import { PublishRows } from "../publish/rows.ts";
import { Traffic } from "../publish/traffic.ts";
import { Visitors } from "../publish/visitors.ts";
import { MemoryBudget, roomFor, wakePlaces } from "../sandboxes/memory.ts";
import { SandboxRows } from "../sandboxes/rows.ts";
import { SandboxService } from "../sandboxes/sandboxes.ts";
import { Keyring } from "../secrets/keyring.ts";
import { SecretRows } from "../secrets/rows.ts";
import { SecretService } from "../secrets/secrets.ts";
import { hostKey } from "../snapshots/host-key.ts";
import { SnapshotRows } from "../snapshots/rows.ts";
import { SnapshotService } from "../snapshots/snapshots.ts";
import { createStorage } from "../storage/create.ts";
import { MemoryPool } from "../storage/memory-pool.ts";
import { noSpaceError } from "../storage/no-space.ts";
import { Store } from "../store/store.ts";
import { TemplateBuilder } from "../templates/builder.ts";
import { Templates } from "../templates/templates.ts";
import { VmPool } from "../templates/vm-pool.ts";
import { StorageQuota } from "../users/storage-quota.ts";
import { Users } from "../users/users.ts";
import { VERSION } from "../version.ts";
import type { Config } from "./config.ts";
import { ageKeyFile, databaseFile } from "./files.ts";
import { migrations } from "./migrations.ts";
import { operations } from "./operations.ts";
import { loharPath } from "./programs.ts";
import { urlsOf } from "./public-urls.ts";
import { routes } from "./routes.ts";

/** Everything that runs, not yet started. */
export async function build(config: Config, log: Logger) {
  const { dataDir } = config;
  await mkdir(dataDir, { recursive: true, mode: 0o700 });
  await mkdir(`${dataDir}/sandboxes`, { recursive: true, mode: 0o700 });
  const store = new Store(databaseFile(dataDir), migrations);
  if (store.foreign.length > 0) {
    log.warn(
      { tables: store.foreign },
      "the database holds tables of another program, as the commands of bhatti v1 make them on this host; they are left alone",
    );
  }
  const secretRows = new SecretRows(store);
  const keyring = new Keyring(secretRows, ageKeyFile(config));
  await keyring.open((text) => log.error(text));
  const storage = await createStorage(dataDir);
  const lohar = await loharPath(dataDir);
  // A new agent needs a new initramfs.
  await refreshAgent({ dataDir, lohar, progress: (text) => log.info({ text }, "kernel") });
  const kernels = createKernels(dataDir);
  const { engine, choice } = await createEngine({
    engine: config.engine,
    dataDir,
    lohar,
    kernel: kernels.current(),
  });
  log.info({ engine: engine.name, accel: engine.accel, why: choice.why, storage: storage.mode }, "engine");
  const network = new HostNetwork({
    prefix: config.networkPrefix,
    base: config.networkBase,
    poolSize: config.networkPool,
    dnsUpstreams: config.dnsUpstreams,
    allowedPrivate: config.allowedPrivate,
    log,
  });
  const connectGuest = (host: string, token: string, onSilence?: () => void) =>
    createGuestClient({ host, port: GUEST.agentPort, token, onSilence });
  const memoryPool = new MemoryPool(dataDir);
  const memory = new MemoryBudget(config.memoryBudgetMb);
  const wakes = wakePlaces(config.maxConcurrentWakes);
  const room = (memoryMb: number) => roomFor(wakes, memory, memoryMb);
  const templateDeps = { engine, kernels, network, storage, memoryPool, config, log, connectGuest, room };
  const templates = new Templates(templateDeps, new TemplateBuilder(templateDeps));
  // Waiting VMs are a luxury: at most half of the budget is in use when one more is prepared.
  const pool = new VmPool(
    templateDeps,
    templates,
    (mb) =>
      memory.heldMb() + pool.heldMb() + mb < memory.budgetMb / 2 && memoryPool.freeBytes() > 2 * mb * 1048576,
  );
  memory.alsoHeldMb = () => pool.heldMb();
  memory.onRelease = () => pool.roomMade();
  const events = new EventLog(`${dataDir}/events.db`, store, log, true);
  const metrics = new Metrics();
  const users = new Users(store);
  const quota = new StorageQuota((id) => users.byId(id)?.maxStorageMb ?? 0);
  const secrets = new SecretService({
    rows: secretRows,
    keyring,
    events,
    sandboxes: {
      given: (userId) => sandboxes.given(userId),
      changed: (userId, name) => sandboxes.secretChanged(userId, name),
    },
  });
  const sandboxes: SandboxService = new SandboxService({
    quota,
    rows: new SandboxRows(store),
    engine,
    kernels,
    network,
    storage,
    images: createImages(dataDir),
    templates,
    pool,
    events,
    metrics,
    memory,
    memoryPool,
    wakes,
    secrets,
    log,
    config,
    bootId: process.env.BHATTI_TEST_BOOT_ID ?? readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim(),
    connectGuest,
  });
  metrics.watch(() => {
    const { freeBytes, reservedBytes } = storage.free();
    return {
      ...sandboxes.stats(),
      diskFreeBytes: freeBytes,
      diskReservedBytes: reservedBytes,
      reserveFreeBytes: Math.max(0, memoryPool.freeBytes()),
      reserveBytes: memoryPool.capacityBytes,
      eventsDropped: events.dropped,
    };
  });
  const snapshots = new SnapshotService({
    quota,
    rows: new SnapshotRows(store),
    sandboxes,
    engine,
    storage,
    memoryPool,
    events,
    log,
    currentKernel: () => kernels.current().version,
    lohar,
    hostKey: await hostKey(dataDir, storage),
    config,
  });
  // What can be spared, cheapest first: VMs that wait for nobody yet, memory that sleeps, memory that idles, templates.
  memoryPool.makeRoom = [
    () => pool.shrink(),
    () => sandboxes.moveOutOne(),
    () => snapshots.places.moveOutOne(),
    () => sandboxes.evictOne(),
    () => templates.dropOne(),
  ];
  quota.counts((userId) => sandboxes.bytesHeld(userId));
  quota.counts((userId) => snapshots.places.bytesHeld(userId));
  const authFailures = new AuthFailures(events);
  const shares = new Shares(LIMITS, config.rateFactor);
  const urls = urlsOf(config);
  const traffic = new Traffic();
  const publishRows = new PublishRows(store);
  const publishing = new PublishService({
    rows: publishRows,
    sandboxes,
    urls,
    traffic,
    events,
    maxOf: (userId) => users.byId(userId)?.maxPublished ?? null,
  });
  const visitors = new Visitors({
    rows: publishRows,
    sandboxes,
    userOf: (id) => users.byId(id),
    grantOf,
    shares,
    traffic,
    metrics,
    log,
    rateFactor: config.rateFactor,
  });
  const app = createApp({
    version: VERSION,
    log,
    authenticate: (key) => users.authenticate(key),
    shares,
    kindOf: (path) => (isProxied(path) ? "traffic" : "api"),
    onRequest: (method, status, ms) => metrics.request(method, status, ms),
    onAuthFailure: (address) => {
      metrics.authFailure();
      authFailures.add(address);
    },
    translate: (error) => {
      if (error instanceof GuestError) return guestErrorToApp(error);
      if (!isVmmSilent(error)) return noSpaceError(error);
      return new AppError("guest_unresponsive", "the sandbox's VMM does not answer", { cause: error });
    },
    operations,
    routes: routes({
      sandboxes,
      snapshots,
      secrets,
      publishing,
      countSandboxes: (userId) => sandboxes.deps.rows.count(userId),
      storageHeld: (userId) => quota.held(userId),
      countSnapshots: (userId) => snapshots.rows.count(userId).count,
      countSecrets: (userId) => secretRows.count(userId),
      countPublished: (userId) => publishRows.count(userId),
      events: {
        events,
        metrics,
        sandboxId: (userId, ref) => sandboxes.registry.find(userId, ref)?.row.id,
        userName: (id) => users.byId(id)?.name,
      },
      status: {
        metrics,
        sandboxes,
        version: VERSION,
        startedAt: Date.now(),
        countUsers: () => users.list().length,
      },
    }),
  });
  return {
    app,
    sockets: streamSockets,
    urls,
    visitors,
    store,
    keyring,
    secretRows,
    quota,
    network,
    templates,
    pool,
    sandboxes,
    snapshots,
    events,
    storage,
    engine,
  };
}
