/** Where address and key come from, and what setup leaves behind. */
import { expect, test } from "bun:test";
import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
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

test("flags win over the environment, the environment over the file, each on its own", async () => {
  using home = new Home();
  await using daemon = new FakeDaemon(() => Response.json([]));
  const token = () => daemon.last().headers.get("authorization");
  configure(home, `api_url: ${daemon.url}/\nauth_token: from-file\n`);
  expect(await bhatti(["list", "-q"], { home })).toMatchObject({ code: 0 });
  expect(token()).toBe("Bearer from-file");
  expect(daemon.last().path).toBe("/sandboxes");
  await bhatti(["list", "-q"], { home, env: { BHATTI_TOKEN: "from-env" } });
  expect(token()).toBe("Bearer from-env");
  await bhatti(["list", "-q", "--token", "from-flag"], { home, env: { BHATTI_TOKEN: "from-env" } });
  expect(token()).toBe("Bearer from-flag");
  await bhatti(["--token=before-the-word", "list", "-q"], { home });
  expect(token()).toBe("Bearer before-the-word");
  const elsewhere = await bhatti(["list"], { home, env: { BHATTI_URL: "http://127.0.0.1:1" } });
  expect([elsewhere.code, elsewhere.stderr]).toEqual([1, expect.stringContaining("http://127.0.0.1:1")]);
  const other = join(home.dir, "other.yaml");
  writeFileSync(other, "auth_token: from-other\n", { mode: 0o600 });
  await bhatti(["list", "-q"], { home, env: { BHATTI_CONFIG: other, BHATTI_URL: daemon.url } });
  expect(token()).toBe("Bearer from-other");
}, 60_000);

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
