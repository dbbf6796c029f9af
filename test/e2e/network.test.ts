/** Who reaches whom: from inside real guests. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import type { Api } from "./api.ts";
import { Installation } from "./harness.ts";

let installation: Installation;
let one: Api;
let two: Api;
let hostPort: ReturnType<typeof Bun.serve>;
const ip: Record<string, string> = {};

beforeAll(async () => {
  installation = await Installation.create();
  one = installation.user("one");
  two = installation.user("two");
  hostPort = Bun.serve({ hostname: "0.0.0.0", port: 0, fetch: () => new Response("host") });
  for (const [api, name] of [
    [one, "a"],
    [one, "b"],
    [two, "c"],
  ] as const) {
    ip[name] = (await api.create({ name })).ip;
    await api.exec(
      name,
      [
        "sh",
        "-c",
        `while :; do printf 'HTTP/1.0 200 OK\\r\\n\\r\\nI am ${name}' | nc -l -p 8000 -q 1 2>/dev/null || exec perl -MIO::Socket::INET -e 'my $s=IO::Socket::INET->new(LocalPort=>8000,Listen=>9,ReuseAddr=>1); while(my $c=$s->accept){ sysread $c,my $x,4096; print $c "HTTP/1.0 200 OK\\r\\n\\r\\nI am ${name}"; close $c }'; done`,
      ],
      { detach: true },
    );
  }
  await Bun.sleep(1500);
}, 300_000);
afterAll(async () => {
  hostPort?.stop(true);
  await installation?.remove();
}, 120_000);

const curl = (api: Api, from: string, url: string) => api.sh(from, `curl -s -m 5 ${url} || echo unreachable`);

test("two of one owner reach each other, by address and by name", async () => {
  expect(await curl(one, "a", `http://${ip.b}:8000/`)).toBe("I am b");
  expect(await curl(one, "a", "http://b:8000/")).toBe("I am b");
  expect(await curl(one, "b", "http://a.internal:8000/")).toBe("I am a");
});

test("another owner's are out of reach, by address and by name", async () => {
  expect(await curl(one, "a", `http://${ip.c}:8000/`)).toBe("unreachable");
  expect(await curl(two, "c", `http://${ip.a}:8000/`)).toBe("unreachable");
  expect(await one.sh("a", "getent hosts c || echo unknown")).toBe("unknown");
  expect(await one.sh("a", `ping -c1 -W2 ${ip.c} >/dev/null 2>&1 && echo pong || echo silent`)).toBe(
    "silent",
  );
}, 60_000);

test("neither another sandbox's agent nor its own host", async () => {
  expect(
    await one.sh("a", `timeout 3 bash -c '</dev/tcp/${ip.b}/1024' 2>/dev/null && echo open || echo closed`),
  ).toBe("closed");
  const gateway = ip.a!.replace(/\d+$/, "1");
  const addresses = [
    gateway,
    ...Object.values((await import("node:os")).networkInterfaces())
      .flatMap((list) => list ?? [])
      .filter((a) => a.family === "IPv4" && !a.internal)
      .map((a) => a.address),
  ];
  for (const address of new Set(addresses)) {
    expect(
      await one.sh(
        "a",
        `timeout 2 bash -c '</dev/tcp/${address}/${hostPort.port}' 2>/dev/null && echo open || echo closed`,
      ),
    ).toBe("closed");
  }
}, 120_000);

test("no metadata service, no private networks, no IPv6", async () => {
  for (const address of ["169.254.169.254", "192.168.1.1", "172.16.0.1", "10.255.255.1"]) {
    expect(
      await one.sh(
        "a",
        `timeout 2 bash -c '</dev/tcp/${address}/80' 2>/dev/null && echo open || echo closed`,
      ),
    ).toBe("closed");
  }
  expect(await one.sh("a", "grep -c . /proc/net/if_inet6 || true")).toBe("0");
  expect(
    await one.sh(
      "a",
      "sudo sysctl -qw net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.eth0.disable_ipv6=0; sleep 1; ping -6 -c1 -W2 -I eth0 ff02::1 2>&1 | grep -c 'bytes from' || true",
    ),
  ).toBe("0");
}, 60_000);

test("spoofed sources go nowhere", async () => {
  const before = await one.sh("b", "cat /proc/net/snmp | awk '/^Icmp:/{n++} n==2{print $9; exit}'");
  await one.sh(
    "a",
    `sudo ip addr add ${ip.c}/32 dev eth0; ping -c2 -W1 -I ${ip.c} ${ip.b} >/dev/null 2>&1 || true; sudo ip addr del ${ip.c}/32 dev eth0`,
  );
  expect(await one.sh("b", "cat /proc/net/snmp | awk '/^Icmp:/{n++} n==2{print $9; exit}'")).toBe(before);
  // ARP for somebody else's address cannot leave the namespace, whatever the guest's link layer says.
  await one.sh("a", `sudo ip neigh flush all; sudo arping -c1 -U -I eth0 ${ip.b} 2>/dev/null || true`);
  expect(await curl(one, "a", `http://${ip.b}:8000/`)).toBe("I am b");
}, 60_000);

test("the internet is there: apt-get installs a package", async () => {
  const result = await one.exec(
    "a",
    [
      "sh",
      "-c",
      "sudo apt-get update >/dev/null && sudo apt-get install -y jq >/dev/null && echo '{\"a\":1}' | jq .a",
    ],
    { timeout_sec: 280 },
  );
  expect(result).toMatchObject({ exit_code: 0, stdout: "1\n" });
}, 300_000);

test("the authenticated proxy reaches a service on the guest's loopback and wakes for it", async () => {
  await one.exec(
    "a",
    [
      "perl",
      "-MIO::Socket::INET",
      "-e",
      'my $s=IO::Socket::INET->new(LocalAddr=>"127.0.0.1",LocalPort=>9000,Listen=>9,ReuseAddr=>1); while(my $c=$s->accept){ my $h=""; while(<$c>){ $h.=$_; last if /^\\r?$/ } print $c "HTTP/1.1 200 OK\\r\\nx-app: yes\\r\\ntransfer-encoding: chunked\\r\\n\\r\\n".sprintf("%x\\r\\n%s\\r\\n0\\r\\n\\r\\n",length($h),$h); close $c }',
    ],
    { detach: true },
  );
  await Bun.sleep(1000);
  const answer = await one.call<string>("GET", "/sandboxes/a/proxy/9000/some%2Fpath?q=1", undefined, {
    headers: { "x-mine": "1" },
  });
  expect(answer.status).toBe(200);
  expect(answer.headers.get("x-app")).toBe("yes");
  expect(answer.body).toStartWith("GET /some%2Fpath?q=1 HTTP/1.1\r\n");
  expect(answer.body).toContain("x-mine: 1");
  expect(answer.body.toLowerCase()).not.toContain("authorization");
  await one.stop("a");
  expect((await one.call("GET", "/sandboxes/a/proxy/9000/")).status).toBe(200);
  expect((await one.call("GET", "/sandboxes/a/proxy/9999/")).status).toBe(502);
  expect((await one.call("GET", "/sandboxes/a/proxy/0/")).status).toBe(400);
  expect(
    (await one.ok<{ container_port: number }[]>("GET", "/sandboxes/a/ports")).map((p) => p.container_port),
  ).toContain(9000);
}, 60_000);

test("a rename is known to the resolver", async () => {
  await one.ok("PATCH", "/sandboxes/b", { name: "bee" });
  expect(await curl(one, "a", "http://bee:8000/")).toBe("I am b");
});
