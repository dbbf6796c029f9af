/** Files of a real guest, exactly: what exists stays what it is, whatever its size, name or place. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import type { Api } from "./api.ts";
import { Installation } from "./harness.ts";

let installation: Installation;
let api: Api;
const root = { user: "root" };
const url = (path: string, more = "") =>
  `/sandboxes/main/files?path=${encodeURIComponent(path)}${more && `&${more}`}`;

beforeAll(async () => {
  installation = await Installation.create();
  api = installation.api;
  await api.create({ name: "main" });
}, 300_000);

afterAll(async () => {
  await installation?.remove();
}, 120_000);

test("an overwritten file keeps mode, owner and attributes; sudo goes on working", async () => {
  const sudoers = "/etc/sudoers.d/lohar";
  const before = await api.sh("main", `stat -c '%a %u:%g' ${sudoers}`, root);
  const text = await api.call("GET", url(sudoers));
  await api.ok("PUT", url(sudoers), `${text.body}# edited\n`);
  expect(await api.sh("main", `stat -c '%a %u:%g' ${sudoers}`, root)).toBe(before);
  expect(await api.sh("main", "sudo id -u")).toBe("0");
  await api.ok("PUT", url("/workspace/run.sh", "mode=0755"), "echo one");
  await api.ok("PUT", url("/workspace/run.sh"), "#!/bin/sh\necho two\n");
  expect(await api.sh("main", "/workspace/run.sh")).toBe("two");
  await api.ok("PUT", url("/srv/x", "owner=root:sudo&mode=0640"), "x");
  expect(await api.sh("main", "stat -c '%a %U:%G' /srv/x", root)).toBe("640 root:sudo");
  const unknown = await api.call("PUT", url("/srv/y", "owner=nobody-here"), "x");
  expect([unknown.status, unknown.body.error]).toEqual([400, expect.stringContaining('"nobody-here"')]);
});

test("devices, FIFOs, sockets and folders are refused by name, and stay", async () => {
  await api.sh("main", "mkfifo /tmp/fifo");
  for (const [path, kind] of [
    ["/dev/null", "character device"],
    ["/dev/vda", "block device"],
    ["/tmp/fifo", "FIFO"],
    ["/etc", "directory"],
  ]) {
    const answer = await api.call("PUT", url(path!), "x");
    expect([answer.status, answer.body.error]).toEqual([
      400,
      expect.stringContaining(`${path} is a ${kind}`),
    ]);
  }
  expect(await api.sh("main", "stat -c '%F %t:%T' /dev/null; echo gone >/dev/null")).toBe(
    "character special file 1:3",
  );
});

test("links are followed, in sticky folders of others too", async () => {
  expect(await api.sh("main", "cat /proc/sys/fs/protected_symlinks")).toBe("1");
  await api.sh(
    "main",
    "echo old >/workspace/file; ln -s /workspace/file /tmp/link; ln -s /workspace /tmp/dir",
  );
  expect((await api.exec("main", ["cat", "/tmp/link"], root)).exit_code).toBe(1);
  await api.ok("PUT", url("/tmp/link"), "new\n");
  expect((await api.call("GET", url("/tmp/dir/file"))).body).toBe("new\n");
  const stat = await api.ok("GET", url("/tmp/link", "stat=true"));
  expect(stat).toMatchObject({ kind: "symlink", target: "/workspace/file", uid: 1000 });
  expect((await api.ok("GET", url("/tmp/dir", "ls=true"))).map((e: { name: string }) => e.name)).toContain(
    "file",
  );
});

test("kinds and names that are not UTF-8 go round", async () => {
  await api.sh("main", "mkdir /tmp/odd; cd /tmp/odd; printf x >\"$(printf 'a\\377')\"; mkfifo f; mkdir d");
  const entries = await api.ok("GET", url("/tmp/odd", "ls=true"));
  expect(entries.map((e: { kind: string }) => e.kind)).toEqual(["file", "dir", "fifo"]);
  const bytes = Buffer.concat([Buffer.from("/tmp/odd/"), Buffer.from(entries[0].name_b64, "base64")]);
  const coded = `base64:${bytes.toString("base64")}`;
  expect((await api.call("GET", url(coded))).body).toBe("x");
  await api.ok("PUT", url(coded), "more");
  expect(await api.sh("main", "cat /tmp/odd/a*; ls /tmp/odd | wc -l")).toBe("more3");
});

test("300 MiB go both ways without being held in memory; of unknown length, too", async () => {
  const size = 300 << 20;
  const rss = () =>
    Number(readFileSync(`/proc/${installation.pid}/status`, "utf8").match(/VmRSS:\s+(\d+)/)![1]) / 1024;
  const block = crypto.getRandomValues(new Uint8Array(1 << 16));
  let sent = 0;
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      if (sent === size) return controller.close();
      controller.enqueue(block);
      sent += block.length;
    },
  });
  const before = rss();
  let peak = before;
  const watch = setInterval(() => {
    peak = Math.max(peak, rss());
  }, 50);
  using _stop = { [Symbol.dispose]: () => clearInterval(watch) };
  const headers = { authorization: `Bearer ${installation.key()}` };
  const upload = await fetch(installation.url + url("/workspace/big"), { method: "PUT", headers, body });
  expect(upload.status).toBe(200);
  const download = await fetch(installation.url + url("/workspace/big"), { headers });
  expect(download.headers.get("x-file-size")).toBe(String(size));
  let got = 0;
  let same = true;
  for await (const chunk of download.body as unknown as AsyncIterable<Uint8Array>) {
    same &&=
      chunk[0] === block[got % block.length] &&
      chunk.at(-1) === block[(got + chunk.length - 1) % block.length];
    got += chunk.length;
  }
  expect([got, same]).toEqual([size, true]);
  expect(peak - before).toBeLessThan(100);
}, 240_000);

test("an upload that breaks off changes nothing: client gone, or the machine", async () => {
  await api.sh("main", "echo old >/workspace/kept; sync");
  const half = (path: string) =>
    new Promise<() => void>((resolve) => {
      const { hostname, port } = new URL(installation.url);
      const socket = connect(Number(port), hostname, () => {
        const head = `PUT ${url(path)} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${installation.key()}\r\n`;
        socket.write(`${head}Transfer-Encoding: chunked\r\n\r\n100000\r\n`);
        socket.write(Buffer.alloc(0x100000), () => resolve(() => socket.destroy()));
      });
      socket.on("error", () => {});
    });
  const leave = await half("/workspace/kept");
  await Bun.sleep(500);
  leave();
  await Bun.sleep(300);
  expect(await api.sh("main", "ls -A /workspace | grep bhatti || true; cat /workspace/kept")).toBe("old");
  await half("/workspace/kept");
  await half("/workspace/new");
  await Bun.sleep(500);
  await api.sh("main", "sync", root);
  process.kill(installation.vmmPid("main"), "SIGKILL");
  await api.until("main", (view) => view.status !== "running", 30_000);
  expect(await api.sh("main", "ls -A /workspace | grep -E 'bhatti|new' || true; cat /workspace/kept")).toBe(
    "old",
  );
}, 120_000);
