/** Create, exec, files, destroy on real VMs, over the wire. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import type { Api } from "./api.ts";
import { Installation } from "./harness.ts";

let installation: Installation;
let api: Api;

beforeAll(async () => {
  installation = await Installation.create();
  api = installation.api;
  await api.create({ name: "main", env: { GREETING: "hello" } });
}, 300_000);

afterAll(async () => {
  await installation?.remove();
}, 120_000);

describe("exec", () => {
  test("runs as uid 1000 in / with the sandbox's environment", async () => {
    const out = await api.sh("main", "id -u; pwd; echo $GREETING; hostname");
    expect(out.split("\n")).toEqual(["1000", "/", "hello", "main"]);
  });

  test("exit codes, signals, 126 and 127", async () => {
    expect((await api.exec("main", ["sh", "-c", "exit 7"])).exit_code).toBe(7);
    expect((await api.exec("main", ["sh", "-c", "kill -9 $$"])).exit_code).toBe(137);
    expect((await api.exec("main", ["no-such-command"])).exit_code).toBe(127);
    expect((await api.exec("main", ["/etc/passwd"])).exit_code).toBe(126);
  });

  test("stdin ends at once, or carries what was given", async () => {
    expect((await api.exec("main", ["cat"])).stdout).toBe("");
    expect((await api.exec("main", ["cat"], { stdin: "abc" })).stdout).toBe("abc");
  });

  test("a timeout kills the process group", async () => {
    const result = await api.exec("main", ["sh", "-c", "sleep 1000 & echo $! >/tmp/bg; sleep 1000"], {
      timeout_sec: 1,
    });
    expect(result).toMatchObject({ exit_code: 137, timed_out: true });
    expect(
      await api.sh("main", "sleep 0.2; kill -0 $(cat /tmp/bg) 2>/dev/null && echo alive || echo dead"),
    ).toBe("dead");
  });

  test("a caller that leaves takes its command along", async () => {
    const leave = new AbortController();
    const call = api.exec("main", ["sh", "-c", "echo $$ >/tmp/left; exec sleep 1000"], {}).catch(() => null);
    const gone = fetch(`${installation.url}/sandboxes/main/exec`, {
      method: "POST",
      headers: { authorization: `Bearer ${installation.key()}` },
      body: JSON.stringify({ cmd: ["sh", "-c", "echo $$ >/tmp/leaver; exec sleep 1000"] }),
      signal: leave.signal,
    }).catch(() => null);
    await until(() => api.sh("main", "cat /tmp/leaver 2>/dev/null || true"));
    leave.abort();
    await gone;
    await until(async () =>
      (await api.sh("main", "kill -0 $(cat /tmp/leaver) 2>/dev/null && echo alive || echo dead")) === "dead"
        ? "yes"
        : "",
    );
    await api.exec("main", ["sh", "-c", "kill $(cat /tmp/left)"]);
    await call;
  });

  test("100 MiB of output streams without being held in memory", async () => {
    const response = await fetch(`${installation.url}/sandboxes/main/exec`, {
      method: "POST",
      headers: { authorization: `Bearer ${installation.key()}`, accept: "application/x-ndjson" },
      body: JSON.stringify({ cmd: ["sh", "-c", "head -c 104857600 /dev/zero | tr '\\0' 'x'"] }),
    });
    let bytes = 0;
    let rest = "";
    let exit: unknown;
    const decoder = new TextDecoder();
    const rss = () =>
      Number(readFileSync(`/proc/${installation.pid}/status`, "utf8").match(/VmRSS:\s+(\d+)/)![1]) / 1024;
    const before = rss();
    let most = 0;
    for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
      // A reader that lags: what is not read must wait in the guest, not in the daemon.
      if (bytes % 8_000_000 < chunk.length) await Bun.sleep(50);
      most = Math.max(most, rss() - before);
      rest += decoder.decode(chunk, { stream: true });
      const lines = rest.split("\n");
      rest = lines.pop()!;
      for (const line of lines) {
        const event = JSON.parse(line);
        if (event.type === "stdout") bytes += event.data.length;
        else exit = event;
      }
    }
    expect(bytes).toBe(104_857_600);
    expect(most).toBeLessThan(60); // MiB
    expect(exit).toEqual({ type: "exit", exit_code: 0 });
  }, 120_000);

  test("buffered output is capped with a marker", async () => {
    const result = await api.exec("main", ["sh", "-c", "head -c 11000000 /dev/zero | tr '\\0' 'x'"]);
    expect(result.stdout.length).toBe(10 * 1024 * 1024);
    expect(result.stderr).toContain("[output truncated at 10MB]");
  }, 60_000);

  test("invalid UTF-8 is replaced, characters on chunk borders are not", async () => {
    expect((await api.exec("main", ["printf", "a\\377b"])).stdout).toBe("a\uFFFDb");
    const text = await api.sh("main", "for i in $(seq 20000); do printf 'ä€𝄞'; done");
    expect(text).toBe("ä€𝄞".repeat(20_000));
  }, 60_000);

  test("detached commands go on and write their file", async () => {
    const { pid, output_file } = (await api.exec("main", ["sh", "-c", "sleep 0.3; echo done"], {
      detach: true,
    })) as never as { pid: number; output_file: string };
    expect(pid).toBeGreaterThan(1);
    expect(await until(() => api.sh("main", `cat ${output_file}`))).toBe("done");
  });

  test("a job keeps it awake, and inspect says so; start says that it ran", async () => {
    const { pid } = (await api.exec("main", ["sleep", "1000"], { detach: true })) as never as { pid: number };
    const work = async () => (await api.ok("GET", "/sandboxes/main?detail=true")).guest_work;
    expect(await work()).toMatchObject({ execs: 0, detached: 1, init_running: false, busy: true });
    await api.exec("main", ["kill", String(pid)]);
    await until(async () => ((await work()).detached === 0 ? "ended" : ""));
    expect(await api.ok("POST", "/sandboxes/main/start")).toMatchObject({ already_running: true });
    await api.stop("main");
    expect((await api.ok("GET", "/sandboxes/main?detail=true")).guest_work).toBeUndefined();
    expect((await api.ok("POST", "/sandboxes/main/start")).already_running).toBeUndefined();
  }, 30_000);

  test("orphans are reaped and never steal a status", async () => {
    await Promise.all(
      Array.from({ length: 8 }, async (_, i) => {
        expect((await api.exec("main", ["sh", "-c", `(sleep 0.0${i} &) ; exit ${i}`])).exit_code).toBe(i);
      }),
    );
    await until(async () =>
      (await api.sh("main", "ps -eo stat,args | grep -c '^Z' || true")) === "0" ? "ok" : "",
    );
  });
});

describe("files", () => {
  const file = "/sandboxes/main/files?path=";

  test("round trip of binary content, with mode and owner", async () => {
    const bytes = crypto.getRandomValues(new Uint8Array(60_000));
    await api.ok("PUT", `${file}/workspace/a/b/data.bin&mode=0600`, bytes);
    const back = await fetch(`${installation.url}${file}/workspace/a/b/data.bin`, {
      headers: { authorization: `Bearer ${installation.key()}` },
    });
    expect(Buffer.from(await back.arrayBuffer()).equals(Buffer.from(bytes))).toBe(true);
    expect(await api.sh("main", "stat -c '%a %u %g' /workspace/a/b/data.bin; ls -A /workspace/a/b")).toBe(
      "600 1000 1000\ndata.bin",
    );
  });

  test("ranges of lines", async () => {
    await api.ok("PUT", `${file}/tmp/lines`, "one\ntwo\nthree\nfour\n");
    expect((await api.call("GET", `${file}/tmp/lines&offset=2&limit=2`)).body).toBe("two\nthree\n");
    expect((await api.call("GET", `${file}/tmp/lines&max_bytes=5`)).body).toBe("one\nt");
  });

  test("stat and list", async () => {
    const head = await api.call("HEAD", `${file}/etc/hostname`);
    expect(head.status).toBe(200);
    expect(head.headers.get("x-file-isdir")).toBe("false");
    expect(await api.ok("GET", `${file}/etc/passwd&ls=true`)).toMatchObject([
      { name: "/etc/passwd", kind: "file" },
    ]);
    const listed = async () => {
      const entries = await api.ok<{ name: string; is_dir: boolean }[]>("GET", `${file}/tmp/many&ls=true`);
      expect(entries.every((entry) => !entry.is_dir)).toBe(true);
      return entries.map((entry) => entry.name);
    };
    await api.sh("main", "mkdir -p /tmp/many; cd /tmp/many; seq 1 9000 | xargs touch");
    const names = await listed();
    expect(names).toEqual([...names].sort());
    expect(names.length).toBe(9000);
    // More than 10 000 are not held in the memory of a small guest to be sorted: complete, in the directory's order.
    await api.sh("main", "cd /tmp/many; seq 9001 12000 | xargs touch");
    expect(new Set(await listed()).size).toBe(12_000);
  }, 60_000);

  test.each([
    ["missing file", "GET", "/no/such", 404],
    ["a directory", "GET", "/etc", 400],
    ["list below a file", "GET", "/etc/passwd/x&ls=true", 400],
    ["a device", "GET", "/dev/zero", 400],
    ["relative", "GET", "etc/passwd", 400],
    ["NUL", "GET", "/etc%00x", 400],
    ["too long", "GET", `/${"x".repeat(4200)}`, 400],
    ["long component", "GET", `/${"x".repeat(300)}`, 400],
    ["stat of nothing", "HEAD", "/no/such", 404],
    ["no path", "GET", "", 400],
    ["write onto a directory", "PUT", "/etc", 400],
    ["write below a file", "PUT", "/etc/passwd/x", 400],
    ["other method", "DELETE", "/etc/passwd", 405],
  ])("%s: %s %s is %d", async (_what, method, path, status) => {
    expect((await api.call(method, file + path, method === "PUT" ? "x" : undefined)).status).toBe(status);
  });

  test("dot-dot stays what it is inside the guest", async () => {
    expect((await api.call("GET", `${file}/etc/../etc/hostname`)).body).toBe("main\n");
  });
});

describe("bad input", () => {
  test.each([
    ["space", { name: "a b" }],
    ["slash", { name: "a/b" }],
    ["leading dash", { name: "-a" }],
    ["64 characters", { name: "x".repeat(64) }],
    ["newline", { name: "a\n" }],
    ["number as name", { name: 7 }],
    ["negative memory", { memory_mb: -5 }],
    ["too little memory", { memory_mb: 16 }],
    ["fraction of memory", { memory_mb: 512.5 }],
    ["less than no cpu", { cpus: -1 }],
    ["too many cpus", { cpus: 64 }],
    ["memory over the cap", { memory_mb: 999_999 }],
    ["disk smaller than the image", { disk_size_mb: 10 }],
    ["label key", { labels: { "bad key": "x" } }],
    ["reserved label", { labels: { "bhatti.sh/x": "y" } }],
    ["label value", { labels: { k: "ü" } }],
    ["17 labels", { labels: Object.fromEntries(Array.from({ length: 17 }, (_, i) => [`k${i}`, "v"])) }],
    ["file without path", { files: [{ content: "" }] }],
    ["file not base64", { files: [{ guest_path: "/x", content: "%%%" }] }],
    ["env name", { env: { "A B": "x" } }],
    ["env NUL", { env: { A: "a\0b" } }],
    ["array", []],
  ])("create with %s is 400", async (_what, body) => {
    const answer = await api.call("POST", "/sandboxes", body);
    expect(answer.status).toBe(400);
    expect(typeof answer.body.error).toBe("string");
  });

  test.each([
    ["not JSON", "{", 400],
    ["empty", "", 400],
    ["two MiB", `{"name":"${"x".repeat(2 * 1024 * 1024)}"}`, 413],
    ["deep nesting", `{"labels":${"[".repeat(5000)}${"]".repeat(5000)}}`, 400],
  ])("body that is %s is %d", async (_what, body, status) => {
    expect((await api.call("POST", "/sandboxes", body)).status).toBe(status);
    expect((await api.call("GET", "/health")).status).toBe(200);
  });

  test("unknown image is 404, unknown sandbox is 404, wrong method is 405, unknown route is 404", async () => {
    expect((await api.call("POST", "/sandboxes", { image: "nope" })).status).toBe(404);
    expect((await api.call("GET", "/sandboxes/nope")).status).toBe(404);
    expect((await api.call("POST", "/sandboxes/nope/exec", { cmd: ["true"] })).status).toBe(404);
    expect((await api.call("PUT", "/sandboxes")).status).toBe(405);
    expect((await api.call("GET", "/nope")).status).toBe(404);
    expect((await api.call("POST", "/sandboxes/main/exec", {})).body.error).toBe("cmd required");
  });

  test("authentication", async () => {
    const plain = (headers: Record<string, string>, query = "") =>
      fetch(`${installation.url}/sandboxes${query}`, { headers });
    expect(await (await plain({})).json()).toMatchObject({ error: "authorization required" });
    expect(await (await plain({}, "?token=x")).json()).toMatchObject({ error: "authorization required" });
    expect(await (await plain({ authorization: "Bearer wrong" })).json()).toMatchObject({
      error: "invalid api key",
    });
    expect((await plain({ authorization: "bearer x" })).status).toBe(401);
    expect((await fetch(`${installation.url}//health/../sandboxes`)).status).toBe(401);
    expect((await fetch(`${installation.url}/health`)).headers.get("x-bhatti-version")).toBeTruthy();
  });
});

describe("life", () => {
  test("create is idempotent by name", async () => {
    const again = await api.call("POST", "/sandboxes", { name: "main" });
    expect(again.status).toBe(200);
    expect(again.headers.get("x-bhatti-existing")).toBe("true");
    const twins = await Promise.all(
      [1, 2, 3].map(() => api.call("POST", "/sandboxes", { name: "twin", memory_mb: 256 })),
    );
    expect(new Set(twins.map((twin) => twin.body.id)).size).toBe(1);
    expect(twins.map((twin) => twin.status).sort()).toEqual([200, 200, 201]);
    await api.destroy("twin");
  }, 60_000);

  test("labels, rename, filters", async () => {
    await api.create({ name: "l1", labels: { pool: "a", tier: "x" } });
    expect(
      (await api.ok("GET", "/sandboxes?label=pool=a&label=tier=x")).map((s: { name: string }) => s.name),
    ).toEqual(["l1"]);
    expect(await api.ok("GET", "/sandboxes?label=pool=b")).toEqual([]);
    expect((await api.call("GET", "/sandboxes?label=nope")).status).toBe(400);
    const patched = await api.ok("PATCH", "/sandboxes/l1", {
      name: "l2",
      labels_add: { extra: "1" },
      labels_remove: ["tier"],
    });
    expect(patched).toMatchObject({ name: "l2", labels: { pool: "a", extra: "1" } });
    expect((await api.call("GET", "/sandboxes/l1")).status).toBe(404);
    expect((await api.call("PATCH", "/sandboxes/l2", { name: "main" })).status).toBe(409);
    await api.destroy("l2");
  }, 60_000);

  test("files, env, init and a larger disk arrive", async () => {
    const content = Buffer.from("from the host").toString("base64");
    await api.create({
      name: "full",
      disk_size_mb: 3000,
      files: [{ guest_path: "/workspace/x/y.txt", content, mode: "0640" }],
      init: "echo started >/tmp/init-ran",
    });
    expect(await api.sh("full", "cat /workspace/x/y.txt; stat -c ' %a' /workspace/x/y.txt")).toBe(
      "from the host 640",
    );
    expect(await until(() => api.sh("full", "cat /tmp/init-ran 2>/dev/null || true"))).toBe("started");
    expect(Number(await api.sh("full", "df -m / --output=size | tail -1"))).toBeGreaterThan(2700);
    await api.destroy("full");
  }, 60_000);

  test("other users see nothing of it", async () => {
    const other = installation.user("other");
    for (const [method, path] of [
      ["GET", "/sandboxes/main"],
      ["DELETE", "/sandboxes/main"],
      ["POST", "/sandboxes/main/stop"],
    ] as const) {
      expect((await other.call(method, path)).status).toBe(404);
    }
    expect((await other.call("POST", "/sandboxes/main/exec", { cmd: ["id"] })).status).toBe(404);
    expect(await other.ok("GET", "/sandboxes")).toEqual([]);
  });

  test("the count cap holds under parallel creates", async () => {
    const capped = installation.user("capped", { maxSandboxes: 2 });
    const answers = await Promise.all(
      [1, 2, 3, 4].map((n) => capped.call("POST", "/sandboxes", { name: `c${n}`, memory_mb: 256 })),
    );
    expect(answers.map((a) => a.status).sort()).toEqual([201, 201, 429, 429]);
    for (const s of await capped.ok<{ id: string }[]>("GET", "/sandboxes")) await capped.destroy(s.id);
  }, 60_000);

  test("destroy leaves nothing behind", async () => {
    const before = await installation.leftovers();
    const { id, engine_id } = await api.create({ name: "gone" });
    await api.ok("DELETE", `/sandboxes/${id}`);
    expect((await api.call("DELETE", `/sandboxes/${id}`)).status).toBe(404);
    const after = await installation.leftovers();
    expect(after.vmms).toBe(before.vmms);
    expect(after.dirs).not.toContain(engine_id);
  }, 60_000);

  test("20 sandboxes at once", async () => {
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, i) =>
        api.call("POST", "/sandboxes", { name: `many-${i}`, memory_mb: 256 }),
      ),
    );
    expect(answers.map((a) => a.status)).toEqual(Array(20).fill(201));
    const outputs = await Promise.all(answers.map((a) => api.sh(a.body.id, "hostname")));
    expect(outputs.sort()).toEqual(Array.from({ length: 20 }, (_, i) => `many-${i}`).sort());
    await Promise.all(answers.map((a) => api.destroy(a.body.id)));
  }, 180_000);
});

/** Waits until `look` returns something non-empty. */
async function until(look: () => Promise<string>, ms = 30_000): Promise<string> {
  const end = Date.now() + ms;
  for (;;) {
    const value = await look();
    if (value) return value;
    if (Date.now() > end) throw new Error("waited in vain");
    await Bun.sleep(100);
  }
}
