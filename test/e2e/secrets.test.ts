/** Secrets in real machines: variables and files in every state of a sandbox, and nowhere else on the host. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { hex } from "../../src/lib/ids.ts";
import type { Api, Json } from "./api.ts";
import { Installation } from "./harness.ts";
import { holders } from "./hunt.ts";

const ROOT = `${import.meta.dir}/../..`;
let installation: Installation;
let api: Api;

/** Unlike anything else on this machine. */
const canary = (what: string) => `bhtcanary-${what}-${hex(12)}`;
const set = (name: string, value: string) => api.ok("POST", "/secrets", { name, value });
const env = async (sandbox: string, name: string) => api.sh(sandbox, `printf %s "$${name}"`);

beforeAll(async () => {
  installation = await Installation.create();
  api = installation.api;
}, 300_000);
afterAll(async () => {
  await installation?.remove();
}, 120_000);

describe("a sandbox that is given secrets", () => {
  const first = { token: canary("token"), file: canary("file") };

  test("has them as variables, above its own and below the request's, in its init script, and as files", async () => {
    await set("API_TOKEN", first.token);
    await set("TLS_KEY", `${first.file}\nsecond line\n`);
    const made = await api.create({
      name: "box",
      env: { API_TOKEN: "of the sandbox", PLAIN: "p" },
      secrets: [
        "API_TOKEN",
        { name: "API_TOKEN", env: "RENAMED" },
        { name: "TLS_KEY", path: "/run/secrets/TLS_KEY" },
        { name: "TLS_KEY", path: "/home/lohar/.config/app/key.pem", mode: "0440", owner: "root:lohar" },
      ],
      init: 'printf %s "$API_TOKEN" >/dev/shm/init; cat /run/secrets/TLS_KEY >>/dev/shm/init',
    });
    expect(JSON.stringify(made)).not.toContain("bhtcanary");
    expect(made.secrets[0]).toEqual({ name: "API_TOKEN", env: "API_TOKEN" });
    expect([await env("box", "API_TOKEN"), await env("box", "RENAMED"), await env("box", "PLAIN")]).toEqual([
      first.token,
      first.token,
      "p",
    ]);
    expect(await api.sh("box", "printf %s $API_TOKEN", { env: { API_TOKEN: "mine" } })).toBe("mine");
    await api.until("box", (s) => s.init?.status === "exited");
    expect(await api.sh("box", "cat /dev/shm/init")).toBe(`${first.token}${first.file}\nsecond line`);
    expect(await api.sh("box", "stat -c '%a %U:%G' /run/secrets/TLS_KEY")).toBe("400 lohar:lohar");
    expect(await api.sh("box", "stat -Lc '%a %U:%G' /home/lohar/.config/app/key.pem")).toBe("440 root:lohar");
    expect(await api.sh("box", "cat /home/lohar/.config/app/key.pem")).toBe(`${first.file}\nsecond line`);
    expect(await api.sh("box", "findmnt -no FSTYPE,OPTIONS /run/secrets")).toMatch(/^tmpfs .*noswap/);
  }, 120_000);

  test("a detached command and the exec stream have them, too", async () => {
    await api.exec("box", ["sh", "-c", "printf %s $API_TOKEN"], { detach: true, output_file: "/dev/shm/d" });
    expect(await api.sh("box", "sleep 0.3; cat /dev/shm/d")).toBe(first.token);
    const socket = new WebSocket(`${installation.url.replace("http", "ws")}/sandboxes/box/exec/stream`, {
      headers: { authorization: `Bearer ${api.key}` },
    } as unknown as string[]);
    socket.binaryType = "arraybuffer";
    const out = await new Promise<string>((resolve, reject) => {
      let text = "";
      socket.onopen = () => socket.send(JSON.stringify({ cmd: ["printenv", "API_TOKEN"] }));
      socket.onmessage = ({ data }) => {
        if (typeof data !== "string") text += Buffer.from(data as ArrayBuffer).toString("utf8", 1);
        else if (JSON.parse(data).type === "exit") resolve(text.trim());
      };
      socket.onerror = () => reject(new Error("the stream failed"));
    });
    expect(out).toBe(first.token);
  }, 60_000);

  test("a new value reaches new processes and files: hot, warm, cold, after a restart of guest and daemon", async () => {
    const seen = async () => [
      await env("box", "API_TOKEN"),
      await api.sh("box", "cat /run/secrets/TLS_KEY"),
      await api.sh("box", "cat /home/lohar/.config/app/key.pem"),
    ];
    const change = async () => {
      const value = canary("next");
      await set("API_TOKEN", value);
      await set("TLS_KEY", value);
      return [value, value, value];
    };
    const hot = await change();
    expect(await seen()).toEqual(hot);
    // A program that is there already sees the file without any request: a new one of the same name.
    await api.sh(
      "box",
      "nohup sh -c 'for i in 1 2 3 4 5 6 7 8 9; do cat /run/secrets/TLS_KEY; echo; sleep 0.3; done >/dev/shm/watch' >/dev/null 2>&1 &",
    );
    const [watched] = await change();
    expect(await api.sh("box", "sleep 1; tail -n1 /dev/shm/watch")).toBe(watched!);
    await api.ok("PATCH", "/sandboxes/box", { warm_after_s: 1 });
    await api.until("box", (s) => s.thermal === "warm");
    const warm = await change();
    await api.ok("PATCH", "/sandboxes/box", { warm_after_s: 0 });
    expect(await seen()).toEqual(warm);
    await api.stop("box");
    const cold = await change();
    expect(await seen()).toEqual(cold);
    await api.ok("POST", "/sandboxes/box/restart", {});
    expect(await seen()).toEqual(cold);
    const away = await change();
    await installation.restart();
    api = installation.api;
    expect(await seen()).toEqual(away);
    const next = await change();
    expect(await seen()).toEqual(next);
  }, 300_000);

  test("forks and copies of snapshots have what the owner has now; a rollback puts nothing old back", async () => {
    await api.ok("POST", "/sandboxes/box/checkpoint", { name: "then" });
    const now = canary("now");
    await set("API_TOKEN", now);
    await set("TLS_KEY", now);
    const { sandboxes } = await api.ok("POST", "/sandboxes/box/fork", { count: 1, names: ["forked"] });
    expect(sandboxes[0].secrets).toEqual((await api.get("box")).secrets);
    await api.ok("POST", "/snapshots/then/resume", { name: "resumed" });
    await api.ok("POST", "/sandboxes/box/restore", { snapshot: "then", safety: false });
    for (const name of ["forked", "resumed", "box"])
      expect([
        name,
        await env(name, "API_TOKEN"),
        await api.sh(name, "cat /run/secrets/TLS_KEY /home/lohar/.config/app/key.pem"),
      ]).toEqual([name, now, `${now}${now}`]);
    for (const name of ["forked", "resumed"]) await api.destroy(name);
    await api.ok("DELETE", "/snapshots/then");
  }, 240_000);

  test("a deleted one is gone from new processes and as a file; set again, it is back", async () => {
    expect(await api.ok("DELETE", "/secrets/API_TOKEN")).toEqual({ status: "deleted", used_by: ["box"] });
    await api.ok("DELETE", "/secrets/TLS_KEY");
    expect(await env("box", "API_TOKEN")).toBe("of the sandbox");
    expect(
      (await api.exec("box", ["ls", "/run/secrets/TLS_KEY", "/home/lohar/.config/app/key.pem"])).exit_code,
    ).toBe(2);
    expect((await api.call("DELETE", "/secrets/TLS_KEY")).status).toBe(404);
    await set("API_TOKEN", "again");
    await set("TLS_KEY", "again");
    expect([await env("box", "API_TOKEN"), await api.sh("box", "cat /run/secrets/TLS_KEY")]).toEqual([
      "again",
      "again",
    ]);
  }, 60_000);

  test("a file of the user's is never replaced: a create is refused, a boot goes on and says so", async () => {
    const refused = await api.call("POST", "/sandboxes", {
      name: "no",
      memory_mb: 256,
      secrets: [{ name: "TLS_KEY", path: "/etc/passwd" }],
    });
    expect([refused.status, refused.body.error]).toEqual([
      400,
      expect.stringContaining("/etc/passwd is there already"),
    ]);
    expect((await api.call("GET", "/sandboxes/no")).status).toBe(404);
    await api.sh("box", "rm /home/lohar/.config/app/key.pem; echo mine >/home/lohar/.config/app/key.pem");
    await set("TLS_KEY", "other");
    expect(await api.sh("box", "cat /home/lohar/.config/app/key.pem /run/secrets/TLS_KEY")).toBe(
      "mine\nother",
    );
    expect((await api.get("box")).secret_problems).toEqual([expect.stringContaining("is there already")]);
    await api.sh("box", "rm /home/lohar/.config/app/key.pem");
    await set("TLS_KEY", "other again");
    expect(await api.sh("box", "cat /home/lohar/.config/app/key.pem")).toBe("other again");
    expect((await api.get("box")).secret_problems).toBeUndefined();
  }, 120_000);
});

describe("what a sandbox is given can be changed", () => {
  test("at once while it is hot, at the wake of one that sleeps; a file that is taken away is gone", async () => {
    await set("API_TOKEN", "t");
    await set("TLS_KEY", "k");
    await api.create({ name: "plain" });
    const has = async () =>
      (await api.exec("plain", ["sh", "-c", "echo $API_TOKEN; cat /run/secrets/F"])).stdout.trim();
    expect(await has()).toBe("");
    const add = ["API_TOKEN", { name: "TLS_KEY", path: "/run/secrets/F" }];
    await api.ok("PATCH", "/sandboxes/plain", { secrets_add: add });
    expect(await has()).toBe("t\nk");
    // No request is needed for it: an exec would bring it along.
    await api.exec("plain", ["sh", "-c", "sleep 2; ls /run/secrets >/dev/shm/after"], { detach: true });
    await api.ok("PATCH", "/sandboxes/plain", { secrets_remove: ["TLS_KEY"] });
    expect(await api.sh("plain", "sleep 2.5; cat /dev/shm/after")).toBe("");
    expect(await has()).toBe("t");
    await api.stop("plain");
    await api.ok("PATCH", "/sandboxes/plain", { secrets_add: add, secrets_remove: ["NONE"] });
    expect(await has()).toBe("t\nk");
    await api.stop("plain");
    await api.ok("PATCH", "/sandboxes/plain", { secrets_remove: ["API_TOKEN", "TLS_KEY"] });
    expect(await has()).toBe("");
    expect((await api.get("plain")).secrets).toBeUndefined();
    expect((await api.call("PATCH", "/sandboxes/plain", { secrets_add: ["NONE"] })).status).toBe(400);
    await api.destroy("plain");
  }, 120_000);
});

describe("the key of secrets", () => {
  /** `bhatti host secret-key ACTION` on this installation. */
  const secretKey = (action: string) => {
    const done = Bun.spawnSync([process.execPath, `${ROOT}/src/main.ts`, "host", "secret-key", action], {
      env: { ...process.env, BHATTI_CONFIG: `${installation.dataDir}/config.yaml` } as Record<string, string>,
    });
    return { code: done.exitCode, out: done.stdout.toString(), err: done.stderr.toString() };
  };
  const keyFile = () => `${installation.dataDir}/age.key`;
  const publicKey = () => /public key: (age1\w+)/.exec(readFileSync(keyFile(), "utf8"))![1]!;

  test("a rotation, by the daemon and without one; the daemon killed at each step of it", async () => {
    const value = canary("kept");
    await set("API_TOKEN", value);
    const first = publicKey();
    expect(secretKey("show").out).toContain(first);
    expect(secretKey("rotate").out).toContain("secrets are encrypted to a new key");
    const second = publicKey();
    expect(second).not.toBe(first);
    for (const point of [
      "secret-key:begin",
      "secret-key:written",
      "secret-key:resealing",
      "secret-key:resealed",
      "secret-key:end",
    ]) {
      installation.fault("kill", point);
      expect(secretKey("rotate").code).not.toBe(0);
      await installation.ended();
      expect([point, installation.faultFired()]).toEqual([point, true]);
      await installation.start();
      api = installation.api;
      expect([point, await env("box", "API_TOKEN")]).toEqual([point, value]);
      expect(readFileSync(keyFile(), "utf8").match(/^AGE-SECRET-KEY-1/gm)).toHaveLength(1);
    }
    await installation.stop();
    expect(secretKey("rotate")).toMatchObject({ code: 0, err: "" });
    await installation.start();
    api = installation.api;
    expect(await env("box", "API_TOKEN")).toBe(value);
  }, 240_000);

  test("missing, empty or foreign: the daemon does not start and says how to restore it; forget is the last way out", async () => {
    const good = readFileSync(keyFile(), "utf8");
    await installation.stop();
    for (const bad of [null, "", "AGE-SECRET-KEY-1XXXX\n"]) {
      rmSync(keyFile());
      if (bad !== null) writeFileSync(keyFile(), bad, { mode: 0o600 });
      const error = await installation.start().then(
        () => "it started",
        (failure: Error) => failure.message,
      );
      expect(error).toMatch(/the daemon ended[\s\S]*age\.key[\s\S]*put back the copy of/);
      expect(error).toContain(/public key: (age1\w+)/.exec(good)![1]!);
      expect(existsSync(keyFile()) ? readFileSync(keyFile(), "utf8") : null).toBe(bad);
      rmSync(keyFile(), { force: true });
      writeFileSync(keyFile(), good, { mode: 0o600 });
    }
    await installation.start();
    api = installation.api;
    expect(await env("box", "API_TOKEN")).toStartWith("bhtcanary-kept");
    await installation.stop();
    rmSync(keyFile());
    expect(secretKey("forget").out).toMatch(/[1-9]\d* secrets that no key of .* opens were removed/);
    await installation.start();
    api = installation.api;
    expect(await api.ok("GET", "/secrets")).toEqual([]);
    await set("API_TOKEN", "anew");
    expect(await env("box", "API_TOKEN")).toBe("anew");
  }, 240_000);
});

describe("a secret is nowhere else on the host", () => {
  test("not in the data folder, the template, a disk, a log, an event, a listing, an argument", async () => {
    const value = canary("hunted");
    const child = Bun.spawnSync(
      [process.execPath, `${import.meta.dir}/../../src/main.ts`, "secret", "set", "HUNTED"],
      {
        stdin: Buffer.from(`${value}\n`),
        env: {
          PATH: process.env.PATH!,
          HOME: "/nonexistent",
          BHATTI_URL: installation.url,
          BHATTI_TOKEN: api.key,
        },
      },
    );
    expect([child.exitCode, child.stdout.toString()]).toEqual([0, "ok\n"]);
    const made = await api.create({
      name: "hunted",
      secrets: ["HUNTED", { name: "HUNTED", path: "/opt/app/key" }],
    });
    expect(await api.sh("hunted", 'printf "%s " "$HUNTED"; cat /opt/app/key')).toBe(`${value} ${value}`);
    // While a command runs that has it: only that guest's own memory may.
    const running = api.exec("hunted", ["sleep", "3"]);
    await Bun.sleep(500);
    const args = readdirSync("/proc")
      .filter((name) => /^\d+$/.test(name))
      .filter((pid) => {
        try {
          return readFileSync(`/proc/${pid}/cmdline`, "latin1").includes(value);
        } catch {
          return false;
        }
      });
    expect(args).toEqual([]);
    await running;
    await api.sh("hunted", "sync");
    // The reserve is looked at as the files in it.
    const memory = new RegExp(`/reserved/sandboxes/${made.engine_id}$|/memory.img$`);
    const own = holders(`${installation.dataDir}/reserved/sandboxes/${made.engine_id}`, [value]);
    // The twin: the hunt finds what is there.
    expect(own).toEqual([expect.stringMatching(/mem/)]);
    expect(readdirSync(`${installation.dataDir}/templates`).length).toBeGreaterThan(0);
    expect(holders(installation.dataDir, [value], memory)).toEqual([]);
    // Asleep, too: the device state and disk are written now.
    await api.stop("hunted", { sync: true });
    expect(holders(installation.dataDir, [value], memory)).toEqual([]);
    const told = [
      await api.ok("GET", "/secrets"),
      await api.ok("GET", "/sandboxes"),
      await api.ok("GET", "/sandboxes/hunted?detail=true"),
      await api.ok<Json>("GET", "/events"),
      await api.call("GET", "/metrics"),
      (await api.call("GET", "/sandboxes/hunted/console")).body,
    ];
    expect(JSON.stringify(told)).not.toContain(value);
    expect(JSON.stringify(told)).toContain("secret.set");
    expect(installation.log()).not.toContain(value);
    expect(installation.log()).toContain("/secrets");
    expect(statSync(`${installation.dataDir}/age.key`).mode & 0o777).toBe(0o600);
  }, 240_000);
});
