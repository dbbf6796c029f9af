/** Recovery against engines that misbehave: real rows in a real database, VMMs that answer as they like. */
import { afterEach, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { EngineError, type Vm, type VmExit } from "../engine/engine.ts";
import type { EventInput } from "../events/events.ts";
import { AppError } from "../lib/errors.ts";
import { createLog } from "../lib/log.ts";
import type { Owner, SandboxNet } from "../network/network.ts";
import { MemoryPool } from "../storage/memory-pool.ts";
import { Store } from "../store/store.ts";
import type { User } from "../users/user.ts";
import type { SandboxDeps } from "./deps.ts";
import { MemoryBudget, wakePlaces } from "./memory.ts";
import { sandboxMigrations } from "./migrations.ts";
import { type RecoveryLimits, recover } from "./recovery.ts";
import { type SandboxRow, SandboxRows } from "./rows.ts";
import { SandboxService } from "./sandboxes.ts";

const FIRST_UID = 200_000;
const LIMITS: RecoveryLimits = { startMs: 300, giveUpMs: 1500, answerMs: 50, retryMs: 50 };
const never = () => new Promise<never>(() => {});

const dirs: string[] = [];
afterEach(() => {
  for (const dir of dirs.splice(0)) rmSync(dir, { recursive: true, force: true });
});

/** A VM whose VMM is all right. */
const wellVm = (patch: Partial<Vm> = {}): Vm =>
  ({
    process: { pid: 1, startTime: 1 },
    exited: new Promise<VmExit>(() => {}),
    state: async () => "running",
    resume: async () => {},
    leave() {},
    cpuMs: () => 0,
    ...patch,
  }) as Vm;

/** A daemon with these rows; `adopt` is what their VMMs do, by row id. Returns what happened to whom. */
function daemon(rows: Partial<SandboxRow>[], adopt: Record<string, () => Promise<Vm | null>> = {}) {
  const dataDir = mkdtempSync("/tmp/bhatti-recovery-");
  dirs.push(dataDir);
  mkdirSync(`${dataDir}/reserved`);
  const table = new SandboxRows(new Store(`${dataDir}/state.db`, sandboxMigrations));
  table.store.db.exec("PRAGMA synchronous=OFF");
  const alive = new Set<number>();
  table.store.transaction(() => {
    for (const [n, patch] of rows.entries()) {
      const row = fullRow(n + 1, patch);
      table.insert(row);
      if (row.pid) alive.add(row.uid);
    }
  });
  const seen = { scans: 0, killed: [] as number[][], events: [] as EventInput[] };
  const engine = {
    fingerprint: () => "f",
    liveUids: () => {
      seen.scans++;
      return new Set(alive);
    },
    killUids: async (uids: Iterable<number>) => {
      const list = [...uids];
      if (list.length > 0) seen.killed.push(list);
      return new Set<number>();
    },
    adopt: ({ id }: { id: string }) => (adopt[id] ?? (async () => null))(),
  };
  const guest = { disconnect() {}, resumeSource: async () => {} };
  const deps = {
    rows: table,
    engine,
    network: {
      uids: () => ({ from: FIRST_UID, to: FIRST_UID + 5000 }),
      release: async (_owner: Owner, _net: SandboxNet, last?: () => Promise<void>) => last?.(),
    },
    kernels: {
      get(version: string) {
        if (version === "missing") throw new AppError("unavailable", "guest kernel missing is not installed");
        return { version, vmlinux: "", initramfs: "" };
      },
      modules: () => undefined,
    },
    events: { record: (event: EventInput) => void seen.events.push(event) },
    metrics: { transition() {} },
    memory: new MemoryBudget(1 << 20),
    memoryPool: new MemoryPool(dataDir),
    log: createLog("silent"),
    config: { dataDir },
    bootId: "this-boot",
    connectGuest: () => guest,
  } as unknown as SandboxDeps;
  const service = new SandboxService(deps);
  return { service, seen, table, dataDir, row: (id: string) => table.all().find((r) => r.id === id)! };
}

function fullRow(n: number, patch: Partial<SandboxRow>): SandboxRow {
  const id = patch.id ?? `s${n}`;
  return {
    name: id,
    created_by: "u",
    engine_id: id,
    status: "stopped",
    reason: "api",
    image: "minimal",
    cpus: 1,
    memory_mb: 256,
    disk_size_mb: 0,
    labels: "{}",
    keep_hot: 0,
    warm_after_s: 0,
    cold_after_s: 0,
    env: "{}",
    init: "",
    subnet_index: 1,
    slot: n,
    uid: FIRST_UID + n,
    netns: `bh${n}`,
    address: `10.0.${n >> 8}.${n & 255}`,
    gateway: "10.0.0.1",
    kernel: "k",
    fingerprint: "f",
    token: "",
    machine_id: "",
    agent_generation: 1,
    disk_file: "disk.0",
    mem_file: "mem.0",
    generation: 1,
    consumed: 0,
    frozen: 1,
    state_sha256: "",
    boot_id: "this-boot",
    durable: 1,
    pid: 0,
    pid_start: 0,
    created_from: "template",
    created_at: "2026-01-01T00:00:00Z",
    stopped_at: "",
    last_activity_at: "2026-01-01T00:00:00Z",
    last_error: "",
    last_end: "",
    unresponsive_since: "",
    unresponsive_why: "",
    on_unresponsive: "none",
    init_status: "",
    secrets: "[]",
    ...patch,
    id,
  };
}

const running = (id: string, patch: Partial<SandboxRow> = {}): Partial<SandboxRow> => ({
  id,
  status: "running",
  pid: 4_000_000,
  pid_start: 7,
  consumed: 1,
  ...patch,
});

const reasonOf = (events: EventInput[], id: string) =>
  events.find((e) => e.sandboxId === id && e.type === "sandbox.memory_lost")?.meta?.reason as string;

describe("recovery", () => {
  test("one VMM that hangs, one that talks nonsense, one whose adoption throws: the others are adopted and the API starts", async () => {
    const { service, seen, row } = daemon(
      [running("good"), running("hangs"), running("lies"), running("odd"), { id: "cold" }],
      {
        good: async () => wellVm(),
        hangs: never,
        lies: async () => {
          throw new EngineError("query-status: the VMM answers nonsense", "", {}, "nonsense");
        },
        odd: async () => wellVm({ state: () => Promise.reject(new TypeError("undefined is not an object")) }),
      },
    );
    const found = await recover(service, LIMITS);
    expect(found).toMatchObject({ adopted: 1, cold: 1 });
    expect(found.pending).toBeGreaterThan(0);
    expect(service.registry.byIdOrGone("good").isHot()).toBe(true);
    // Given up one by one, for the reason that is true.
    while (row("lies").status === "running" || row("odd").status === "running") await Bun.sleep(20);
    expect(reasonOf(seen.events, "lies")).toContain("the VMM answers nonsense");
    expect(reasonOf(seen.events, "odd")).toContain("undefined is not an object");
    expect(row("lies").consumed).toBe(1);
    expect(row("hangs").status).toBe("running");
  });

  test("a VMM that is silent on a busy host is asked again, not killed; requests wait for it", async () => {
    let asked = 0;
    const { service, seen, row } = daemon([running("slow")], {
      slow: async () => {
        if (++asked < 3) throw new EngineError("the VMM did not answer within 50 ms", "", {}, "silent");
        return wellVm();
      },
    });
    expect(await recover(service, LIMITS)).toMatchObject({ pending: 1 });
    const actor = service.registry.byIdOrGone("slow");
    expect(actor.isHot()).toBe(false);
    const lease = await actor.acquire("exec");
    expect(asked).toBe(3);
    lease.release();
    expect(row("slow").status).toBe("running");
    expect(seen.killed).toEqual([]);
  });

  test("a VM that runs is adopted although its kernel is missing", async () => {
    const { service } = daemon([running("old", { kernel: "missing" }), { id: "cold", kernel: "missing" }], {
      old: async () => wellVm(),
    });
    expect(await recover(service, LIMITS)).toMatchObject({ adopted: 1, cold: 1, pending: 0 });
  });

  test("a VMM that is gone is told apart from one that does not answer", async () => {
    const { service, seen } = daemon([running("gone"), running("mute"), { ...running("never"), pid: 0 }], {
      mute: async () => {
        throw new EngineError("the VMM did not answer within 50 ms", "", {}, "silent");
      },
    });
    await recover(service, LIMITS);
    expect(reasonOf(seen.events, "gone")).toBe("the VM ended while the daemon was away");
    expect(reasonOf(seen.events, "never")).toBe("the VM ended while the daemon was away");
    expect(reasonOf(seen.events, "mute")).toBeUndefined();
    while (!reasonOf(seen.events, "mute")) await Bun.sleep(20);
    expect(reasonOf(seen.events, "mute")).toContain("did not answer");
    expect(seen.killed.flat()).toContain(FIRST_UID + 2);
  });

  test("a destroy that fails is tried again and holds up nobody", async () => {
    const { service, table } = daemon([{ id: "half", status: "destroying" }, { id: "cold" }]);
    let attempts = 0;
    service.deps.network.release = async (_owner, _net, last) => {
      if (++attempts < 3) throw new Error("the namespace is busy");
      await last?.();
    };
    expect(await recover(service, { ...LIMITS, startMs: 60 })).toMatchObject({ cold: 1 });
    while (table.all().length > 1) await Bun.sleep(20);
    expect(attempts).toBe(3);
  });

  test("memory that was not yet on disk when the host went down is lost, what was is kept", async () => {
    const { service, row } = daemon([
      { id: "kept", boot_id: "another", durable: 1 },
      { id: "lost", boot_id: "another", durable: 0 },
    ]);
    expect(await recover(service, LIMITS)).toMatchObject({ cold: 1, lost: 1 });
    expect(row("kept").consumed).toBe(0);
    expect(row("lost")).toMatchObject({ consumed: 1, reason: "memory_lost" });
  });

  test("4000 stopped sandboxes cost one look at /proc and one kill of what should not run", async () => {
    const rows: Partial<SandboxRow>[] = Array.from({ length: 4000 }, (_, n) => ({ id: `s${n}` }));
    // A stop that was committed while its VMM still lived, and 50 that ran when the host went down.
    rows[7] = { id: "s7", pid: 4_000_001, pid_start: 7 };
    for (let n = 100; n < 150; n++) rows[n] = { id: `s${n}`, status: "running" };
    const { service, seen, dataDir, row } = daemon(rows);
    mkdirSync(`${dataDir}/sandboxes/s1`, { recursive: true });
    expect(await recover(service, { ...LIMITS, startMs: 20_000 })).toMatchObject({
      cold: 3950,
      lost: 50,
      pending: 0,
    });
    expect(seen.scans).toBe(1);
    expect(seen.killed).toEqual([[FIRST_UID + 8]]);
    expect(row("s7").pid).toBe(0);
  });
});

describe("destroy", () => {
  test("slot, uid and address are nobody else's before the row that names them is gone", async () => {
    const { service, table } = daemon([{ id: "old" }]);
    await recover(service, LIMITS);
    const remove = service.deps.memoryPool.remove.bind(service.deps.memoryPool);
    service.deps.memoryPool.remove = async (kind, id) => {
      await Bun.sleep(50); // gigabytes of memory
      await remove(kind, id);
    };
    let next: unknown = "nobody";
    service.deps.network.release = async (_owner, _net, last) => {
      await last?.();
      // What a create of somebody else does, that the network gives the slot to.
      try {
        table.insert(fullRow(1, { id: "new", created_by: "other" }));
        next = "made";
      } catch (error) {
        next = error;
      }
    };
    await service.destroy({ id: "u" } as User, "old");
    expect(next).toBe("made");
    expect(table.all().map((row) => row.id)).toEqual(["new"]);
  });
});

describe("a VM that ends while a stop waits for its turn", () => {
  test("the stop says that there is nothing to stop any more, and the end is recorded", async () => {
    const exited = Promise.withResolvers<VmExit>();
    const { service, row } = daemon([running("short")], {
      short: async () => wellVm({ exited: exited.promise, pause: async () => {} }),
    });
    await recover(service, LIMITS);
    const actor = service.registry.byIdOrGone("short")!;
    const gate = Promise.withResolvers<void>();
    void actor.run(() => gate.promise);
    const stopping = actor.stop("api").catch((error: unknown) => error);
    const cooling = actor.cool("warm", "idle").catch((error: unknown) => error);
    exited.resolve({ cause: "exit", code: 1, stderrTail: "", consoleTail: "" } as unknown as VmExit);
    await Bun.sleep(5);
    gate.resolve();
    expect(await stopping).toMatchObject({ code: "unavailable", retryAfter: 1 });
    expect(await cooling).toMatchObject({ code: "unavailable" });
    await actor.run(async () => {});
    expect(row("short")).toMatchObject({ status: "stopped", consumed: 1 });
    // The next one finds it cold.
    await actor.stop("api");
  });
});

describe("eviction", () => {
  test("who makes room does not wait for a sandbox that waits for the place it holds", async () => {
    const { service } = daemon([running("busy"), running("idle")], {
      busy: async () => wellVm({ state: async () => "paused" }),
      idle: async () => wellVm({ state: async () => "paused" }),
    });
    const wakes = wakePlaces(1);
    const cooled: string[] = [];
    Object.assign(service.deps, { wakes, pool: { shrink: async () => false } });
    await recover(service, LIMITS);
    const [busy, idle] = ["busy", "idle"].map((id) => service.registry.byIdOrGone(id));
    for (const actor of [busy!, idle!]) {
      expect(actor.thermal).toBe("warm");
      actor.cool = async () => {
        await actor.run(async () => cooled.push(actor.row.id));
        return true;
      };
    }
    busy!.lastActivity = 0;
    const leave = await wakes.acquire();
    const restarted = busy!.replace(() => busy!.comingUp(async () => {}));
    // What holds the place makes room: of the two it takes the one that nothing is going on with.
    expect(await Promise.race([service.evictOne(), Bun.sleep(2000).then(() => "stuck")])).toBe(true);
    expect(cooled).toEqual(["idle"]);
    leave();
    await restarted;
  });
});
