/** Commands as child processes against a fake daemon: what goes over the wire, what is printed, how they end. */
import { expect, test } from "bun:test";
import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { bhatti, FakeDaemon, Home, sandbox } from "./fake-daemon.ts";
import { COMMANDS } from "./table.ts";

const json = (value: unknown, status = 200, headers: Record<string, string> = {}) =>
  Response.json(value, { status, headers });

test("every command has help with examples, and refuses flags it does not know", async () => {
  const words = COMMANDS.filter((c) => !c.hidden).map((c) => c.name);
  for (const word of words) {
    const help = await bhatti([word, "--help"]);
    expect([word, help.code, help.stderr]).toEqual([word, 0, ""]);
    expect(help.stdout).toContain("Examples:");
    const refused = await bhatti([word, "--no-such-flag"]);
    expect([word, refused.code, refused.stdout]).toEqual([word, word === "exec" ? 125 : 2, ""]);
    expect(refused.stderr).toContain("--no-such-flag");
  }
  for (const group of ["snapshot", "secret", "file", "user", "admin"]) {
    const children = (await bhatti([group])).stdout.matchAll(/^ {2}([a-z-]+)(?:\|\w+)? (?:\[|<)/gm);
    for (const [, child] of children)
      expect((await bhatti([group, child!, "--help"])).stdout).toContain(`bhatti ${group} ${child}`);
  }
}, 120_000);

test("usage errors: unknown words, too many, too few", async () => {
  expect(await bhatti(["creat"])).toMatchObject({ code: 2, stdout: "" });
  expect((await bhatti(["creat"])).stderr).toContain("bhatti create");
  expect((await bhatti(["snapshot", "bogus"])).code).toBe(2);
  const sub = await bhatti(["file", "wirte", "dev", "/x", "--mode", "600"]);
  expect([sub.code, sub.stderr]).toEqual([2, expect.stringContaining('unknown command "file wirte"')]);
  for (const args of [["service", "strat"], ["setup", "--bogus"], ["bogus"]]) {
    const refused = await bhatti(["host", ...args]);
    expect([args, refused.code, refused.stdout]).toEqual([args, 2, ""]);
  }
  expect((await bhatti(["create", "a", "b"])).code).toBe(2);
  expect((await bhatti(["inspect"])).code).toBe(2);
  expect((await bhatti(["create", "a", "--name", "b"])).code).toBe(2);
  const asJson = await bhatti(["inspect", "--json"]);
  expect([asJson.stdout, JSON.parse(asJson.stderr)]).toEqual([
    "",
    expect.objectContaining({ code: "usage" }),
  ]);
}, 30_000);

test("a refusal of the API names the flag that was typed, not the member of the body", async () => {
  await using daemon = new FakeDaemon(() =>
    json({ error: "memory_mb must be at least 128", code: "bad_request" }, 400),
  );
  const refused = await bhatti(["create", "dev", "--memory", "1"], { url: daemon.url });
  expect(refused.stderr).toBe("error: --memory must be at least 128\n");
});

test("create: the body on the wire, the text, --json, an existing one", async () => {
  using home = new Home();
  writeFileSync(join(home.dir, "f"), "\x00\xff");
  writeFileSync(join(home.dir, "env"), "FROM=file\n");
  await using daemon = new FakeDaemon(({ body }) => {
    const { name } = JSON.parse(body) as { name: string };
    return name === "old"
      ? json(sandbox("old", { cpus: 1, existing: true, differs: ["cpus", "env"] }), 200, {
          "x-bhatti-existing": "true",
        })
      : json(sandbox("dev", { cpus: 2, memory_mb: 2048 }), 201);
  });
  const made = await bhatti(
    [
      ...[
        "create",
        "dev",
        "--cpus",
        "2",
        "--memory",
        "2G",
        "--label",
        "a=1",
        "--label",
        "b=",
        "--env",
        "X=1,2",
      ],
      ...[
        "--env-file",
        join(home.dir, "env"),
        "--file",
        `${join(home.dir, "f")}:/f:755`,
        "--cold-after",
        "never",
        "--idempotency-key",
        "k1",
      ],
    ],
    { url: daemon.url, home },
  );
  expect(made).toMatchObject({ code: 0, stderr: "" });
  expect(made.stdout).toStartWith("sandbox/dev created (2 vCPU, 2048 MB)\n  IP:    10.0.1.2\n");
  expect(JSON.parse(daemon.last().body)).toEqual({
    name: "dev",
    cpus: 2,
    memory_mb: 2048,
    labels: { a: "1", b: "" },
    env: { FROM: "file", X: "1,2" },
    files: [{ guest_path: "/f", content: Buffer.from("\x00\xff").toString("base64"), mode: "0755" }],
    cold_after_s: 0,
  });
  expect(daemon.last().headers.get("authorization")).toBe("Bearer bht_test");
  expect(daemon.last().headers.get("idempotency-key")).toBe("k1");
  const old = await bhatti(["create", "old", "--cpus", "4"], { url: daemon.url });
  expect(old).toMatchObject({ code: 0, stdout: "sandbox/old unchanged (already exists)\n" });
  expect(old.stderr).toContain("differs from what was asked: cpus=1, env;");
  const asJson = JSON.parse((await bhatti(["create", "old", "--json"], { url: daemon.url })).stdout);
  expect(asJson).toMatchObject({ name: "old", existing: true });
}, 30_000);

test("list: aligned, hostile names made visible, formats, labels on the wire", async () => {
  await using daemon = new FakeDaemon(({ query }) =>
    json(
      query.has("label")
        ? []
        : [sandbox("a"), sandbox("a-longer-name\x1b[2J", { thermal: "cold", status: "stopped" })],
    ),
  );
  const lines = (await bhatti(["list"], { url: daemon.url })).stdout.split("\n");
  expect(lines[0]).toMatch(/^NAME +STATUS +THERMAL +IP$/);
  expect(lines[1]!.indexOf("running")).toBe(lines[2]!.indexOf("stopped"));
  expect(lines.join("")).not.toContain("\x1b");
  expect((await bhatti(["ls", "-q"], { url: daemon.url })).stdout.split("\n")[0]).toBe("a");
  expect(JSON.parse((await bhatti(["ls", "-o", "json"], { url: daemon.url })).stdout).length).toBe(2);
  expect((await bhatti(["ls", "-o", "yaml"], { url: daemon.url })).code).toBe(2);
  const none = await bhatti(["ls", "--label", "a=1", "--label", "b=2", "--json"], { url: daemon.url });
  expect(JSON.parse(none.stdout)).toEqual([]);
  expect(daemon.last().query.getAll("label")).toEqual(["a=1", "b=2"]);
}, 30_000);

test("names are encoded; server errors carry remedy and request id; one JSON object under --json", async () => {
  await using daemon = new FakeDaemon(({ path }) =>
    path.startsWith("/sandboxes/a%2Fb")
      ? json({ error: "internal error", code: "internal", request_id: "req_7" }, 500)
      : json({ error: "its memory is lost", code: "memory_lost", remedy: "bhatti start --force dev" }, 409),
  );
  const odd = await bhatti(["inspect", "a/b"], { url: daemon.url });
  expect(odd).toMatchObject({ code: 1, stdout: "" });
  expect(odd.stderr).toContain("req_7");
  const lost = await bhatti(["start", "dev"], { url: daemon.url });
  expect(lost.stderr).toBe("error: its memory is lost\nhint:  bhatti start --force dev\n");
  const asJson = await bhatti(["start", "dev", "--json"], { url: daemon.url });
  expect(asJson.stdout).toBe("");
  expect(JSON.parse(asJson.stderr)).toEqual({
    error: "its memory is lost",
    code: "memory_lost",
    remedy: "bhatti start --force dev",
  });
  expect((await bhatti(["inspect", ".."], { url: daemon.url })).code).toBe(1);
}, 30_000);

test("stop, start, destroy, fork, edit send what was asked", async () => {
  await using daemon = new FakeDaemon(({ method, path }) => {
    if (path === "/sandboxes/gone") return undefined;
    if (method === "DELETE") return json({ status: "destroyed" });
    if (path.endsWith("/fork")) return json({ sandboxes: [sandbox("x"), sandbox("y")], pause_ms: 12.4 }, 201);
    return json(path === "/sandboxes" ? [sandbox("l1"), sandbox("l2")] : sandbox("dev"));
  });
  const url = daemon.url;
  expect((await bhatti(["stop", "dev", "--sync"], { url })).stdout).toBe("sandbox/dev stopped\n");
  expect(JSON.parse(daemon.last().body)).toEqual({ sync: true });
  expect((await bhatti(["start", "dev", "--force"], { url })).stdout).toBe("sandbox/dev started\n");
  expect(JSON.parse(daemon.last().body)).toEqual({ force: true });
  const refused = await bhatti(["destroy", "dev"], { url });
  expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining("--yes")]);
  expect(daemon.seen.some((r) => r.method === "DELETE")).toBe(false);
  const some = await bhatti(["rm", "a", "gone", "b", "--yes"], { url });
  expect([some.code, some.stdout]).toEqual([1, "sandbox/a destroyed\nsandbox/b destroyed\n"]);
  expect(some.stderr).toContain("gone: not found");
  expect(JSON.parse((await bhatti(["rm", "a", "-y", "--json"], { url })).stdout)).toEqual({
    status: "destroyed",
  });
  expect((await bhatti(["stop", "--label", "t=1"], { url })).stdout).toBe(
    "sandbox/l1 stopped\nsandbox/l2 stopped\n",
  );
  expect((await bhatti(["stop", "a", "--all"], { url })).code).toBe(2);
  await bhatti(["fork", "dev", "--name", "x", "--name", "y"], { url });
  expect(JSON.parse(daemon.last().body)).toEqual({ count: 2, names: ["x", "y"] });
  // The same bound as the server's.
  expect((await bhatti(["fork", "dev", "--count", "101"], { url })).stderr).toContain("from 1 to 100");
  expect((await bhatti(["fork", "dev", "--count", "100"], { url })).code).toBe(0);
  expect((await bhatti(["edit", "dev"], { url })).code).toBe(2);
  await bhatti(
    ["edit", "dev", "--allow-cold", "--label", "a=1", "--label-delete", "b", "--warm-after", "1m"],
    { url },
  );
  expect(JSON.parse(daemon.last().body)).toEqual({
    keep_hot: false,
    labels_add: { a: "1" },
    labels_remove: ["b"],
    warm_after_s: 60,
  });
}, 60_000);

test("secrets: values by stdin, file and argument; lists without values; a delete tells who uses it", async () => {
  using home = new Home();
  writeFileSync(join(home.dir, "key"), "line\n");
  writeFileSync(join(home.dir, "raw"), Buffer.from([0, 255]));
  const all = [
    { name: "A", created_at: "2026-01-01T00:00:00Z", updated_at: "2026-01-01T00:00:00Z", used_by: ["dev"] },
    { name: "B", created_at: "2026-01-01T00:00:00Z", updated_at: "2026-01-01T00:00:00Z", used_by: [] },
  ];
  await using daemon = new FakeDaemon(({ method }) =>
    method === "GET"
      ? json(all)
      : method === "DELETE"
        ? json({ status: "deleted", used_by: ["dev"] })
        : json({ name: "A" }, 201),
  );
  const run = (args: string[], stdin?: string) => bhatti(args, { home, url: daemon.url, stdin });
  for (const [args, stdin, sent] of [
    [["secret", "set", "A"], "v1\n", { name: "A", value: "v1" }],
    [["secret", "set", "A"], "v1", { name: "A", value: "v1" }],
    [["secret", "set", "A"], "two\nlines\n", { name: "A", value: "two\nlines\n" }],
    [["secret", "set", "A", "--file", join(home.dir, "key")], "", { name: "A", value: "line\n" }],
    [["secret", "set", "A", "--file", join(home.dir, "raw")], "", { name: "A", value_b64: "AP8=" }],
  ] as const) {
    const done = await run([...args], stdin);
    expect([done.code, done.stdout, done.stderr]).toEqual([0, "ok\n", ""]);
    expect(JSON.parse(daemon.last().body)).toEqual(sent);
  }
  const argument = await run(["secret", "set", "A", "v2"]);
  expect([argument.stdout, argument.stderr]).toEqual(["ok\n", expect.stringContaining("list of processes")]);
  for (const args of [
    ["secret", "set", "A", ""],
    ["secret", "set", "A", "v", "--file", "x"],
    ["secret", "set"],
  ])
    expect([args, (await run(args)).code]).toEqual([args, 2]);
  expect((await run(["secret", "set", "A"])).code).toBe(2); // no input at all
  expect((await run(["secret", "set", "A"], "x".repeat(65_537))).stderr).toContain("at most 65536 bytes");
  expect((await run(["secret", "list"])).stdout).toBe("A\nB\n");
  expect((await run(["secret", "list", "--long"])).stdout).toMatch(
    /^NAME +CHANGED +USED BY\nA +\S+ ago +dev\nB +\S+ ago +-\n$/,
  );
  expect(JSON.parse((await run(["secret", "list", "--json"])).stdout)).toEqual(all);
  const asked = await run(["secret", "delete", "A"]);
  expect([asked.code, asked.stdout, daemon.last().method]).toEqual([1, "", "GET"]);
  const gone = await run(["secret", "delete", "A", "-y"]);
  expect([gone.stdout, gone.stderr]).toEqual(["deleted\n", expect.stringContaining("in: dev")]);
  expect(daemon.last().path).toBe("/secrets/A");
}, 60_000);

test("create: secrets as names for every server, and where else they go", async () => {
  await using daemon = new FakeDaemon(() => json(sandbox("dev"), 201));
  const sent = async (...args: string[]) => {
    const done = await bhatti(["create", "dev", ...args], { url: daemon.url });
    return done.code === 0 ? JSON.parse(daemon.last().body).secrets : done.code;
  };
  expect(await sent("--secret", "A,B", "--secret", "DB=C")).toEqual(["A", "B", { name: "C", env: "DB" }]);
  expect(await sent("--secret-file", "A", "--secret-file", "B:/etc/b:440:root:adm")).toEqual([
    { name: "A", path: "/run/secrets/A" },
    { name: "B", path: "/etc/b", mode: "440", owner: "root:adm" },
  ]);
  expect(await sent()).toBeUndefined();
  for (const wrong of [
    ["--secret", "a-b"],
    ["--secret", "A="],
    ["--secret-file", "A:rel"],
    ["--secret-file", "A:/x:rw"],
  ])
    expect([wrong, await sent(...wrong)]).toEqual([wrong, 2]);
}, 60_000);

test("commands of v1 that are not there yet are known, with what to do instead", async () => {
  for (const word of ["shell", "sh", "image", "volume", "update"]) {
    const done = await bhatti([word, "x", "--yes"]);
    expect([word, done.code, done.stdout]).toEqual([word, 1, ""]);
    expect(done.stderr).toMatch(/^error: "bhatti \w+" is of bhatti v1: this version has no .*\nhint: {2}\S/);
  }
  expect((await bhatti(["--help"])).stdout).not.toContain("v1");
  const option = await bhatti(["create", "x", "--volume", "a:/b"]);
  expect([option.code, option.stderr]).toEqual([
    1,
    "error: --volume is of bhatti v1: this version has no volumes\nhint:  leave it out\n",
  ]);
}, 30_000);

test("the server's remedy is told, none is made up: a missing file does not speak of bhatti list", async () => {
  const missing = {
    error: 'no such file or directory in sandbox "dev": /no',
    code: "not_found",
    remedy: "bhatti file ls dev / shows what is there",
  };
  await using daemon = new FakeDaemon(({ method, path }) =>
    method === "HEAD"
      ? new Response(null, {
          status: 404,
          headers: { "x-bhatti-error": encodeURIComponent(JSON.stringify(missing)) },
        })
      : path.endsWith("/files")
        ? json(missing, 404)
        : json({ error: "permission denied by the guest", code: "forbidden" }, 403),
  );
  const { url } = daemon;
  const told = `error: ${missing.error}\nhint:  ${missing.remedy}\n`;
  expect((await bhatti(["file", "read", "dev", "/no"], { url })).stderr).toBe(told);
  expect((await bhatti(["file", "stat", "dev", "/no"], { url })).stderr).toBe(told);
  expect((await bhatti(["inspect", "dev"], { url })).stderr).toBe("error: permission denied by the guest\n");
}, 30_000);

test("ps and ports leave a sleeping sandbox asleep", async () => {
  await using daemon = new FakeDaemon(({ path }) =>
    path.endsWith("/processes")
      ? json([{ pid: 7, ppid: 1, uid: 1000, state: "S", rss_kb: 2048, argv: "sleep 1" }])
      : path.endsWith("/ports")
        ? json([{ container_port: 80, proxy_url: "/p/80/" }])
        : json(sandbox("dev", { thermal: "warm" })),
  );
  for (const word of ["ps", "ports"]) {
    const asleep = await bhatti([word, "dev"], { url: daemon.url });
    expect([asleep.code, asleep.stderr]).toEqual([1, expect.stringContaining("--wake")]);
  }
  expect(daemon.seen.every((r) => r.method === "GET" && r.path === "/sandboxes/dev")).toBe(true);
  const woken = await bhatti(["ports", "dev", "--wake"], { url: daemon.url });
  expect(woken.stdout).toContain(`80    ${daemon.url}/p/80/`);
  const listed = await bhatti(["ps", "dev", "--wake"], { url: daemon.url });
  expect(listed.stdout).toMatch(/^PID +UID +STATE +MEMORY +COMMAND\n +7 +1000 +S +2\S* MiB +sleep 1\n$/);
  expect(daemon.last().path).toBe("/sandboxes/dev/processes"); // and no process of its own
}, 30_000);

test("an empty name is a mistake of a script, not a wish for any name", async () => {
  await using daemon = new FakeDaemon(() => json(sandbox("surprise"), 201));
  for (const args of [
    ["create", ""],
    ["create", "--name", ""],
    ["fork", "dev", "--name", ""],
    ["fork", "dev", "--name", "a,"],
    ["snapshot", "resume", "s", "--name", ""],
  ]) {
    const refused = await bhatti(args, { url: daemon.url });
    expect([args, refused.code, refused.stderr]).toEqual([args, 2, expect.stringContaining("is empty")]);
  }
  expect(daemon.seen).toEqual([]);
  expect((await bhatti(["create"], { url: daemon.url })).code).toBe(0);
}, 30_000);

test("what was there before is told from what was done: start, labels", async () => {
  let hot = false;
  await using daemon = new FakeDaemon(({ method }) =>
    json(
      method === "PATCH"
        ? sandbox("dev", hot ? {} : { labels: { b: "2", a: "1" } })
        : sandbox("dev", hot ? { already_running: true } : {}),
    ),
  );
  const { url } = daemon;
  expect((await bhatti(["start", "dev"], { url })).stdout).toBe("sandbox/dev started\n");
  expect((await bhatti(["edit", "dev", "--label", "b=2"], { url })).stdout).toContain("  labels: a=1,b=2\n");
  expect((await bhatti(["edit", "dev", "--keep-hot"], { url })).stdout).not.toContain("labels");
  hot = true;
  expect((await bhatti(["start", "dev"], { url })).stdout).toBe("sandbox/dev was running already\n");
  expect((await bhatti(["edit", "dev", "--label-delete", "a"], { url })).stdout).toContain("  labels: -\n");
}, 30_000);

test("inspect says what keeps a sandbox awake from inside", async () => {
  let guest_work: unknown;
  await using daemon = new FakeDaemon(() => json(sandbox("dev", { leases: [], guest_work })));
  const shown = async (work: unknown) => {
    guest_work = work;
    return /In the guest: +(.*)/.exec((await bhatti(["inspect", "dev"], { url: daemon.url })).stdout)?.[1];
  };
  const none = { execs: 0, detached: 0, init_running: false, cpu_percent: null, busy: false };
  expect(await shown({ execs: 1, detached: 2, init_running: true, cpu_percent: 85, busy: true })).toBe(
    "1 command, 2 detached jobs, the init script, CPU 85 %: stays awake",
  );
  expect(await shown(none)).toBe("no work that keeps it awake");
  expect(await shown({ ...none, cpu_percent: 3 })).toBe("no work that keeps it awake (CPU 3 %)");
  expect(await shown(undefined)).toBeUndefined();
}, 30_000);

test("host is in the help, and has its own", async () => {
  expect((await bhatti(["--help"])).stdout).toMatch(/^ {2}host +install and maintain this host/m);
  expect((await bhatti(["host", "--help"])).stdout).toContain("Examples:");
});

test("what is sent from a regular file is sent again when the server was busy; a pipe says what helps", async () => {
  using home = new Home();
  const file = join(home.dir, "data");
  writeFileSync(file, "x".repeat(300_000));
  let calls = 0;
  await using daemon = new FakeDaemon(() =>
    ++calls % 2 === 1
      ? json({ error: "busy", code: "rate_limited" }, 429, { "retry-after": "1" })
      : json({ name: "s", size_mb: 1, kind: "disk" }),
  );
  const sent = () => daemon.seen.splice(0).map((request) => request.body.length);
  const url = daemon.url;
  expect(await bhatti(["file", "write", "dev", "/f", file], { url })).toMatchObject({
    code: 0,
    stdout: "ok\n",
  });
  expect(sent()).toEqual([300_000, 300_000]);
  expect(await bhatti(["snapshot", "import", file], { url })).toMatchObject({ code: 0 });
  expect(sent()).toEqual([300_000, 300_000]);
  const redirected = Bun.spawn(
    [
      "sh",
      "-c",
      `exec "$0" "$@" < ${file}`,
      process.execPath,
      join(import.meta.dir, "..", "main.ts"),
      "file",
      "write",
      "dev",
      "/f",
    ],
    { env: { PATH: process.env.PATH, HOME: home.dir, BHATTI_URL: url, BHATTI_TOKEN: "bht_test" } },
  );
  expect(await redirected.exited).toBe(0);
  expect(sent()).toEqual([300_000, 300_000]);
  const pipe = new ReadableStream<Uint8Array>({
    async start(out) {
      await Bun.sleep(50);
      out.enqueue(Buffer.from("abc"));
      out.close();
    },
  });
  const piped = await bhatti(["file", "write", "dev", "/f"], { url, stdin: pipe });
  expect([piped.code, piped.stderr]).toEqual([
    1,
    "error: busy\nhint:  what was read from a pipe cannot be sent again: run it again in 1 s, or name a regular file, which is sent again by itself\n",
  ]);
  expect(sent()).toEqual([3]);
}, 30_000);

test("ports of all: who did not answer is named, and the status says so", async () => {
  let silent = true;
  await using daemon = new FakeDaemon(({ path }) =>
    path === "/ports"
      ? json([
          { sandbox_id: "3f0c9a4be17d2256", container_port: 80, proxy_url: "/p/80/" },
          ...(silent
            ? [
                {
                  sandbox_id: "2",
                  sandbox: "mute",
                  error: "no answer",
                  code: "x",
                  remedy: "bhatti restart mute",
                },
              ]
            : []),
        ])
      : json([sandbox("dev")]),
  );
  const partly = await bhatti(["ports"], { url: daemon.url });
  expect([partly.code, partly.stdout, partly.stderr]).toEqual([
    1,
    `SANDBOX  PORT  URL\ndev        80  ${daemon.url}/p/80/\n`,
    "note: sandbox/mute did not answer: no answer; bhatti restart mute\n",
  ]);
  expect(JSON.parse((await bhatti(["ports", "--json"], { url: daemon.url })).stdout)).toHaveLength(2);
  silent = false;
  expect(await bhatti(["ports"], { url: daemon.url })).toMatchObject({ code: 0, stderr: "" });
  expect((await bhatti(["ports", "--wake"], { url: daemon.url })).code).toBe(2);
}, 30_000);

test("publish, list, share, unpublish: what is asked, what is said", async () => {
  const rule = {
    ...{
      id: "pub_1",
      sandbox_id: "1",
      user_id: "u",
      port: 3000,
      alias: "demo",
      created_at: "",
      sandbox: "dev",
    },
    ...{
      url: "http://demo.192-0-2-1.nip.io:8080",
      local_url: "http://demo.localhost:8080",
      visibility: "public",
    },
  };
  const asked: string[] = [];
  await using daemon = new FakeDaemon(({ method, path, body }) => {
    asked.push(`${method} ${path} ${body}`);
    if (method === "DELETE") return new Response(null, { status: 204 });
    if (path.endsWith("/share"))
      return json({ url: "http://x/?t=1", expires_at: "2030-01-01T00:00:00Z" }, 201);
    if (method === "GET") return json([rule]);
    return json({ ...rule, existing: true, differs: ["alias"] });
  });
  const run = (...args: string[]) => bhatti(args, { url: daemon.url });
  expect(await run("publish", "dev", "-p", "3000", "-a", "other")).toMatchObject({
    code: 0,
    stdout: `Published: ${rule.url}\nHere:      ${rule.local_url}\n`,
    stderr: expect.stringContaining("has the name demo already"),
  });
  expect((await run("publish", "dev", "-p", "3000", "--password", "x", "--json")).code).toBe(0);
  expect((await run("publish", "list")).stdout).toContain(`dev      3000  public  ${rule.url}`);
  expect((await run("publish", "list", "dev", "--stats")).code).toBe(0);
  expect((await run("share", "dev", "-p", "3000", "--expires", "2h")).stdout).toBe("http://x/?t=1\n");
  expect((await run("share", "dev", "-p", "3000", "--revoke")).code).toBe(0);
  expect((await run("unpublish", "dev", "-p", "3000")).stdout).toBe("Unpublished port 3000\n");
  expect(JSON.parse((await run("unpublish", "dev", "--all", "--json")).stdout)).toEqual([{ port: 3000 }]);
  expect(asked).toEqual([
    'POST /sandboxes/dev/publish {"port":3000,"alias":"other"}',
    'POST /sandboxes/dev/publish {"port":3000,"visibility":"password","password":"x"}',
    "GET /publish ",
    "GET /sandboxes/dev/publish ",
    'POST /sandboxes/dev/publish/3000/share {"expires_in_s":7200}',
    "DELETE /sandboxes/dev/publish/3000/share ",
    "DELETE /sandboxes/dev/publish/3000 ",
    "GET /sandboxes/dev/publish ",
    "DELETE /sandboxes/dev/publish/3000 ",
  ]);
  for (const wrong of [
    ["publish", "dev"],
    ["publish", "dev", "-p", "0"],
    ["publish", "dev", "-p", "1", "--link", "--public"],
    ["unpublish", "dev"],
    ["share", "dev"],
  ])
    expect([wrong, (await run(...wrong)).code]).toEqual([wrong, 2]);
}, 30_000);

test("files: binary both ways, size told, nothing half-written", async () => {
  using home = new Home();
  const data = crypto.getRandomValues(new Uint8Array(300_000));
  await using daemon = new FakeDaemon(({ method, query }) => {
    if (query.get("path") === "/short")
      return new Response(data.slice(0, 1000), { headers: { "x-file-size": "2000" } });
    if (query.get("stat"))
      return json({
        name: "x",
        kind: "fifo",
        size: 7,
        mode: "0644",
        uid: 1,
        gid: 2,
        links: 1,
        is_dir: false,
      });
    if (query.get("ls"))
      return json(["b", "a\n"].map((name) => ({ name, kind: "file", size: 1, mode: "0644" })));
    return method === "PUT"
      ? json({ status: "ok" })
      : new Response(data, { headers: { "x-file-size": "300000" } });
  });
  const options = { url: daemon.url, home };
  expect((await bhatti(["file", "read", "dev", "/x"], options)).bytes).toEqual(data);
  expect(
    (await bhatti(["file", "write", "dev", "/a b", "--mode", "755"], { ...options, stdin: data })).stdout,
  ).toBe("ok\n");
  expect(daemon.last().query.get("path")).toBe("/a b");
  expect(daemon.last().query.get("mode")).toBe("0755");
  expect(daemon.last().headers.get("content-length")).toBe("300000");
  expect(Buffer.from(daemon.last().body, "latin1").equals(Buffer.from(data))).toBe(true);
  // From a pipe, whose length nobody knows, onto a file that keeps what it is.
  const piped = await bhatti(["file", "write", "dev", "/p", "--owner", "root:"], {
    ...options,
    stdin: new ReadableStream({
      async start(controller) {
        for (const half of [data.subarray(0, 150_000), data.subarray(150_000)]) {
          controller.enqueue(half);
          await Bun.sleep(50);
        }
        controller.close();
      },
    }),
  });
  expect(piped.code).toBe(0);
  expect([daemon.last().query.get("mode"), daemon.last().query.get("owner")]).toEqual([null, "root:"]);
  expect(daemon.last().headers.get("content-length")).toBe(null);
  expect(Buffer.from(daemon.last().body, "latin1").equals(Buffer.from(data))).toBe(true);
  const target = join(home.dir, "out");
  expect((await bhatti(["file", "read", "dev", "/x", "-o", target], options)).code).toBe(0);
  expect(new Uint8Array(readFileSync(target))).toEqual(data);
  expect((await bhatti(["file", "read", "dev", "/x", "-o", target], options)).code).toBe(2);
  expect((await bhatti(["file", "write", "dev", "/y", target], options)).code).toBe(0);
  expect(daemon.last().headers.get("content-length")).toBe("300000");
  const short = join(home.dir, "short");
  expect((await bhatti(["file", "read", "dev", "/short", "-o", short], options)).code).toBe(1);
  expect(existsSync(short)).toBe(false);
  expect((await bhatti(["file", "ls", "dev", "/"], options)).stdout).toBe(
    "-0644        1 a\\x0a\n-0644        1 b\n",
  );
  expect(JSON.parse((await bhatti(["file", "stat", "dev", "/x", "--json"], options)).stdout)).toEqual({
    name: "x",
    path: "/x",
    kind: "fifo",
    size: 7,
    mode: "0644",
    uid: 1,
    gid: 2,
    links: 1,
    is_dir: false,
  });
}, 60_000);

test("a file of this machine that cannot be read is told in words, before the server is asked", async () => {
  using home = new Home();
  const missing = join(home.dir, "missing");
  await using daemon = new FakeDaemon(() => json({}));
  for (const [args, file, words] of [
    [["create", "--file", `${missing}:/x`], missing, "no such file or directory"],
    [["create", "--env-file", missing], missing, "no such file or directory"],
    [["secret", "set", "A", "--file", home.dir], home.dir, "it is a directory"],
    [["file", "write", "dev", "/x", join(missing, "y")], join(missing, "y"), "no such file or directory"],
  ] as const) {
    const { code, stderr } = await bhatti([...args], { home, url: daemon.url });
    expect([code, stderr]).toEqual([1, `error: cannot read ${file}: ${words}\n`]);
  }
  expect(daemon.seen).toEqual([]);
});

test("snapshots: names, export to a private file, import with its size", async () => {
  using home = new Home();
  const view = {
    id: "i",
    name: "s",
    source_sandbox: "x",
    source_name: "dev",
    size_mb: 3,
    created_at: "",
    kind: "memory",
    allocated_bytes: 1,
  };
  await using daemon = new FakeDaemon(({ path }) => {
    if (path.endsWith("/export")) return new Response("archive");
    if (path.endsWith("/restore"))
      return json({ sandbox: sandbox("dev"), safety_snapshot: "dev-before", replaced: ["old"] });
    if (path.endsWith("/resume")) return json(sandbox("second", { cpus: 2 }), 201);
    return json(path === "/snapshots" ? [view] : view);
  });
  const options = { url: daemon.url, home };
  expect((await bhatti(["snapshot", "create", "dev"], options)).code).toBe(2);
  await bhatti(["snapshot", "create", "dev", "--label", "s"], options);
  expect(daemon.last()).toMatchObject({ path: "/sandboxes/dev/checkpoint", body: '{"name":"s"}' });
  const file = join(home.dir, "s.tar.zst");
  expect((await bhatti(["snapshot", "export", "s", "-o", file], options)).code).toBe(0);
  expect([readFileSync(file, "utf8"), statSync(file).mode & 0o777]).toEqual(["archive", 0o600]);
  expect((await bhatti(["snapshot", "export", "s"], options)).stdout).toBe("archive");
  await bhatti(["snapshot", "import", file, "--cold"], options);
  expect(daemon.last().query.toString()).toBe("name=s&cold=true");
  expect(daemon.last().body).toBe("archive");
  const restored = (await bhatti(["snapshot", "restore", "dev", "s"], options)).stdout;
  expect(restored).toContain("Back:  bhatti snapshot restore dev dev-before\n  Gone:  old,");
  expect(daemon.last().body).toBe('{"snapshot":"s"}');
  await bhatti(["snapshot", "restore", "dev", "s", "--no-safety"], options);
  expect(daemon.last().body).toBe('{"snapshot":"s","safety":false}');
  expect((await bhatti(["snapshot", "list"], options)).stdout).toMatch(/\ns +dev +memory/);
  expect((await bhatti(["snapshot", "resume", "s"], options)).stdout).toBe(
    'sandbox/second created from "s" (2 vCPU, 512 MB)\n  IP:    10.0.1.2\n  Run:   bhatti exec second -- <command>\n',
  );
}, 60_000);

test("user: keys once, limits, deletion; a directory that is not there is not made", async () => {
  using home = new Home();
  const data = ["--data-dir", join(home.dir, "data")];
  const missing = await bhatti(["user", "list", ...data], { home });
  expect([missing.code, missing.stderr]).toEqual([1, expect.stringContaining("no data directory")]);
  expect(existsSync(join(home.dir, "data"))).toBe(false);
  mkdirSync(join(home.dir, "data"));
  const made = JSON.parse(
    (await bhatti(["user", "create", "alice", "--max-memory", "2G", "--json", ...data], { home })).stdout,
  );
  expect(made).toMatchObject({ name: "alice", max_memory_mb_per_sandbox: 2048, admin: false });
  expect(made.api_key).toMatch(/^bht_[0-9a-f]{64}$/);
  expect((await bhatti(["user", "create", "alice", ...data], { home })).stderr).toContain("already exists");
  expect(
    (await bhatti(["user", "limits", "alice", "--max-sandboxes", "9", ...data], { home })).stdout,
  ).toContain("9 sandboxes");
  for (const [size, shown, mb] of [
    ["2G", "2.0 GiB of disk", 2048],
    ["none", "any amount of disk", 0],
  ] as const) {
    const limited = ["user", "limits", "alice", "--max-storage", size, ...data];
    expect((await bhatti(limited, { home })).stdout).toContain(shown);
    // Without a daemon nobody counts what is held.
    const list = (await bhatti(["user", "list", "--json", ...data], { home })).stdout;
    expect(JSON.parse(list)).toMatchObject([{ max_storage_mb: mb, storage_mb: null }]);
  }
  const rotated = JSON.parse(
    (await bhatti(["user", "rotate-key", "alice", "--json", ...data], { home })).stdout,
  );
  expect(rotated.api_key).not.toBe(made.api_key);
  expect(JSON.parse((await bhatti(["user", "list", "--json", ...data], { home })).stdout)).toMatchObject([
    { name: "alice", max_sandboxes: 9, sandboxes: 0 },
  ]);
  expect((await bhatti(["user", "delete", "nobody", "--yes", ...data], { home })).code).not.toBe(0);
  expect((await bhatti(["user", "delete", "alice", "--yes", ...data], { home })).code).toBe(0);
  expect(JSON.parse((await bhatti(["user", "list", "--json", ...data], { home })).stdout)).toEqual([]);
}, 60_000);

test("admin: status, events newest first and by time, follow as lines, metrics", async () => {
  const event = (id: number, ts: string) => ({
    id,
    ts,
    type: "sandbox.created",
    user_id: "u",
    user_name: "ann",
    sandbox_id: "s",
    meta: { name: "dev", cpus: id },
  });
  await using daemon = new FakeDaemon(({ path, query }) => {
    if (path === "/admin/status") return json({ version: "2", memory: { held_bytes: 1536 } });
    if (path === "/metrics") return new Response('# TYPE a gauge\na{b="c"} 2\n');
    if (query.get("follow")) return new Response(`\n${JSON.stringify(event(3, "2026-05-03T00:00:00Z"))}\n`);
    return json([event(1, "2026-05-01T00:00:00Z"), event(2, "2026-05-02T00:00:00Z")]);
  });
  const { url } = daemon;
  expect((await bhatti(["admin", "status"], { url })).stdout).toContain("memory.held_bytes: 1.5 KiB");
  const all = JSON.parse((await bhatti(["admin", "events", "--json"], { url })).stdout) as { id: number }[];
  expect(all.map((e) => e.id)).toEqual([2, 1]);
  const late = JSON.parse(
    (await bhatti(["admin", "events", "--since", "2026-05-02", "--json"], { url })).stdout,
  );
  expect(late.length).toBe(1);
  expect((await bhatti(["admin", "events", "--since", "yesterday"], { url })).code).toBe(2);
  expect(JSON.parse((await bhatti(["admin", "events", "-f", "--json"], { url })).stdout).id).toBe(3);
  const shown = (await bhatti(["admin", "events"], { url })).stdout;
  expect(shown).toContain("cpus=2");
  expect(shown).toContain("  ann (u)  dev");
  expect(JSON.parse((await bhatti(["admin", "metrics", "--json"], { url })).stdout)).toEqual([
    { name: "a", labels: { b: "c" }, value: 2 },
  ]);
}, 60_000);

test("completion: commands, sub-commands, flags, names from the server and its cache", async () => {
  using home = new Home();
  const ask = async (url: string, ...words: string[]) =>
    (await bhatti(["__complete", "--", ...words], { url, home })).stdout.split("\n").filter(Boolean);
  {
    await using daemon = new FakeDaemon(({ path }) =>
      path === "/sandboxes" ? json([sandbox("dev"), sandbox("ci")]) : undefined,
    );
    expect(await ask(daemon.url, "cre")).toEqual(["create"]);
    expect(await ask(daemon.url, "snapshot", "re")).toEqual(["resume", "restore"]);
    expect(await ask(daemon.url, "create", "--keep")).toEqual(["--keep-hot"]);
    expect(await ask(daemon.url, "exec", "d")).toEqual(["dev"]);
    expect(await ask(daemon.url, "file", "read", "")).toEqual(["dev", "ci"]);
    expect(daemon.seen.length).toBe(1);
    chmodSync(home.dir, 0o700);
  }
  for (const shell of ["bash", "zsh", "fish"])
    expect((await bhatti(["completion", shell])).stdout).toContain("__complete");
  expect((await bhatti(["completion", "tcsh"])).code).toBe(2);
}, 60_000);

test("restart, console and the policy for a sandbox that does not answer", async () => {
  using home = new Home();
  const sick = sandbox("dev", {
    unresponsive: {
      since: new Date().toISOString(),
      why: "its agent does not answer",
      remedy: "bhatti restart dev",
    },
    last_end: { reason: "panic", why: "its kernel panicked: x", at: new Date().toISOString() },
    on_unresponsive: "restart",
    init: { status: "exited", exit_code: 4, log: "/var/log/bhatti-init.log" },
  });
  await using daemon = new FakeDaemon(({ path }) => {
    if (path.endsWith("/console")) return new Response("a\tb\r\n\x1b[2Jred\r\n");
    return json(path === "/sandboxes" ? [sick] : sick);
  });
  const run = (...args: string[]) => bhatti(args, { url: daemon.url, home });
  expect(await run("restart", "dev", "--force")).toMatchObject({
    code: 0,
    stdout: "sandbox/dev restarted\n",
  });
  expect(daemon.last()).toMatchObject({
    method: "POST",
    path: "/sandboxes/dev/restart",
    body: '{"force":true}',
  });
  // Several at once lose the memory of them all: not without a word.
  expect((await run("restart", "dev", "other")).code).not.toBe(0);
  expect(daemon.last().path).toBe("/sandboxes/dev/restart");
  expect((await run("restart", "dev", "other", "--yes")).code).toBe(0);
  expect((await run("console", "dev", "--previous")).stdout).toBe("a\tb\n\\x1b[2Jred\n");
  expect(daemon.last().query.get("previous")).toBe("true");
  expect(JSON.parse((await run("console", "dev", "--json")).stdout).console).toContain("\x1b[2J");
  await run("edit", "dev", "--on-unresponsive", "restart");
  expect(JSON.parse(daemon.last().body)).toEqual({ on_unresponsive: "restart" });
  expect((await run("edit", "dev", "--on-unresponsive", "pray")).code).toBe(2);
  expect((await run("list")).stdout).toMatch(/^dev +unresponsive/m);
  const shown = (await run("inspect", "dev")).stdout;
  expect(shown).toMatch(/Unresponsive: +its agent does not answer, since /);
  expect(shown).toMatch(/Remedy: +bhatti restart dev/);
  expect(shown).toMatch(/Last end: +panic: its kernel panicked: x/);
  expect(shown).toMatch(/Init: +exit 4, output in .var.log.bhatti-init.log/);
  expect(shown).toMatch(/If unresponsive: +restart/);
}, 60_000);

test("snapshot verify: a table and status 0 or 1; --json; an error at its end", async () => {
  const file = (name: string, damage: string | null) => ({ name, size: 4096, sha256: "ab", damage });
  await using daemon = new FakeDaemon(({ path }) => {
    const name = path.split("/")[2]!;
    const files = [file("disk", null), file("mem", name === "hurt" ? "was changed" : null)];
    const last =
      name === "full"
        ? { error: "no room", code: "disk_full", remedy: "make some" }
        : name === "cut"
          ? { read: 2, of: 2 }
          : { result: { id: "1", name, ok: name !== "hurt", compared: name !== "new", files } };
    return new Response(`{"read":1,"of":2}\n${JSON.stringify(last)}\n`);
  });
  const verify = (...args: string[]) => bhatti(["snapshot", "verify", ...args], { url: daemon.url });
  const whole = await verify("good");
  expect(whole).toMatchObject({ code: 0, stderr: "" });
  expect(whole.stdout).toContain('snapshot "good" is whole');
  expect([daemon.last().method, daemon.last().path, daemon.last().query.get("progress")]).toEqual([
    "POST",
    "/snapshots/good/verify",
    "true",
  ]);
  const hurt = await verify("hurt");
  expect([hurt.code, hurt.stdout]).toEqual([
    1,
    expect.stringMatching(/mem +4.* +was changed\n.*is damaged/s),
  ]);
  const asJson = await verify("hurt", "--json");
  expect([asJson.code, JSON.parse(asJson.stdout).files[1].damage]).toEqual([1, "was changed"]);
  expect((await verify("new")).stderr).toContain("taken now");
  const full = await verify("full");
  expect([full.code, full.stderr]).toEqual([1, "error: no room\nhint:  make some\n"]);
  expect(await verify("cut")).toMatchObject({ code: 1, stdout: "" });
}, 30_000);
