/** Export and import over real files, tar, zstd and the child that unpacks; archives of strangers above all. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { loharPath } from "../daemon/programs.ts";
import { sha256 } from "../lib/hash.ts";
import { run } from "../lib/run.ts";
import type { User } from "../users/user.ts";
import { exportSnapshot } from "./export.ts";
import { damage, digests, seal } from "./files.ts";
import { hostKey } from "./host-key.ts";
import { importSnapshot } from "./import.ts";
import { signManifest } from "./manifest.ts";
import type { SnapshotRow } from "./rows.ts";
import { blankRow } from "./views.ts";

const dir = mkdtempSync("/var/tmp/bhatti-transfer-");
const source = `${dir}/source`;
const inside = (folder: string) => (name: string) => `${folder}/${name}`;
const user = { id: "usr_1", maxMemoryMbPerSandbox: 1024, maxCpusPerSandbox: 4 } as User;
const storage = { sync: async () => {} };
const never = new AbortController().signal;
let lohar: string;
let key: Buffer;
let row: SnapshotRow;
let reserved: number[] = [];
let free = 1 << 30;

beforeAll(async () => {
  lohar = await loharPath(dir);
  key = await hostKey(dir, storage);
  mkdirSync(source);
  put(`${source}/disk`, 12 * 2 ** 30, { 5000: "root file system", 9000000000: "data" });
  put(`${source}/mem`, 64 << 20, { 4096: "memory" });
  put(`${source}/state`, 1000, { 0: "device state" });
  row = {
    ...blankRow(user, "s1"),
    image: "minimal",
    memory_mb: 64,
    disk_size_mb: 12 * 1024,
    env: '{"A":"1"}',
    labels: '{"app":"x"}',
    token: "secret",
    kernel: "6.12.1",
    fingerprint: "here",
    state_sha256: await sha256(`${source}/state`),
  };
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

function put(path: string, size: number, data: Record<number, string>): void {
  const fd = openSync(path, "w");
  for (const [at, text] of Object.entries(data)) writeSync(fd, text, Number(at));
  closeSync(fd);
  truncateSync(path, size);
}

async function exported(change: Partial<SnapshotRow> = {}, signal = never): Promise<Uint8Array<ArrayBuffer>> {
  const stream = await exportSnapshot({
    row: { ...row, ...change },
    at: inside(source),
    scratch: dir,
    files: await digests(lohar, inside(source), ["disk", "mem", "state"], { signal }),
    key,
    signal,
    done: () => {},
  });
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function imported(body: Blob | ReadableStream<Uint8Array>, change: Record<string, unknown> = {}) {
  reserved = [];
  const into = mkdtempSync(`${dir}/into-`);
  try {
    const result = await importSnapshot(body instanceof Blob ? body.stream() : body, {
      dir: into,
      cold: false,
      trustState: false,
      fingerprint: "here",
      user,
      maxDiskMb: 16_384,
      lohar,
      key,
      signal: never,
      storage: {
        reserve(bytes) {
          if (bytes > free) throw new Error("disk full");
          reserved.push(bytes);
          return { release: () => reserved.push(-bytes) };
        },
      },
      ...change,
    });
    return { ...result, into };
  } catch (error) {
    expect(readdirSync(into).filter((name) => !["disk", "mem", "state"].includes(name))).toEqual([]);
    throw error;
  }
}

/** An archive of a manifest that says what it likes; other members as given. */
async function forged(
  change: Record<string, unknown>,
  options: { sign?: Buffer; tar?: string[]; sparse?: boolean } = {},
) {
  const own = mkdtempSync(`${dir}/forged-`);
  const files = await digests(lohar, inside(source), ["disk", "mem", "state"]);
  const manifest = {
    format: 2,
    name: "s1",
    kind: "memory",
    image: "minimal",
    cpus: 1,
    memory_mb: 64,
    disk_size_mb: 12 * 1024,
    env: {},
    labels: {},
    agent_generation: 0,
    kernel: "6.12.1",
    fingerprint: "here",
    state_sha256: row.state_sha256,
    token: "",
    created_at: "",
    files,
    ...change,
  };
  const text = options.sign ? signManifest(manifest as never, options.sign) : JSON.stringify(manifest);
  writeFileSync(`${own}/manifest.json`, text);
  const members = options.tar ?? ["-C", source, "disk", "state", "mem"];
  const child = Bun.spawn(
    [
      "tar",
      ...(options.sparse === false ? [] : ["--sparse"]),
      "--format=gnu",
      "--zstd",
      "-c",
      "-C",
      own,
      "manifest.json",
      ...members,
    ],
    {
      stderr: "inherit",
    },
  );
  return new Blob([await new Response(child.stdout).arrayBuffer()]);
}

test("a round trip keeps every byte; 12 GiB of hole cost nothing, and disk is reserved meanwhile", async () => {
  const began = performance.now();
  const archive = new Blob([await exported()]);
  const { into, ...got } = await imported(archive);
  expect(performance.now() - began).toBeLessThan(5000);
  expect(got).toMatchObject({
    kind: "memory",
    token: "secret",
    env: row.env,
    labels: row.labels,
    memory_mb: 64,
  });
  expect(got.notice).toBeUndefined();
  for (const name of ["disk", "mem", "state"]) {
    expect(statSync(`${into}/${name}`).size).toBe(statSync(`${source}/${name}`).size);
  }
  expect(await digests(lohar, inside(into), ["disk", "mem", "state"])).toMatchObject({
    disk: { sha256: got.digests.disk },
    mem: { sha256: got.digests.mem },
  });
  expect(statSync(`${into}/disk`).blocks * 512).toBeLessThan(10_000_000);
  expect(reserved).toHaveLength(2);
  expect(reserved[0]! + reserved[1]!).toBe(0);
  // A file that is touched afterwards is hashed, and believed when it is the same.
  const facts = await seal(inside(into), "memory", 64);
  facts.disk!.mtimeMs--;
  expect(await damage(inside(into), facts, lohar)).toBe("disk was changed");
  facts.disk!.digest = got.digests.disk!;
  expect(await damage(inside(into), facts, lohar)).toBeNull();
}, 30_000);

test("two exports at the same time do not disturb each other, and leave nothing", async () => {
  const [a, b] = await Promise.all([exported(), exported()]);
  expect((await imported(new Blob([a!]))).kind).toBe("memory");
  expect((await imported(new Blob([b!]))).kind).toBe("memory");
  await Bun.sleep(50);
  expect(readdirSync(source).sort()).toEqual(["disk", "mem", "state"]);
  expect(readdirSync(dir).filter((name) => name.startsWith(".export"))).toEqual([]);
}, 30_000);

test("a device state that this host did not make is not run, unless an operator vouches for it", async () => {
  const foreign = await forged({});
  const taken = await imported(foreign);
  expect([
    taken.kind,
    taken.token,
    existsSync(`${taken.into}/mem`),
    existsSync(`${taken.into}/state`),
  ]).toEqual(["disk", "", false, false]);
  expect(taken.notice).toContain("this host did not make the device state");
  expect((await imported(foreign, { trustState: true })).kind).toBe("memory");
  expect((await imported(await forged({}, { sign: Buffer.alloc(32) }))).kind).toBe("disk");
  // The twin: the same manifest, signed with this host's key.
  expect((await imported(await forged({}, { sign: key }))).kind).toBe("memory");
  // A signature is for one set of files: another state under our manifest is refused.
  const signed = await forged({}, { sign: key });
  mkdirSync(`${dir}/other`, { recursive: true });
  for (const [name, size] of [
    ["disk", 12 * 2 ** 30],
    ["mem", 64 << 20],
    ["state", 1000],
  ] as const)
    put(`${dir}/other/${name}`, size, { 0: "evil" });
  const swapped = await forged({}, { sign: key, tar: ["-C", `${dir}/other`, "disk", "state", "mem"] });
  await expect(imported(swapped)).rejects.toThrow("damaged");
  expect((await imported(signed)).kind).toBe("memory");
  await expect(imported(await forged({ fingerprint: "elsewhere" }, { sign: key }))).rejects.toThrow(
    "another VMM",
  );
}, 30_000);

test("manifests are judged before anything is unpacked", async () => {
  const huge = { size: 2 ** 44, data: 2 ** 43, sha256: "0".repeat(64) };
  const files = await digests(lohar, inside(source), ["disk", "mem", "state"]);
  const cases: [Record<string, unknown>, string][] = [
    [{ memory_mb: 4096 }, "max 1024 MB memory"],
    [{ files: { ...files, disk: huge }, disk_size_mb: 2 ** 24 }, "more than this server gives (16384 MB)"],
    [{ files: { ...files, disk: { ...huge, size: 15 * 2 ** 30 } } }, "not valid"],
    [{ files: { ...files, disk: { ...huge, size: 15 * 2 ** 30, data: 2 ** 30 } } }, "larger than it says"],
    [{ files: { ...files, disk: { ...files.disk, data: 2 ** 33 } } }, "disk full"],
    [{ files: { ...files, mem: { ...files.mem, size: 1 } } }, "size of mem"],
    [{ files: { ...files, state: { ...files.state, size: 2 ** 30 } } }, "device state is too large"],
    [{ cpus: 64 }, "max 4 CPUs"],
    [{ format: 1 }, "older bhatti"],
    [{ labels: { "bhatti.sh/x": "1" } }, "labels"],
    [{ labels: Object.fromEntries(Array.from({ length: 17 }, (_, i) => [`k${i}`, "v"])) }, "too many labels"],
    [{ env: { "A=B": "1" } }, "environment variable name"],
    [{ kernel: "../../etc" }, "kernel"],
    [{ image: "../x" }, "image"],
    [{ unknown: 1 }, "not valid"],
    [{ cpus: "1" }, "cpus"],
  ];
  for (const [change, why] of cases)
    await expect(imported(await forged(change), { trustState: true })).rejects.toThrow(why);
}, 60_000);

test("archives that are hostile in their shape are refused", async () => {
  const whole = await forged({}, { sign: key });
  const bytes = new Uint8Array(await whole.arrayBuffer());
  const flipped = bytes.slice();
  flipped[bytes.length >> 1]! ^= 0xff;
  for (const body of [bytes.slice(0, bytes.length - 40), bytes.slice(0, 100), flipped, "hello", ""])
    await expect(imported(new Blob([body]))).rejects.toThrow("cannot be read");
  const link = `${dir}/link`;
  mkdirSync(link, { recursive: true });
  await run(["ln", "-sf", "/etc/passwd", `${link}/disk`]);
  const tricks: [string[], string][] = [
    [["-C", link, "disk"], "not a plain file"],
    [["-C", source, "disk", "state", "mem", "disk"], "is there twice"],
    [["--transform=s,^,../,", "-C", source, "disk"], "cannot be read"],
    [["-C", source, "disk", "disk", "state", "mem"], "unexpected"],
    [["-C", source, "disk"], "cut off"],
  ];
  for (const [tar, why] of tricks) {
    const archive = await forged({}, { sign: key, tar: [...tar, "--hard-dereference"] });
    await expect(imported(archive)).rejects.toThrow(why);
  }
}, 60_000);

test("a bomb costs the daemon's thread nothing, and ends with its client", async () => {
  // Half a gigabyte of stored zeros in some kilobytes, within what the manifest tells.
  const disk = { size: 2 ** 29, data: 2 ** 29, sha256: "0".repeat(64) };
  mkdirSync(`${dir}/dense`, { recursive: true });
  put(`${dir}/dense/disk`, disk.size, {});
  const bomb = await forged(
    { kind: "disk", files: { disk } },
    { sparse: false, tar: ["-C", `${dir}/dense`, "disk"] },
  );
  expect(bomb.size).toBeLessThan(1_000_000);
  free = 8 * 2 ** 30;
  const gone = new AbortController();
  let longest = 0;
  let last = performance.now();
  const watch = setInterval(() => {
    longest = Math.max(longest, performance.now() - last);
    last = performance.now();
  }, 5);
  const before = process.memoryUsage().rss;
  setTimeout(() => gone.abort(new Error("client left")), 150);
  const began = performance.now();
  await expect(imported(bomb, { signal: gone.signal })).rejects.toThrow("client left");
  clearInterval(watch);
  free = 1 << 30;
  expect(performance.now() - began).toBeLessThan(1500);
  expect(longest).toBeLessThan(300);
  expect(process.memoryUsage().rss - before).toBeLessThan(200 << 20);
  const ps = await run(["ps", "-eo", "args"]);
  expect(ps).not.toContain(`archive unpack ${dir}`);
}, 60_000);

test("the host's key: made once, kept, refused when others can read it", async () => {
  expect((await hostKey(dir, storage)).equals(key)).toBe(true);
  expect(statSync(`${dir}/host.key`).mode & 0o777).toBe(0o600);
  await run(["chmod", "644", `${dir}/host.key`]);
  await expect(hostKey(dir, storage)).rejects.toThrow("mode 0600");
});
