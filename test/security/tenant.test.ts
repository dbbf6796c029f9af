/** Attacker: another tenant with a valid key. Nothing of others can be seen, named, changed or counted, by any route. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { statSync } from "node:fs";
import type { Api, Json } from "../e2e/api.ts";
import { Installation } from "../e2e/harness.ts";

let installation: Installation;
let alice: Api;
let mallory: Api;
let box: Json;
let snapshot: Json;

beforeAll(async () => {
  installation = await Installation.create();
  alice = installation.user("alice");
  mallory = installation.user("mallory", { maxSandboxes: 2, maxSnapshots: 2 });
  box = await alice.create({ name: "private", labels: { secret: "label" }, env: { SECRET: "canary-env" } });
  await alice.sh(
    "private",
    "echo canary-file >/workspace/f; (while :; do printf 'HTTP/1.0 200 OK\\r\\n\\r\\ncanary-port' | perl -MIO::Socket::INET -e '$s=IO::Socket::INET->new(LocalPort=>8000,Listen=>1,ReuseAddr=>1); $c=$s->accept; print $c <STDIN>'; done) >/dev/null 2>&1 &",
  );
  await alice.ok("POST", "/secrets", { name: "OF_ALICE", value: "canary-secret" });
  snapshot = await alice.ok("POST", "/sandboxes/private/checkpoint", { name: "keep" });
}, 300_000);
afterAll(async () => {
  await installation?.remove();
}, 120_000);

/** What Alice has, as she sees it; must be the same after every attack. */
async function belongings() {
  const { last_activity_at: _, ...view } = await alice.get(box.id);
  return {
    sandbox: {
      id: view.id,
      name: view.name,
      status: view.status,
      labels: view.labels,
      keep_hot: view.keep_hot,
    },
    snapshots: (await alice.ok<Json[]>("GET", "/snapshots")).map((s) => s.id).sort(),
    secrets: await alice.ok<Json[]>("GET", "/secrets"),
    file: await alice.sh("private", "cat /workspace/f"),
  };
}

/** A body that each route accepts, so that only the owner is the reason of a refusal. */
const BODIES: Record<string, unknown> = {
  "patch /sandboxes/{sandbox}": { keep_hot: true },
  "post /sandboxes/{sandbox}/exec": { cmd: ["true"] },
  "post /sandboxes/{sandbox}/checkpoint": { name: "stolen" },
  "post /sandboxes/{sandbox}/fork": { count: 1 },
  "post /sandboxes/{sandbox}/publish": { port: 8000 },
  "post /sandboxes/{sandbox}/restore": { snapshot: "keep" },
  "post /snapshots/{name}/resume": { name: "stolen" },
};
const QUERIES: Record<string, string> = {
  "get /sandboxes/{sandbox}/files": "?path=/workspace/f",
  "head /sandboxes/{sandbox}/files": "?path=/workspace/f",
  "put /sandboxes/{sandbox}/files": "?path=/workspace/f",
};

test("every route of the OpenAPI document: another's sandbox or snapshot is not there, by id or by name", async () => {
  const before = await belongings();
  const { paths } = (await (await fetch(`${installation.url}/openapi.json`)).json()) as {
    paths: Record<string, Record<string, unknown>>;
  };
  const tried: string[] = [];
  for (const [path, methods] of Object.entries(paths)) {
    if (!path.includes("{")) continue;
    for (const method of Object.keys(methods)) {
      const route = `${method} ${path}`;
      for (const ref of path.startsWith("/snapshots")
        ? [snapshot.id, "keep"]
        : path.startsWith("/secrets")
          ? ["OF_ALICE"]
          : [box.id, "private"]) {
        const target = path
          .replace("{sandbox}", ref)
          .replace("{name}", ref)
          .replace("{port}", "8000")
          .replace("{path}", "x");
        const answer = await mallory.call(
          method.toUpperCase(),
          target + (QUERIES[route] ?? ""),
          method === "put" ? "overwritten" : BODIES[route],
        );
        // 404 and not 403: whether it exists is nobody's business. (GET of the WebSocket's route is a handshake there.)
        expect({ route, ref, status: answer.status }).toEqual({ route, ref, status: 404 });
        expect(JSON.stringify(answer.body)).not.toContain("canary");
        tried.push(route);
      }
    }
  }
  expect(new Set(tried).size).toBeGreaterThanOrEqual(18);
  expect(await belongings()).toEqual(before);
  // The twin: the owner is served by the same routes.
  expect((await alice.call("GET", "/sandboxes/private/files?path=/workspace/f")).body).toContain(
    "canary-file",
  );
  expect((await alice.call("POST", "/sandboxes/private/exec", { cmd: ["true"] })).status).toBe(200);
  expect((await alice.call("GET", "/snapshots/keep")).status).toBe(200);
}, 120_000);

test("lists, ports, events, labels, figures tell nothing of others", async () => {
  for (const path of [
    "/sandboxes",
    "/sandboxes?label=secret=label",
    "/snapshots",
    "/secrets",
    "/ports",
    "/events",
    `/events?user=${(await alice.ok("GET", "/me")).id}`,
    `/events?sandbox=${box.id}`,
    "/events?limit=1000",
    "/me",
  ]) {
    const { body } = await mallory.call("GET", path);
    const text = JSON.stringify(body);
    for (const secret of [box.id, "private", snapshot.id, "OF_ALICE", "canary"])
      expect({ path, text }).not.toMatchObject({ text: expect.stringContaining(secret) });
  }
  for (const path of ["/admin/status", "/metrics"])
    expect((await mallory.call("GET", path)).status).toBe(403);
  // The twin.
  expect(JSON.stringify((await alice.call("GET", `/events?sandbox=${box.id}`)).body)).toContain(box.id);
}, 60_000);

test("secrets: another's name gives nothing, and a secret of that name is one's own", async () => {
  const wanted = { memory_mb: 256, name: "thief", secrets: ["OF_ALICE"] };
  const refused = await mallory.call("POST", "/sandboxes", wanted);
  expect([refused.status, refused.body.error]).toEqual([400, 'secret "OF_ALICE" not found']);
  await mallory.ok("POST", "/secrets", { name: "OF_ALICE", value: "of mallory" });
  const made = await mallory.ok("POST", "/sandboxes", wanted);
  expect(await mallory.sh("thief", "printenv OF_ALICE")).toBe("of mallory");
  await mallory.destroy(made.id);
  await mallory.ok("DELETE", "/secrets/OF_ALICE");
  // The twin: the owner's sandbox has the owner's.
  await alice.ok("PATCH", "/sandboxes/private", { secrets_add: ["OF_ALICE"] });
  expect(await alice.sh("private", "printenv OF_ALICE")).toBe("canary-secret");
  await alice.ok("PATCH", "/sandboxes/private", { secrets_remove: ["OF_ALICE"] });
}, 120_000);

test("names are each owner's own: the same one twice is no collision and no oracle", async () => {
  const own = await mallory.create({ name: "private" });
  expect(own.id).not.toBe(box.id);
  await mallory.destroy("private");
  expect((await alice.get("private")).id).toBe(box.id);
  await mallory.destroy(box.id);
  expect((await alice.get("private")).status).toBe("running");
}, 60_000);

test("paths: dots, encodings and NUL are names that do not exist, never another resource", async () => {
  const tricks = [
    "/sandboxes/..%2fsandboxes%2fprivate",
    `/sandboxes/%2e%2e/sandboxes/${box.id}`,
    `/sandboxes//${box.id}`,
    `/sandboxes/${box.id}%00`,
    `/sandboxes/${box.id.toUpperCase()}/exec`,
    "/snapshots/..%2f..%2fetc%2fpasswd",
    "/snapshots/%2e%2e%2fsandboxes",
    `/sandboxes/*`,
    `/sandboxes/${encodeURIComponent("' OR 1=1 --")}`,
    `/sandboxes/private/proxy/8000%2f..%2f1024/`,
    `/sandboxes/private/proxy/0/`,
    `/snapshots/import?name=..%2fx`,
  ];
  for (const path of tricks) {
    const answer = await mallory.call("GET", path);
    expect({ path, refused: answer.status >= 400 && answer.status < 500 }).toEqual({ path, refused: true });
  }
}, 60_000);

test("quotas hold under parallel calls", async () => {
  const made = await Promise.all(
    Array.from({ length: 8 }, () => mallory.call("POST", "/sandboxes", { memory_mb: 256 })),
  );
  const ok = made.filter(({ status }) => status === 201);
  expect(ok).toHaveLength(2);
  for (const { status, body } of made.filter((a) => a.status !== 201))
    expect([status, body.code]).toEqual([429, "limit_reached"]);
  const [one] = ok;
  const copies = await Promise.all(
    Array.from({ length: 6 }, (_, i) =>
      mallory.call("POST", `/sandboxes/${one!.body.id}/checkpoint`, { name: `s${i}` }),
    ),
  );
  expect(copies.filter(({ status }) => status === 201).length).toBeLessThanOrEqual(2);
  expect((await mallory.call("POST", `/sandboxes/${one!.body.id}/fork`, { count: 100 })).status).toBe(429);
  for (const { body } of ok) await mallory.destroy(body.id);
  for (const s of await mallory.ok<Json[]>("GET", "/snapshots"))
    await mallory.ok("DELETE", `/snapshots/${s.name}`);
}, 120_000);

test("disk that is held is bounded as well: creates at once, snapshots, forks, imports", async () => {
  const hoard = installation.user("hoard");
  const me = () => hoard.ok("GET", "/me");
  expect(await me()).toMatchObject({ storage_mb: 0, max_storage_mb: 102_400 });
  await hoard.create({ name: "first" });
  await hoard.stop("first");
  const { storage_mb: one } = await me();
  expect(one).toBeGreaterThan(100);
  installation.limits("hoard", "--max-storage", String(one));
  const told = await hoard.call("POST", "/sandboxes", { name: "x" });
  const needed = Number(/needs (\d+) MB/.exec(told.body.error)![1]);
  // Room for one more, whoever comes first.
  installation.limits("hoard", "--max-storage", String(one + Math.ceil(needed * 1.5)));
  const made = await Promise.all(
    Array.from({ length: 6 }, (_, i) =>
      hoard.call("POST", "/sandboxes", { name: `more-${i}`, memory_mb: 256 }),
    ),
  );
  const refused = made.filter(({ status }) => status !== 201);
  expect(made.length - refused.length).toBe(1);
  for (const { status, body } of refused)
    expect([status, body.code, body.error]).toEqual([
      429,
      "limit_reached",
      expect.stringContaining("storage limit reached"),
    ]);
  installation.limits("hoard", "--max-storage", String(one));
  for (const [path, body] of [
    ["/sandboxes/first/checkpoint", { name: "s" }],
    ["/sandboxes/first/fork", { count: 1 }],
    ["/sandboxes", { name: "x" }],
  ] as const)
    expect([path, (await hoard.call("POST", path, body)).body.code]).toEqual([path, "limit_reached"]);
  expect((await hoard.ok<Json[]>("GET", "/sandboxes")).length).toBe(2);
  // What is there goes on, and what is given back counts at once.
  expect((await hoard.exec("first", ["echo", "fine"])).stdout).toBe("fine\n");
  installation.limits("hoard", "--max-storage", "none");
  await hoard.ok("POST", "/sandboxes/first/checkpoint", { name: "s" });
  const archive = await fetch(`${installation.url}/snapshots/s/export`, {
    headers: { authorization: `Bearer ${installation.key("hoard")}` },
  }).then((answer) => answer.blob());
  installation.limits("hoard", "--max-storage", String((await me()).storage_mb));
  const brought = await importOf(hoard, installation.key("hoard"), "again", archive);
  expect([brought.status, brought.body.code]).toEqual([429, "limit_reached"]);
  for (const { name } of await hoard.ok<Json[]>("GET", "/sandboxes")) await hoard.destroy(name);
  await hoard.ok("DELETE", "/snapshots/s");
  expect(await me()).toMatchObject({ storage_mb: 0 });
}, 600_000);

const importOf = (
  api: Api,
  key: string,
  name: string,
  body: Blob | Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array>,
  query = "",
  signal?: AbortSignal,
) =>
  fetch(`${installation.url}/snapshots/import?name=${name}${query}`, {
    method: "POST",
    body,
    headers: { authorization: `Bearer ${key}` },
    ...(signal ? { signal } : {}),
  }).then(async (response) => ({ status: response.status, body: (await response.json()) as Json, api }));

test("archives: one transfer at a time, a foreign device state boots from its disk, only operators vouch", async () => {
  const keyOf = (name: string) => installation.key(name);
  const response = await fetch(`${installation.url}/snapshots/keep/export`, {
    headers: { authorization: `Bearer ${keyOf("alice")}` },
  });
  const archive = Buffer.from(await response.arrayBuffer());
  // Made here: resumes. The state of one tenant in the hands of another is still what this host's own VMM wrote.
  const whole = await importOf(mallory, keyOf("mallory"), "mine", archive);
  expect([whole.status, whole.body.kind, whole.body.notice]).toEqual([201, "memory", undefined]);
  await mallory.ok("DELETE", "/snapshots/mine");
  // Changed by one word in the manifest: not ours any more.
  const dir = `${installation.dataDir}/forge`;
  await Bun.write(`${dir}/a.tar.zst`, archive);
  const repack = `cd ${dir} && tar --zstd -xf a.tar.zst && sed -i 's/"image": "minimal"/"image": "forged"/' manifest.json &&
    tar --sparse --format=gnu --zstd -cf b.tar.zst manifest.json disk state mem && rm disk state mem`;
  expect(Bun.spawnSync(["sh", "-ec", repack]).exitCode).toBe(0);
  const forged = Bun.file(`${dir}/b.tar.zst`);
  const cold = await importOf(mallory, keyOf("mallory"), "foreign", forged);
  expect([cold.status, cold.body.kind]).toEqual([201, "disk"]);
  expect(cold.body.notice).toContain("did not make the device state");
  const booted = await mallory.ok("POST", "/snapshots/foreign/resume", { name: "booted" });
  expect(await mallory.sh("booted", "cat /workspace/f")).toBe("canary-file");
  await mallory.destroy(booted.id);
  await mallory.ok("DELETE", "/snapshots/foreign");
  const denied = await importOf(mallory, keyOf("mallory"), "vouched", forged, "&trust_state=true");
  expect([denied.status, denied.body.code]).toEqual([403, "forbidden"]);
  const admin = await importOf(installation.api, keyOf("admin"), "vouched", forged, "&trust_state=true");
  expect([admin.status, admin.body.kind]).toEqual([201, "memory"]);
  await installation.api.ok("DELETE", "/snapshots/vouched");

  // An upload that stalls holds the one place of its owner, of nobody else, and gives it back when its client goes.
  const gone = new AbortController();
  const stalled = new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(archive.subarray(0, 4096)),
  });
  const waiting = importOf(mallory, keyOf("mallory"), "slow", stalled, "", gone.signal).catch(() => null);
  await Bun.sleep(500);
  const second = await importOf(mallory, keyOf("mallory"), "second", archive);
  expect([second.status, second.body.code]).toEqual([409, "conflict"]);
  const other = await importOf(alice, keyOf("alice"), "alices", archive, "&cold=true");
  expect(other.status).toBe(201);
  await alice.ok("DELETE", "/snapshots/alices");
  gone.abort();
  await waiting;
  let after = await importOf(mallory, keyOf("mallory"), "second", archive);
  for (let i = 0; after.status === 409 && i < 20; i++) {
    await Bun.sleep(250);
    after = await importOf(mallory, keyOf("mallory"), "second", archive);
  }
  expect(after.status).toBe(201);
  await mallory.ok("DELETE", "/snapshots/second");
  expect(await mallory.ok("GET", "/snapshots")).toEqual([]);
  expect((await installation.api.ok("GET", "/admin/status")).disk.reserved_bytes).toBeLessThan(10 * 2 ** 30);
  expect(statSync(`${installation.dataDir}/host.key`).mode & 0o777).toBe(0o600);
}, 180_000);

test("what keeps tenants apart is in force, as doctor sees it while their machines run", async () => {
  await alice.sh("private", "true");
  const main = `${import.meta.dir}/../../src/main.ts`;
  const child = Bun.spawn([process.execPath, main, "doctor", "--security", "--json"], {
    env: { ...process.env, BHATTI_CONFIG: `${installation.dataDir}/config.yaml` } as Record<string, string>,
    stderr: "ignore",
  });
  const { findings } = (await new Response(child.stdout).json()) as {
    findings: { id: string; grade: string; detail: string }[];
  };
  const of = (id: string) => findings.find((finding) => finding.id === id);
  expect(of("firewall")).toMatchObject({ grade: "ok" });
  for (const layer of ["user", "seccomp", "processes", "files", "network", "ipc", "limits"])
    expect(of(`jail-${layer}`)).toMatchObject({ grade: "ok", detail: expect.stringContaining("VMMs)") });
}, 60_000);
