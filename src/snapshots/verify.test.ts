/** Contents of snapshots, over real files and the child that reads them. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import {
  chmodSync,
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeSync,
} from "node:fs";
import { loharPath } from "../daemon/programs.ts";
import { sha256 } from "../lib/hash.ts";
import { MemoryPool } from "../storage/memory-pool.ts";
import type { User } from "../users/user.ts";
import { seal } from "./files.ts";
import type { SnapshotRow } from "./rows.ts";
import { type SnapshotDeps, SnapshotService } from "./snapshots.ts";
import { blankRow } from "./views.ts";

const user = { id: "u" } as User;
const never = { signal: new AbortController().signal };
let dataDir: string;
let row: SnapshotRow;
let service: SnapshotService;
let events: string[];
/** What a look-up by name gives instead of the row. */
let found: SnapshotRow | null;
let path: Record<string, string>;

beforeEach(async () => {
  dataDir = mkdtempSync("/var/tmp/bhatti-verify-");
  events = [];
  found = null;
  for (const dir of ["snapshots/s1", "reserved/snapshots/s1"])
    mkdirSync(`${dataDir}/${dir}`, { recursive: true });
  path = {
    disk: `${dataDir}/snapshots/s1/disk`,
    state: `${dataDir}/snapshots/s1/state`,
    mem: `${dataDir}/reserved/snapshots/s1/mem`,
  };
  put(path.disk!, 4 * 2 ** 30, { 5000: "root file system", 3000000000: "data" });
  put(path.state!, 1000, { 500: "device state" });
  put(path.mem!, 64 << 20, { 20000000: "memory" });
  const files = await seal((name) => path[name]!, "memory", 64);
  row = {
    ...blankRow(user, "s"),
    ...{ id: "s1", status: "ready", image: "minimal", memory_mb: 64, kernel: "6.12.1", fingerprint: "f" },
    files: JSON.stringify(files),
    state_sha256: await sha256(path.state!),
  };
  service = new SnapshotService({
    rows: {
      all: () => [row],
      ready: () => found ?? row,
      byId: () => row,
      update: (_row: SnapshotRow, change: Partial<SnapshotRow>) => Object.assign(row, change),
      delete: () => {},
    },
    engine: { fingerprint: () => "f" },
    storage: { tryReserve: () => ({ release() {} }) },
    events: { record: ({ type }: { type: string }) => events.push(type) },
    log: { warn: (_facts: unknown, text: string) => events.push(text) },
    config: { dataDir },
    memoryPool: new MemoryPool(dataDir),
    lohar: await loharPath(dataDir),
    hostKey: Buffer.alloc(32),
  } as unknown as SnapshotDeps);
});
afterEach(async () => {
  // An export tidies up a moment after its last byte.
  while (readdirSync(`${dataDir}/snapshots`).some((name) => name.startsWith(".export"))) await Bun.sleep(5);
  rmSync(dataDir, { recursive: true });
});

function put(file: string, size: number, data: Record<number, string>): void {
  const fd = openSync(file, "w");
  for (const [at, text] of Object.entries(data)) writeSync(fd, text, Number(at));
  closeSync(fd);
  truncateSync(file, size);
}

/** One bit, and nothing that `ls` would show. */
function flip(file: string, at: number): void {
  const { atime, mtime } = statSync(file);
  chmodSync(file, 0o600);
  const fd = openSync(file, "r+");
  const byte = Buffer.alloc(1);
  readSync(fd, byte, 0, 1, at);
  byte[0]! ^= 1;
  writeSync(fd, byte, 0, 1, at);
  closeSync(fd);
  chmodSync(file, 0o400);
  utimesSync(file, atime, mtime);
}

const digestsOf = () =>
  Object.values(JSON.parse(row.files) as Record<string, { digest?: string }>).map((file) => file.digest);

test("the hashes of a new snapshot are taken in the background, and contents are compared with them", async () => {
  service.places.hashAll();
  await service.places.hashing.idle();
  expect(digestsOf().every((digest) => /^[0-9a-f]{64}$/.test(digest ?? ""))).toBe(true);
  const seen: [number, number][] = [];
  const whole = await service.verify(user, "s", { ...never, progress: (...at) => seen.push(at) });
  expect(whole).toMatchObject({ ok: true, compared: true });
  expect(whole.files.map((file) => [file.name, file.damage])).toEqual([
    ["disk", null],
    ["state", null],
    ["mem", null],
  ]);
});

test.each([
  ["disk", 3_000_000_001],
  ["disk", 5000],
  ["disk", 2_000_000_000], // a hole
  ["mem", 20_000_003],
  ["state", 503],
] as const)("one bit of %s, at %d: told by verify, refused by export", async (name, at) => {
  service.places.hashAll();
  await service.places.hashing.idle();
  const before = row.files;
  flip(path[name]!, at);
  const result = await service.verify(user, "s", never);
  expect(result).toMatchObject({ ok: false, compared: true });
  expect(result.files.filter((file) => file.damage).map((file) => [file.name, file.damage])).toEqual([
    [name, "was changed"],
  ]);
  expect(events).toEqual(["snapshot.damaged"]);
  await expect(service.export(user, "s", never.signal)).rejects.toThrow(/damaged: (\w+) was changed/);
  expect(row.files).toBe(before);
  flip(path[name]!, at);
  expect(await service.verify(user, "s", never)).toMatchObject({ ok: true });
  // The twin.
  await new Response(await service.export(user, "s", never.signal)).arrayBuffer();
});

test("missing, cut and unreadable files are told, each by its name", async () => {
  rmSync(path.mem!);
  chmodSync(path.disk!, 0o600);
  truncateSync(path.disk!, 5);
  expect((await service.verify(user, "s", never)).files.map((file) => file.damage)).toEqual([
    "has 5 bytes instead of 4294967296",
    null,
    "is missing",
  ]);
});

test("the first one to read takes the hashes when nobody has; a file that was touched before is not believed", async () => {
  const first = await service.verify(user, "s", never);
  expect(first).toMatchObject({ ok: true, compared: false });
  expect(digestsOf()).toEqual(first.files.map((file) => file.sha256!));
  expect(await service.verify(user, "s", never)).toMatchObject({ ok: true, compared: true });
  const files = JSON.parse(row.files);
  delete files.disk.digest;
  row.files = JSON.stringify(files);
  utimesSync(path.disk!, 1, 1);
  service.places.hashAll();
  await service.places.hashing.idle();
  expect(events).toEqual(["a snapshot is damaged"]);
  expect(digestsOf()[0]).toBeUndefined();
  expect((await service.verify(user, "s", never)).files[0]).toMatchObject({
    damage: "was changed",
    sha256: null,
  });
});

test("one at a time for each user; a client that leaves ends it", async () => {
  const gone = new AbortController();
  const running = service.verify(user, "s", { signal: gone.signal });
  running.catch(() => {});
  await expect(service.verify(user, "s", never)).rejects.toThrow("another import, export or verification");
  gone.abort(new Error("left"));
  await expect(running).rejects.toThrow("left");
  expect(await service.verify(user, "s", never)).toMatchObject({ ok: true });
});

test("a delete and a move do not wait for the hashing, which begins again after a move", async () => {
  put(path.mem!, 0, {});
  chmodSync(path.mem!, 0o600);
  const dense = Buffer.alloc(64 << 20, 7);
  const fd = openSync(path.mem!, "w");
  writeSync(fd, dense);
  closeSync(fd);
  row.files = JSON.stringify(await seal((name) => path[name]!, "memory", 64));
  service.places.hashAll();
  expect(await service.places.moveOutOne()).toBe(true);
  await service.places.hashing.idle();
  expect(digestsOf().every(Boolean)).toBe(true);
  expect(await service.verify(user, "s", never)).toMatchObject({ ok: true, compared: true });
  row.files = JSON.stringify(
    await seal((name) => (name === "mem" ? `${dataDir}/snapshots/s1/mem` : path[name]!), "memory", 64),
  );
  service.places.hashAll();
  await service.delete(user, "s");
  await service.places.hashing.idle();
  expect(digestsOf()[2]).toBeUndefined();
  expect(events).toEqual(["snapshot.deleted"]);
});

test("of two who read at the same time the first hash counts: what was changed between them is damage", async () => {
  await service.verify(user, "s", never);
  const kept = row.files;
  flip(path.mem!, 20_000_003);
  const files = JSON.parse(kept);
  for (const file of Object.values(files) as { digest?: string }[]) delete file.digest;
  // As the second saw it when it began.
  found = { ...row, files: JSON.stringify(files) };
  const second = await service.verify(user, "s", never);
  expect(second.files.map((file) => file.damage)).toEqual([null, null, "was changed"]);
  expect(row.files).toBe(kept);
});
