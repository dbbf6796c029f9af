/** Where address and key come from, and what setup leaves behind. */
import { expect, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { bhatti, FakeDaemon, Home } from "../fake-daemon.ts";
import { checkUrl, parseSettings } from "./config.ts";
import { CliError } from "./errors.ts";

function configure(home: Home, text: string, mode = 0o600): string {
  mkdirSync(join(home.dir, ".bhatti"), { recursive: true });
  const file = join(home.dir, ".bhatti", "config.yaml");
  writeFileSync(file, text);
  chmodSync(file, mode);
  return file;
}

test("flags win over the environment, the environment over the file", async () => {
  using home = new Home();
  await using daemon = new FakeDaemon(() => Response.json([]));
  const token = () => daemon.last().headers.get("authorization");
  configure(home, `api_url: ${daemon.url}/\nauth_token: from-file\n`);
  expect(await bhatti(["list", "-q"], { home })).toMatchObject({ code: 0 });
  expect(token()).toBe("Bearer from-file");
  expect(daemon.last().path).toBe("/sandboxes");
  const env = { BHATTI_TOKEN: "from-env", BHATTI_URL: daemon.url };
  await bhatti(["list", "-q"], { home, env });
  expect(token()).toBe("Bearer from-env");
  await bhatti(["list", "-q", "--token", "from-flag", "--url", daemon.url], { home, env });
  expect(token()).toBe("Bearer from-flag");
  await bhatti(["--token=before-the-word", `--url=${daemon.url}`, "list", "-q"], { home });
  expect(token()).toBe("Bearer before-the-word");
  const other = join(home.dir, "other.yaml");
  writeFileSync(other, `auth_token: from-other\nlisten: ${new URL(daemon.url).host}\n`, { mode: 0o600 });
  await bhatti(["list", "-q"], { home, env: { BHATTI_CONFIG: other } });
  expect(token()).toBe("Bearer from-other");
}, 60_000);

test("a key goes to the server that its own source names, and nowhere else", async () => {
  using home = new Home();
  await using daemon = new FakeDaemon(() => Response.json([]));
  await using other = new FakeDaemon(() => Response.json([]));
  const refused = async (args: string[], env: Record<string, string>, key: string, remedy: string) => {
    const { code, stderr } = await bhatti(["list", ...args], { home, env });
    expect([code, stderr]).toEqual([1, expect.stringContaining(`the key from ${key} is not sent to`)]);
    expect(stderr).toContain(remedy);
    expect(stderr).not.toContain("bht_secret");
  };
  const file = configure(home, `api_url: ${daemon.url}\nauth_token: bht_secret\n`);
  await refused([], { BHATTI_URL: other.url }, file, "unset BHATTI_URL");
  await refused(["--url", other.url], {}, file, "--token");
  configure(home, `api_url: ${other.url}\nauth_token: bht_file\n`);
  await refused([], { BHATTI_TOKEN: "bht_secret" }, "BHATTI_TOKEN", "BHATTI_URL and BHATTI_TOKEN");
  await refused(["--token", "bht_secret"], {}, "--token", "--url and --token");
  await refused(["--token", "bht_secret"], { BHATTI_URL: other.url }, "--token", "--url and --token");
  await refused(
    ["--url", other.url],
    { BHATTI_URL: daemon.url, BHATTI_TOKEN: "bht_secret" },
    "BHATTI_TOKEN",
    "set both",
  );
  // A key without an address is for this machine's daemon.
  const alone = configure(home, "auth_token: bht_secret\n");
  await refused([], { BHATTI_URL: other.url }, alone, "bhatti setup");
  expect(other.seen).toHaveLength(0);
  // The same server named twice is no other server; and without a key there is nothing to give away.
  configure(home, `api_url: ${daemon.url}\nauth_token: bht_secret\n`);
  expect((await bhatti(["list"], { home, env: { BHATTI_URL: `${daemon.url}/` } })).code).toBe(0);
  expect((await bhatti(["version", "--server", "--url", other.url], { home })).code).toBe(0);
  expect(other.last().headers.get("authorization")).toBeNull();
}, 60_000);

test("neither redirects nor proxies get the key", async () => {
  using home = new Home();
  await using thief = new FakeDaemon(() => Response.json([]));
  await using daemon = new FakeDaemon(
    () => new Response(null, { status: 307, headers: { location: thief.url } }),
  );
  const moved = await bhatti(["list"], { home, url: daemon.url });
  expect([moved.code, moved.stderr]).toEqual([1, expect.stringContaining("redirects to")]);
  const proxied = (url: string) =>
    bhatti(["list"], { home, url, env: { HTTP_PROXY: thief.url, http_proxy: thief.url } });
  expect((await proxied("http://bhatti.invalid")).stderr).toContain(
    "without the proxy, which would see the key",
  );
  await proxied(daemon.url);
  configure(home, `api_url: ${daemon.url}\nauth_token: bht_secret\n`);
  await bhatti(["doctor", "--json"], { home, env: { HTTP_PROXY: thief.url, http_proxy: thief.url } });
  expect(daemon.last().headers.get("authorization")).toBe("Bearer bht_secret");
  expect(thief.seen.map((seen) => `${seen.method} ${seen.path}`)).toEqual([]);
  // The twin: this is what Bun does by itself.
  const fetchIt = 'await fetch("http://bhatti.invalid/", { headers: { authorization: "Bearer x" } })';
  await Bun.spawn([process.execPath, "-e", fetchIt], { env: { HTTP_PROXY: thief.url }, stderr: "ignore" })
    .exited;
  expect(thief.last().headers.get("authorization")).toBe("Bearer x");
}, 60_000);

test.if(process.getuid?.() === 0)(
  "a configuration of somebody else, a FIFO, an endless file: refused",
  async () => {
    using home = new Home();
    await using daemon = new FakeDaemon(() => Response.json([]));
    const file = configure(home, `api_url: ${daemon.url}\nauth_token: bht_secret\n`);
    chownSync(file, 65534, 65534);
    const foreign = await bhatti(["list"], { home });
    expect([foreign.code, foreign.stderr]).toEqual([1, expect.stringContaining("belongs to uid 65534")]);
    expect((await bhatti(["list"], { home, env: { SUDO_UID: "65534" } })).code).toBe(0);
    for (const trap of ["/dev/zero", home.dir]) {
      const { code, stderr } = await bhatti(["list"], { home, env: { BHATTI_CONFIG: trap } });
      expect([code, stderr]).toEqual([1, expect.stringContaining("is not a file")]);
    }
    const fifo = join(home.dir, "fifo");
    Bun.spawnSync(["mkfifo", fifo]);
    expect((await bhatti(["list"], { home, env: { BHATTI_CONFIG: fifo } })).stderr).toContain(
      "is not a file",
    );
  },
  60_000,
);

test("a key that others can read is warned about; broken files are errors that do not quote them", async () => {
  using home = new Home();
  await using daemon = new FakeDaemon(() => Response.json([]));
  const file = configure(home, `api_url: ${daemon.url}\nauth_token: bht_secret\n`, 0o644);
  expect((await bhatti(["list"], { home })).stderr).toContain(`chmod 600 ${file}`);
  configure(home, "auth_token: [bht_secret\n");
  const broken = await bhatti(["list"], { home });
  expect([broken.code, broken.stderr]).toEqual([1, expect.stringContaining("not valid YAML")]);
  expect(broken.stderr).not.toContain("bht_secret");
  const absent = await bhatti(["list"], { home, env: { BHATTI_CONFIG: "/nonexistent/x" } });
  expect([absent.code, absent.stderr]).toEqual([1, expect.stringContaining("BHATTI_CONFIG")]);
}, 30_000);

test("addresses and settings are checked", () => {
  expect(checkUrl(" https://h.example/ ", "x")).toBe("https://h.example");
  for (const bad of ["localhost:8080", "ftp://x", "http://u:p@h", "http://h/?a=1", "", "http://"])
    expect(() => checkUrl(bad, "x")).toThrow(CliError);
  expect(parseSettings("f", "")).toEqual({});
  expect(parseSettings("f", "api_url: http://x\nengine: auto\n")).toEqual({ api_url: "http://x" });
  for (const bad of ["- a\n", "auth_token: 12\n", "just words\n"])
    expect(() => parseSettings("f", bad)).toThrow(CliError);
});

test("setup verifies, keeps other settings, writes 0600 and nothing on refusal", async () => {
  using home = new Home();
  await using daemon = new FakeDaemon(({ headers }) =>
    headers.get("authorization") === "Bearer good"
      ? Response.json({ id: "usr_1", name: "alice" })
      : Response.json({ error: "invalid api key", code: "unauthorized" }, { status: 401 }),
  );
  const file = join(home.dir, ".bhatti", "config.yaml");
  const setup = (token: string) =>
    bhatti(["setup", "--api-url", `${daemon.url}/`, "--token-stdin"], { home, stdin: `${token}\n` });
  const refused = await setup("bad");
  expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining("nothing was saved")]);
  expect(existsSync(file)).toBe(false);
  configure(home, "color: blue\nauth_token: old\n", 0o644);
  expect(await setup("good")).toMatchObject({
    code: 0,
    stdout: `authenticated as alice\nSaved to ${file}\n`,
  });
  expect(statSync(file).mode & 0o777).toBe(0o600);
  expect(parseSettings(file, readFileSync(file, "utf8"))).toEqual({
    api_url: daemon.url,
    auth_token: "good",
  });
  expect(readFileSync(file, "utf8")).toContain("color: blue");
  expect((await bhatti(["setup", "--api-url", "localhost"], { home })).code).not.toBe(0);
}, 30_000);

test.if(process.getuid?.() === 0)(
  "setup under sudo writes as the person, not through their links",
  async () => {
    using home = new Home();
    await using daemon = new FakeDaemon(() => Response.json({ name: "mallory" }));
    const target = join(home.dir, "of-root.yaml");
    writeFileSync(target, "secret: of-root\n", { mode: 0o600 });
    const person = join(home.dir, "mallory");
    mkdirSync(join(person, ".bhatti"), { recursive: true });
    chmodSync(home.dir, 0o711);
    const passwd = join(home.dir, "passwd");
    writeFileSync(passwd, `root:x:0:0::/root:/bin/sh\nmallory:x:65533:65533::${person}:/bin/sh\n`);
    for (const path of [person, join(person, ".bhatti")]) chownSync(path, 65533, 65533);
    const file = join(person, ".bhatti", "config.yaml");
    symlinkSync(target, file);
    // A passwd file of its own, in a mount namespace of its own.
    const inside = 'mount --bind "$1" /etc/passwd; shift; exec "$@"';
    const line = ["setup", "--api-url", daemon.url, "--token", "good"];
    const child = Bun.spawn(
      [
        "unshare",
        "-m",
        "sh",
        "-ec",
        inside,
        "sh",
        passwd,
        process.execPath,
        join(import.meta.dir, "../../main.ts"),
        ...line,
      ],
      {
        env: { PATH: process.env.PATH ?? "", SUDO_USER: "mallory", SUDO_UID: "65533", HOME: "/root" },
        stderr: "pipe",
      },
    );
    expect([await child.exited, await new Response(child.stderr).text()]).toEqual([0, ""]);
    expect(readFileSync(file, "utf8")).toContain("auth_token: good");
    // Neither was the secret copied into the person's file, nor root's file changed.
    expect(readFileSync(file, "utf8")).not.toContain("of-root");
    expect([lstatSync(file).isSymbolicLink(), statSync(file).uid, statSync(file).mode & 0o777]).toEqual([
      false,
      65533,
      0o600,
    ]);
    expect([readFileSync(target, "utf8"), statSync(target).uid]).toEqual(["secret: of-root\n", 0]);
  },
  30_000,
);

test("version: no configuration, no network; --server tells both", async () => {
  const broken = { BHATTI_CONFIG: "/nonexistent/x" };
  for (const args of [["version"], ["--version"], ["version", "--client"]])
    expect((await bhatti(args, { env: broken })).stdout).toMatch(/^bhatti \d+\.\d+\.\d+\n$/);
  await using daemon = new FakeDaemon(() =>
    Response.json({ status: "ok" }, { headers: { "x-bhatti-version": "9.9" } }),
  );
  const both = await bhatti(["version", "--server", "--json"], { url: daemon.url });
  expect(JSON.parse(both.stdout)).toMatchObject({
    server_version: "9.9",
    api: daemon.url,
    api_from: "BHATTI_URL",
  });
}, 30_000);
