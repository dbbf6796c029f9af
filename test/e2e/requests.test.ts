/** What the API promises about requests: limits that no honest client meets, creates that may be repeated, quotas. On real VMs. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { Client } from "../../src/client/client.ts";
import type { Api } from "./api.ts";
import { Installation } from "./harness.ts";

let installation: Installation;
let api: Api;

beforeAll(async () => {
  // The real rates: other suites switch them off.
  installation = await Installation.create({ config: { rate_factor: 1 } });
  api = installation.api;
  await api.create({ name: "main" });
}, 300_000);

afterAll(async () => {
  await installation?.remove();
}, 120_000);

describe("limits", () => {
  test("loops and bursts of one owner are served: 120 execs and writes in a row, 50 execs at once", async () => {
    for (let i = 0; i < 60; i++) {
      expect((await api.call("POST", "/sandboxes/main/exec", { cmd: ["true"] })).status).toBe(200);
      expect((await api.call("PUT", `/sandboxes/main/files?path=/tmp/f${i}`, "x")).status).toBe(200);
    }
    const client = new Client({ url: installation.url, token: installation.key() });
    const sink = { stdout() {}, stderr() {} };
    const all = await Promise.allSettled(
      Array.from({ length: 50 }, (_, i) => client.exec.run("main", { cmd: ["sh", "-c", `exit ${i}`] }, sink)),
    );
    expect(all.map((one) => (one.status === "fulfilled" ? one.value.exitCode : String(one.reason)))).toEqual(
      all.map((_, i) => i),
    );
  }, 120_000);

  test("a page with 60 assets through the port proxy", async () => {
    await api.exec("main", ["sh", "-c", "cd /tmp && echo hi >a"]);
    await api.ok("POST", "/sandboxes/main/exec", {
      cmd: ["perl", "-MIO::Socket", "-e", SERVER],
      detach: true,
    });
    const page = (i: number) => api.call("GET", `/sandboxes/main/proxy/8000/a?${i}`);
    for (let i = 0; i < 50 && (await page(0)).status !== 200; i++) await Bun.sleep(100);
    const answers = await Promise.all(Array.from({ length: 60 }, (_, i) => page(i)));
    expect(answers.map(({ status }) => status)).toEqual(Array(60).fill(200));
    expect(answers[59]!.body).toBe("hi\n");
  }, 60_000);
});

/** One process, one connection after the other: what is measured is the way there. */
const SERVER = `my $s = IO::Socket::INET->new(LocalPort => 8000, Listen => 100, ReuseAddr => 1) or die;
while (my $c = $s->accept) { while (my $l = <$c>) { last if $l =~ /^\\r/ } print $c "HTTP/1.1 200 OK\\r\\ncontent-length: 3\\r\\n\\r\\nhi\\n"; close $c }`;

describe("creates that may be repeated", () => {
  const create = (key: string, body: Record<string, unknown> = {}) =>
    api.call("POST", "/sandboxes", { memory_mb: 256, ...body }, { headers: { "idempotency-key": key } });

  test("a name that exists with another shape, env or init says which members differ", async () => {
    await api.create({ name: "there", env: { A: "1" }, labels: { x: "1" }, init: "true" });
    const same = await api.call("POST", "/sandboxes", {
      name: "there",
      memory_mb: 256,
      env: { A: "1" },
      init: "true",
    });
    expect([same.status, same.body.existing, same.body.differs]).toEqual([200, true, []]);
    const other = await api.call("POST", "/sandboxes", {
      name: "there",
      cpus: 2,
      memory_mb: 512,
      env: { A: "2" },
      init: "false",
      keep_hot: true,
      labels: {},
    });
    expect([other.status, other.headers.get("x-bhatti-existing")]).toEqual([200, "true"]);
    expect(other.body.differs).toEqual(["cpus", "memory_mb", "env", "init", "keep_hot", "labels"]);
    expect(other.body).toMatchObject({ name: "there", cpus: 1, memory_mb: 256, keep_hot: false });
    await api.destroy("there");
  }, 60_000);

  test("a key means one sandbox: in a row, at once, and after a restart", async () => {
    const [a, b] = await Promise.all([create("k1"), create("k1")]);
    expect([a.status, b.status].sort()).toEqual([200, 201]);
    expect(a.body.id).toBe(b.body.id);
    await installation.restart();
    api = installation.api;
    const again = await create("k1");
    expect([again.status, again.body.id, again.body.existing]).toEqual([200, a.body.id, true]);
    const other = await create("k1", { cpus: 2 });
    expect([other.status, other.body.code]).toEqual([409, "conflict"]);
    expect(other.body.error).toBe('Idempotency-Key "k1" was used for another create');
    // Another user's key of that name is another key.
    const bob = await installation
      .user("bob")
      .call("POST", "/sandboxes", { memory_mb: 256 }, { headers: { "idempotency-key": "k1" } });
    expect([bob.status, bob.body.id === a.body.id]).toEqual([201, false]);
    await api.destroy(a.body.id);
    const gone = await create("k1");
    expect([gone.status, gone.body.remedy]).toEqual([409, "use a new key to make another one"]);
    // Without a key the same request makes another one.
    const plain = [await api.create(), await api.create()];
    expect(plain[0].id).not.toBe(plain[1].id);
    for (const { id } of plain) await api.destroy(id);
  }, 120_000);

  test("a create that the daemon's death undid leaves its key free; one that was answered does not", async () => {
    installation.fault("kill", "create:vmm-known");
    await create("k2").catch(() => {});
    await installation.ended();
    expect(installation.faultFired()).toBe(true);
    await installation.start();
    api = installation.api;
    const made = await create("k2");
    expect(made.status).toBe(201);
    // Killed after the commit, before the answer: the caller comes back with its key and finds what was made.
    installation.fault("kill", "create:end");
    await create("k3", { name: "lost" }).catch(() => {});
    await installation.ended();
    await installation.start();
    api = installation.api;
    const before = await api.get("lost");
    const found = await create("k3", { name: "lost" });
    expect([found.status, found.body.id]).toEqual([200, before.id]);
    await api.destroy(made.body.id);
    await api.destroy("lost");
  }, 180_000);
});

describe("snapshots that restore takes", () => {
  test("count in the quota; the newest two of a sandbox are kept; nothing is taken from a full quota", async () => {
    const carl = installation.user("carl", { maxSnapshots: 3 });
    await carl.create({ name: "w" });
    await carl.ok("POST", "/sandboxes/w/checkpoint", { name: "s1" });
    const list = async () => (await carl.ok<{ name: string }[]>("GET", "/snapshots")).map(({ name }) => name);
    const restore = (body: Record<string, unknown> = {}) =>
      carl.ok("POST", "/sandboxes/w/restore", { snapshot: "s1", ...body });
    const safeties: string[] = [];
    for (let i = 0; i < 3; i++) safeties.push((await restore()).safety_snapshot);
    expect(await list()).toEqual([safeties[2]!, safeties[1]!, "s1"]);
    const full = await carl.call("POST", "/sandboxes/w/checkpoint", { name: "s2" });
    expect([full.status, full.body.code, full.headers.get("retry-after")]).toEqual([
      429,
      "limit_reached",
      "60",
    ]);
    expect(full.body.error).toBe("snapshot limit reached (3/3, 2 of them taken by restore)");
    // Room for one more of its own: the older safety snapshot gives way at the next restore.
    await carl.ok("DELETE", `/snapshots/${safeties[1]}`);
    await carl.ok("POST", "/sandboxes/w/checkpoint", { name: "s2" });
    const { safety_snapshot, replaced } = await restore();
    expect(replaced).toEqual([safeties[2]]);
    expect((await list()).sort()).toEqual([safety_snapshot, "s1", "s2"].sort());
    // Full without any that could give way: refused before anything is done, unless the state is given up on purpose.
    await carl.ok("DELETE", `/snapshots/${safety_snapshot}`);
    await carl.ok("POST", "/sandboxes/w/checkpoint", { name: "s3" });
    const refused = await carl.call("POST", "/sandboxes/w/restore", { snapshot: "s1" });
    expect([refused.status, refused.body.code]).toEqual([429, "limit_reached"]);
    expect(refused.body.remedy).toContain("--no-safety w <name>");
    expect(await restore({ safety: false })).toMatchObject({ sandbox: { name: "w" }, replaced: [] });
    expect((await list()).sort()).toEqual(["s1", "s2", "s3"]);
    for (const name of await list()) await carl.ok("DELETE", `/snapshots/${name}`);
  }, 240_000);
});

describe("errors name their thing and bring their remedy", () => {
  const files = (path: string) => `/sandboxes/main/files?path=${encodeURIComponent(path)}`;
  const main = 'sandbox "main"';

  test.each([
    [
      "GET",
      "/no/such",
      404,
      "not_found",
      `no such file or directory in ${main}: /no/such`,
      "bhatti file ls main /no ",
    ],
    [
      "GET",
      "/no&ls=true",
      404,
      "not_found",
      `no such file or directory in ${main}: /no`,
      "bhatti file ls main / ",
    ],
    ["GET", "/etc", 400, "bad_request", `/etc is a directory in ${main}`, "bhatti file ls main /etc"],
    ["GET", "/etc/passwd/x", 400, "bad_request", "leads through a file", "bhatti file stat main /etc/passwd"],
    ["PUT", "/sys/kernel/none", 403, "forbidden", "/sys/kernel/none", "main"],
  ])("%s %s", async (method, path, status, code, error, remedy) => {
    const [file, ls] = path.split("&");
    const answer = await api.call(
      method,
      files(file!) + (ls ? `&${ls}` : ""),
      method === "PUT" ? "x" : undefined,
    );
    expect([answer.status, answer.body.code]).toEqual([status, code]);
    expect(answer.body.error).toContain(error);
    expect(`${answer.body.remedy} `).toContain(remedy);
    expect(answer.body.remedy).not.toContain("operator");
  });

  test.each([
    ["/no/such", 404, `working directory /no/such does not exist in ${main}`, "mkdir -p /no/such"],
    ["/etc/passwd", 400, `working directory /etc/passwd is not a directory in ${main}`, "name a directory"],
  ])("exec -w %s", async (cwd, status, error, remedy) => {
    for (const detach of [false, true]) {
      const answer = await api.call("POST", "/sandboxes/main/exec", { cmd: ["true"], cwd, detach });
      expect([answer.status, answer.body.error]).toEqual([status, expect.stringContaining(error)]);
      expect(answer.body.remedy).toContain(remedy);
    }
    const client = new Client({ url: installation.url, token: installation.key() });
    const failed = await client.exec
      .run("main", { cmd: ["true"], cwd }, { stdout() {}, stderr() {} })
      .catch((e: unknown) => e);
    expect(failed).toMatchObject({
      message: expect.stringContaining(error),
      remedy: expect.stringContaining(remedy),
    });
  });

  test("a detached command: its output file and its program", async () => {
    const detach = (body: object) =>
      api.call("POST", "/sandboxes/main/exec", { cmd: ["true"], detach: true, ...body });
    const file = await detach({ output_file: "/no/such/file" });
    expect([file.status, file.body.error]).toEqual([
      404,
      `no such file or directory in ${main}: /no/such/file`,
    ]);
    const program = await detach({ cmd: ["no-such-program"] });
    expect([program.status, program.body.error]).toEqual([400, expect.stringContaining("no-such-program")]);
    expect(program.body.remedy).toContain("PATH");
  });

  test("arguments that Linux does not take", async () => {
    const one = await api.call("POST", "/sandboxes/main/exec", { cmd: ["echo", "x".repeat(200_000)] });
    expect([one.status, one.body.code, one.body.remedy]).toEqual([
      413,
      "too_large",
      "send data on stdin or as a file, not as arguments",
    ]);
    const all = await api.call("POST", "/sandboxes/main/exec", { cmd: ["echo", "x".repeat(1_200_000)] });
    expect([all.status, all.body.code]).toEqual([413, "too_large"]);
  });

  test("sandboxes, snapshots, images and ports that are not there", async () => {
    const error = async (method: string, path: string, body?: object) => {
      const answer = await api.call(method, path, body);
      return [answer.status, answer.body.error, answer.body.remedy];
    };
    const sandbox = [404, 'sandbox "nope" not found', "bhatti list shows your sandboxes"];
    expect(await error("GET", "/sandboxes/nope")).toEqual(sandbox);
    expect(await error("POST", "/sandboxes/nope/exec", { cmd: ["true"] })).toEqual(sandbox);
    expect(await error("POST", "/sandboxes/nope/fork", {})).toEqual(sandbox);
    expect(await error("GET", "/sandboxes/nope/proxy/80/")).toEqual(sandbox);
    const snapshot = [404, 'snapshot "nope" not found', "bhatti snapshot list shows your snapshots"];
    expect(await error("GET", "/snapshots/nope")).toEqual(snapshot);
    expect(await error("POST", "/sandboxes/main/restore", { snapshot: "nope" })).toEqual(snapshot);
    expect((await error("POST", "/sandboxes", { image: "nope" }))[1]).toBe('image "nope" not found');
    expect(await error("GET", "/sandboxes/main/proxy/9/")).toEqual([
      502,
      'bad gateway: nothing listens on port 9 of sandbox "main"',
      "bhatti ports main shows what listens there",
    ]);
  });

  test("a disk that is larger than the server gives", async () => {
    const answer = await api.call("POST", "/sandboxes", { disk_size_mb: 100_000 });
    expect([answer.status, answer.body.error]).toEqual([
      400,
      "disk_size_mb 100000 is more than this server gives (65536 MB)",
    ]);
  });

  test("a stop tells the commands that it ended, also of a machine that a new daemon took over", async () => {
    await installation.restart();
    api = installation.api;
    expect((await api.get("main")).status).toBe("running");
    const running = api.call("POST", "/sandboxes/main/exec", { cmd: ["sleep", "100"] });
    await api.runs("main", "sleep 100");
    await api.stop("main");
    const ended = await running;
    expect([ended.status, ended.body.code, ended.body.error]).toEqual([
      409,
      "not_running",
      'sandbox "main" was stopped while this ran',
    ]);
  }, 60_000);
});
