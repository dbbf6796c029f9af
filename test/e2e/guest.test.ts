/** What the agent owes to a guest that is not in the best of health, and to the tools inside. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import type { Api } from "./api.ts";
import { Installation } from "./harness.ts";

let installation: Installation;
let api: Api;
const root = { user: "root" };

beforeAll(async () => {
  installation = await Installation.create();
  api = installation.api;
}, 300_000);

afterAll(async () => {
  await installation?.remove();
}, 120_000);

test("identity needs no writable root: stop, wake and fork of a read-only machine", async () => {
  await api.create({ name: "ro" });
  await api.sh("ro", "touch /writable; sync; mount -o remount,ro /", root);
  const readOnly = async (name: string) => {
    expect(await api.sh(name, "touch /x 2>/dev/null && echo rw || echo ro", root)).toBe("ro");
    expect(await api.sh(name, "hostname; cat /etc/hostname")).toBe(`${name}\n${name}`);
    expect(await api.sh(name, "grep -c ^nameserver /etc/resolv.conf")).toBe("1");
  };
  await readOnly("ro");
  await api.stop("ro");
  await readOnly("ro");
  const id = await api.sh("ro", "cat /etc/machine-id");
  await api.ok("POST", "/sandboxes/ro/fork", { count: 1, names: ["ro2"] });
  await readOnly("ro2");
  expect(await api.sh("ro2", "cat /etc/machine-id")).not.toBe(id);
}, 180_000);

for (const [how, command] of [
  ["reboot", ["sudo", "reboot"]],
  ["poweroff", ["sudo", "shutdown", "-P", "now"]],
] as const) {
  test(`${how} typed inside ends the machine in good order`, async () => {
    await api.create({ name: how });
    const denied = await api.exec(how, [how]);
    expect(denied.exit_code).toBe(1);
    expect(denied.stderr).toContain(`sudo ${how}`);
    const before = await api.sh(how, "echo kept >/workspace/file; cat /proc/sys/kernel/random/boot_id");
    await api.call("POST", `/sandboxes/${how}/exec`, { cmd: [...command] });
    // A request boots it if it is off; a reboot has done so by itself.
    const bootId = () => api.sh(how, "cat /proc/sys/kernel/random/boot_id").catch(() => before);
    for (let i = 0; i < 60 && (await bootId()) === before; i++) await Bun.sleep(500);
    expect(await bootId()).not.toBe(before);
    expect(await api.sh(how, "cat /workspace/file")).toBe("kept");
  }, 120_000);
}

test("the guest is a Linux machine as programs expect it", async () => {
  await api.create({ name: "linux" });
  const sysctl = (name: string) => api.sh("linux", `cat /proc/sys/${name.replaceAll(".", "/")}`);
  expect(await sysctl("fs.inotify.max_user_watches")).toBe("524288");
  expect(await sysctl("net.ipv4.ping_group_range")).toBe("0\t2147483647");
  expect(await sysctl("fs.protected_symlinks")).toBe("1");
  // IPv6 inside, none outside.
  expect(await api.sh("linux", "cat /proc/net/if_inet6 | awk '{print $1, $6}'")).toBe(
    "00000000000000000000000000000001 lo",
  );
  for (const module of ["overlay", "tun", "nf_tables", "br_netfilter", "veth", "loop"])
    await api.sh("linux", `modprobe ${module} && grep -q '^${module} ' /proc/modules`, root);
  expect(await api.sh("linux", "grep -w -e fuse -e overlay /proc/filesystems | sort | xargs")).toContain(
    "overlay",
  );
  expect(await api.sh("linux", "stat -c %a /dev/net/tun /dev/fuse | xargs")).toBe("666 666");
  // Loaded by the kernel's own wish, without anybody's modprobe.
  await api.sh(
    "linux",
    "mkdir /tmp/o && cd /tmp/o && mkdir l u w m && mount -t overlay o -o lowerdir=l,upperdir=u,workdir=w m",
    root,
  );
  await api.sh("linux", "rmmod veth; ip link add name one type veth peer name two && ip link show two", root);
  expect(await api.exec("linux", ["touch", "/lib/modules/x"], root)).toMatchObject({ exit_code: 0 });
  const release = await api.sh("linux", "uname -r");
  expect((await api.exec("linux", ["touch", `/lib/modules/${release}/x`], root)).exit_code).toBe(1);
}, 180_000);

test("what listens on eth0's address, on ::1 or on everything is reached from outside", async () => {
  await api.create({ name: "web" });
  for (const [port, address] of [
    [8001, "169.254.77.2"],
    [8002, "::1"],
    [8003, "0.0.0.0"],
  ] as const) {
    const code = `use IO::Socket::IP;
      my $l = IO::Socket::IP->new(LocalHost => "${address}", LocalPort => ${port}, Listen => 5, ReuseAddr => 1, GetAddrInfoFlags => 0) or die "$@";
      while (my $c = $l->accept) {
        while (<$c>) { last if /^\\r?$/ }
        print $c "HTTP/1.1 200 OK\\r\\nConnection: close\\r\\n\\r\\n${address}"; close $c }`;
    await api.exec("web", ["perl", "-e", code], { detach: true, output_file: `/tmp/web-${port}` });
    await api.listens("web", port);
    const answer = await api.call("GET", `/sandboxes/web/proxy/${port}/`);
    expect([answer.status, answer.body]).toEqual([200, address]);
  }
}, 120_000);

test("an init script that fails leaves its status and its output", async () => {
  await api.create({ name: "init", init: "echo said; exit 4" });
  await api.sh(
    "init",
    "for i in $(seq 50); do [ -s /var/log/bhatti-init.log ] && exit; sleep 0.1; done; exit 1",
  );
  expect(await api.sh("init", "cat /var/log/bhatti-init.log")).toBe("said");
}, 60_000);

test("processes are listed when the default user may start none", async () => {
  await api.create({ name: "full" });
  await api.exec("full", ["sh", "-c", "ulimit -u 1; exec sleep 1000"], { detach: true });
  await api.runs("full", "sleep 1000");
  await api.sh("full", "echo 2 >/sys/fs/cgroup/user/pids.max", root).catch(() => "");
  const list = await api.ok("GET", "/sandboxes/full/processes");
  expect(list.map((p: { argv: string }) => p.argv)).toContain("sleep 1000");
  expect(list[0]).toMatchObject({ pid: 1, uid: 0, state: "S" });
}, 60_000);

test("a log that is emptied while its job runs has no hole", async () => {
  await api.create({ name: "log" });
  await api.exec("log", ["sh", "-c", "while :; do echo line; sleep 0.05; done"], {
    detach: true,
    output_file: "/tmp/log",
  });
  await api.sh("log", "sleep 1; : >/tmp/log; sleep 0.5; test -s /tmp/log && ! grep -q -P '\\\\x00' /tmp/log");
}, 60_000);
