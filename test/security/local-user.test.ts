/** A user of the host who is nobody to bhatti: after every kind of operation nothing of a tenant's can be opened. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmodSync, lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { mendPermissions, openToOthers } from "../../src/storage/permissions.ts";
import type { Api } from "../e2e/api.ts";
import { BASE, Installation } from "../e2e/harness.ts";

const NOBODY = 65534;
let installation: Installation;
let api: Api;

beforeAll(async () => {
  // Whoever starts it has an ordinary umask: the daemon must bring its own.
  process.umask(0o022);
  installation = await Installation.create({ config: { vm_pool: 1 } });
  api = installation.api;
}, 300_000);
afterAll(async () => {
  await installation?.remove();
}, 120_000);

/** Every path below `root` as root sees it; links are not followed. */
function everything(root: string): string[] {
  const facts = lstatSync(root, { throwIfNoEntry: false });
  if (!facts) return [];
  if (!facts.isDirectory()) return [root];
  return [root, ...readdirSync(root).flatMap((name) => everything(`${root}/${name}`))];
}

/** Those of `paths` that an unprivileged user can open, list or connect to; it is told every name. */
async function openedByNobody(paths: string[]): Promise<string[]> {
  // Reading for files, listing for folders, the right to connect for sockets.
  const script = `while IFS= read -r path; do
    if [ -d "$path" ]; then ls "$path" >/dev/null 2>&1
    elif [ -S "$path" ]; then [ -w "$path" ]
    else (: <"$path") 2>/dev/null; fi && printf '%s\\n' "$path"
  done; :`;
  const child = Bun.spawn(
    ["setpriv", `--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups", "/bin/sh", "-c", script],
    { stdin: new TextEncoder().encode(paths.join("\n")), stdout: "pipe", cwd: "/" },
  );
  const out = await new Response(child.stdout).text();
  expect(await child.exited).toBe(0);
  return out.split("\n").filter(Boolean);
}

/** Nothing opens, and nothing would if a folder above it were opened by mistake. */
async function closed(what: string): Promise<void> {
  const { dataDir } = installation;
  const paths = [BASE, ...everything(dataDir)].filter((path) => !path.startsWith(`${dataDir}/kernel/`));
  expect({ what, opened: await openedByNobody(paths) }).toEqual({ what, opened: [] });
  expect({ what, open: [...openToOthers(dataDir)].filter((path) => !ofTheTest(path)) }).toEqual({
    what,
    open: [],
  });
}

/** What the harness and not the product puts into the folder. */
const ofTheTest = (path: string) => /\/(config\.yaml|daemon\.log|fault)$/.test(path);

test("after every kind of operation", async () => {
  await closed("start");
  await api.create({ name: "a", env: { SECRET: "hunter2" } });
  await api.sh("a", "echo secret >/workspace/secret");
  await closed("create");
  await api.stop("a");
  await closed("stop");
  await api.start("a");
  await closed("start");
  await api.ok("POST", "/sandboxes/a/checkpoint", { name: "s" });
  await closed("snapshot");
  const exported = await fetch(`${installation.url}/snapshots/s/export`, {
    headers: { authorization: `Bearer ${installation.key()}` },
  });
  const reader = exported.body!.getReader();
  await reader.read();
  await closed("export under way");
  await reader.cancel();
  // One transfer a user at a time: the one that was left is still being put away.
  const again = () =>
    fetch(`${installation.url}/snapshots/s/export`, {
      headers: { authorization: `Bearer ${installation.key()}` },
    });
  let whole = await again();
  for (let i = 0; i < 100 && whole.status !== 200; i++) {
    await Bun.sleep(200);
    whole = await again();
  }
  expect(whole.status).toBe(200);
  await api.ok("POST", "/snapshots/import?name=i", new Uint8Array(await whole.arrayBuffer()));
  await closed("import");
  const { sandboxes } = await api.ok("POST", "/sandboxes/a/fork", { count: 2 });
  await closed("fork");
  await api.ok("POST", "/snapshots/s/resume", { name: "r" });
  await api.ok("POST", "/sandboxes/a/restore", { snapshot: "s" });
  await closed("resume, rollback");
  await installation.restart("SIGKILL");
  api = installation.api;
  await closed("kill of the daemon");
  for (const { id } of sandboxes) await api.destroy(id);
  await closed("destroy");
}, 240_000);

// Its keeper's arguments hold the path of the sandbox's folder, which is closed to everybody but root.
test("nothing in the VMM's own arguments or environment names a sandbox", async () => {
  const { id, engine_id } = await api.get("a");
  await api.exec("a", ["true"]);
  const seen = readdirSync("/proc")
    .filter((pid) => /^\d+$/.test(pid))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "utf8") + readFileSync(`/proc/${pid}/environ`, "utf8");
      } catch {
        return "";
      }
    });
  const vmms = seen.filter((text) => text.split("\0", 1)[0]?.includes("qemu-system"));
  expect(vmms.length).toBeGreaterThan(0);
  expect(vmms.filter((text) => text.includes(id) || text.includes(engine_id))).toEqual([]);
  // The control: a search that finds what is there.
  expect(seen.some((text) => text.includes(" jail") || text.includes("\0jail\0"))).toBe(true);
});

test("an installation of an older version is closed at the start of the daemon", async () => {
  const { dataDir } = installation;
  const { engine_id } = await api.get("a");
  const dir = `${dataDir}/sandboxes/${engine_id}`;
  const memory = `${dataDir}/reserved/sandboxes/${engine_id}`;
  await api.stop("a");
  await installation.stop();
  chmodSync(BASE, 0o711);
  chmodSync(`${BASE}/mnt`, 0o711);
  chmodSync(dataDir, 0o711);
  for (const folder of ["sandboxes", "reserved", "reserved/sandboxes"])
    chmodSync(`${dataDir}/${folder}`, 0o711);
  for (const folder of [dir, memory]) chmodSync(folder, 0o711);
  const old = [dir, memory].flatMap((at) =>
    readdirSync(at)
      .filter((name) => /^(mem|disk|state)/.test(name))
      .map((name) => `${at}/${name}`),
  );
  expect(old.length).toBe(3);
  for (const file of [...old, `${dataDir}/reserved/state.db`]) chmodSync(file, 0o644);
  // The twin: this is how the memory of another tenant was read.
  const opened = await openedByNobody(everything(dataDir));
  expect(opened).toEqual(expect.arrayContaining([...old, `${dataDir}/reserved/state.db`]));
  await installation.start();
  api = installation.api;
  await closed("mended");
  chmodSync(`${BASE}/mnt`, 0o700);
  chmodSync(BASE, 0o700);
  expect((await api.exec("a", ["cat", "/workspace/secret"])).stdout).toBe("secret\n");
}, 120_000);

test("mending does not follow what a VMM may have planted", () => {
  const root = `${BASE}/mnt/mend`;
  mkdirSync(`${root}/vm`, { recursive: true, mode: 0o755 });
  writeFileSync(`${BASE}/mnt/outside`, "", { mode: 0o644 });
  Bun.spawnSync(["ln", "-s", `${BASE}/mnt/outside`, `${root}/vm/link`]);
  Bun.spawnSync(["ln", "-s", `${BASE}/mnt/outside`, `${root}/link`]);
  Bun.spawnSync(["chown", "-R", "-h", "200001", `${root}/vm`]);
  chmodSync(`${BASE}/mnt/outside`, 0o644);
  mendPermissions(root);
  expect(lstatSync(`${BASE}/mnt/outside`).mode & 0o777).toBe(0o644);
  expect(lstatSync(`${root}/vm`).mode & 0o777).toBe(0o700);
  rmSync(root, { recursive: true });
  rmSync(`${BASE}/mnt/outside`);
});
