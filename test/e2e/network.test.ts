/**
 * Who reaches whom: from inside real guests. Each refusal has its twin: with the rules away that refuse, the same packet
 * arrives (src/network/test-lab-refusal.ts). Single packets come from test/packet, because the image has no tools for them.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { run } from "../../src/lib/run.ts";
import { BRIDGE_MAC, macOf } from "../../src/network/names.ts";
import { GUEST } from "../../src/network/network.ts";
import { Outside } from "../../src/network/test-lab-outside.ts";
import {
  bridged,
  enter,
  type Layer,
  refused,
  sniff,
  sysctl,
  without,
} from "../../src/network/test-lab-refusal.ts";
import { buildPacket } from "../packet/build.ts";
import type { Api } from "./api.ts";
import { Installation } from "./harness.ts";

const HOST_PORT = 39_872;
let installation: Installation;
let one: Api;
let two: Api;
let outside: Outside;
const servers: Bun.Subprocess[] = [];
const ip: Record<string, string> = {};
/** Namespaces of the sandboxes, on the host. */
const spaces: Record<string, string> = {};
const gateway = (name: string) => ip[name]!.replace(/\d+$/, "1");

beforeAll(async () => {
  installation = await Installation.create();
  one = installation.user("one");
  two = installation.user("two");
  const tool = readFileSync(buildPacket());
  for (const [api, name] of [
    [one, "a"],
    [one, "b"],
    [two, "c"],
  ] as const) {
    ip[name] = (await api.create({ name })).ip;
    await api.ok("PUT", `/sandboxes/${name}/files?path=/workspace/packet`, tool);
    await api.sh(name, "sudo chmod 755 /workspace/packet");
    await api.exec(name, ["/workspace/packet", "serve", "8000", name], { detach: true });
    spaces[name] = await namespaceOf(ip[name]!);
  }
  const bridge = JSON.parse(await run(["ip", "-j", "route", "get", ip.a!]))[0].dev as string;
  outside = new Outside(installation.prefix, installation.base, [bridge]);
  await outside.build();
  await serve(outside.netns, 80, "outside");
  await serve(null, HOST_PORT, "host");
}, 300_000);
afterAll(async () => {
  for (const server of servers) server.kill("SIGKILL");
  await outside?.remove();
  await installation?.remove();
}, 120_000);

async function namespaceOf(address: string): Promise<string> {
  for (const line of (await run(["ip", "netns", "list"])).split("\n")) {
    const name = line.split(" ")[0]!;
    if (!new RegExp(`^${installation.prefix}\\d+$`).test(name)) continue;
    const shown = await run(["ip", "-n", name, "-4", "address", "show", "dev", "eth0"]).catch(() => "");
    if (shown.includes(` ${address}/`)) return name;
  }
  throw new Error(`no namespace has ${address}`);
}

/** A TCP server outside the guests that says `word`. */
async function serve(netns: string | null, port: number, word: string): Promise<void> {
  const child = Bun.spawn([...enter(netns), buildPacket(), "serve", String(port), word], { stdout: "pipe" });
  servers.push(child);
  await child.stdout.getReader().read();
}

const packet = (api: Api, from: string, ...args: string[]) =>
  api.sh(from, `sudo /workspace/packet ${args.join(" ")}`);
/** What a server says to a guest. */
const hear = (api: Api, from: string, host: string, port: number) =>
  packet(api, from, "tcp", host, String(port), "1000");
const host = (family: "inet" | "bridge", chain: string): Layer =>
  without(installation.prefix, null, family, chain);
const inside = (name: string, chain: string): Layer =>
  without(installation.prefix, spaces[name]!, "inet", chain);

test("two of one owner reach each other, by address and by name", async () => {
  expect(await hear(one, "a", ip.b!, 8000)).toBe(`b ${ip.a}`);
  expect(await hear(one, "a", "b", 8000)).toBe(`b ${ip.a}`);
  expect(await hear(one, "b", "a.internal", 8000)).toBe(`a ${ip.b}`);
  expect(await packet(one, "a", "ping", ip.b!)).toBe("pong");
}, 400_000);

test("another owner's are out of reach, by address and by name", async () => {
  const forward = host("inet", "from_sandbox");
  await refused(() => hear(one, "a", ip.c!, 8000), `c ${ip.a}`, forward);
  await refused(() => hear(two, "c", ip.a!, 8000), `a ${ip.c}`, forward);
  await refused(() => packet(one, "a", "ping", ip.c!), "pong", forward);
  expect(await one.sh("a", "getent hosts b || echo unknown")).toStartWith(ip.b!);
  expect(await one.sh("a", "getent hosts c || echo unknown")).toBe("unknown");
}, 400_000);

test("neither another sandbox's agent nor its own host", async () => {
  // A real agent says nothing to somebody who says nothing; that the connection was made is enough.
  await refused(
    () => hear(one, "a", ip.b!, GUEST.agentPort),
    "nothing said",
    host("bridge", "forward"),
    inside("b", "forward"),
    ...bridged(installation.prefix, "siblings"),
  );
  const input = host("inet", "host_from_sandbox");
  for (const address of [gateway("a"), gateway("c"), outside.hostOut])
    await refused(() => hear(one, "a", address, HOST_PORT), "host ", input);
}, 400_000);

test("no metadata service, no private networks", async () => {
  const forward = host("inet", "from_sandbox");
  await refused(() => hear(one, "a", outside.lan, 80), "outside ", forward);
  const [linkLocal, other] = outside.metadata as [string, string];
  await refused(() => hear(one, "a", linkLocal, 80), "outside ", forward, inside("a", "forward"));
  await refused(() => hear(one, "a", other, 80), "outside ", forward);
  // What is not private is reached, by the same way.
  expect(await hear(one, "a", outside.internet, 80)).toStartWith("outside ");
}, 400_000);

/** Whether what root in `a` does sends a packet like `sent` into its namespace, and one like `arrived` comes in at `b`. */
async function passes(what: () => Promise<unknown>, sent: string, arrived: string): Promise<string> {
  let heard = "";
  const during = async () => {
    heard = await sniff(spaces.b!, "eth0", what);
  };
  const near = await sniff(spaces.a!, GUEST.tap, during);
  // The control of every refusal: the guest did send it.
  expect(near).toContain(sent);
  if (process.env.TEST_LOG) console.log({ near, heard });
  return heard.includes(arrived) ? "arrived" : "silence";
}

test("packets with another source go nowhere, nor does ARP for others", async () => {
  const send = (source: string) => () =>
    packet(one, "a", "frame", "eth0", GUEST.tapMac, GUEST.mac, source, ip.b!, "4242");
  const arrived = `> ${ip.b}:4242`;
  expect(await passes(send(GUEST.address), `${GUEST.address} ${arrived}`, `${ip.a} ${arrived}`)).toBe(
    "arrived",
  );
  await refused(
    () => passes(send(ip.c!), `${ip.c} ${arrived}`, arrived),
    "arrived",
    inside("a", "forward"),
    sysctl(spaces.a!, "net/ipv4/conf/all/rp_filter", "0"),
  );
  // ARP ends in the namespace, which routes: there is no rule to take away. A port's own ARP is refusals.test.ts's.
  const claim = () => packet(one, "a", "arp", "eth0", GUEST.mac, ip.b!);
  expect(await passes(claim, `arp ${ip.b} is ${GUEST.mac}`, `arp ${ip.b}`)).toBe("silence");
  expect(await hear(one, "a", ip.b!, 8000)).toBe(`b ${ip.a}`);
}, 400_000);

test("no IPv6, also when root in the guest and in its namespace have switched it on", async () => {
  const [near, far] = [spaces.a!, spaces.b!];
  const send = () => packet(one, "a", "frame6", "eth0", GUEST.tapMac, GUEST.mac, "fd00:77::2", "fd00:78::2");
  const try6 = () => passes(send, "ip6 58 fd00:77::2 > fd00:78::2", "> fd00:78::2 from");
  expect(await try6()).toBe("silence");
  await run([
    ...enter(near),
    "sh",
    "-ec",
    `for i in all tap0 eth0; do echo 0 >/proc/sys/net/ipv6/conf/$i/disable_ipv6; done
     echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
     ip -6 address add fd00:77::1/64 dev tap0 nodad; ip -6 address add fd00:78::1/64 dev eth0 nodad
     ip -6 neighbour replace fd00:78::2 lladdr ${macOf(ip.b!)} dev eth0 nud permanent`,
  ]);
  expect(macOf(ip.b!)).not.toBe(BRIDGE_MAC);
  await refused(
    try6,
    "arrived",
    without(installation.prefix, near, "inet", "forward"),
    host("bridge", "from_port"),
    ...bridged(installation.prefix, "from_sandbox"),
  );
  expect(await run([...enter(far), "cat", "/proc/sys/net/ipv6/conf/eth0/disable_ipv6"])).toBe("1\n");
}, 400_000);

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
  await one.listens("a", 9000);
  const answer = await one.call<string>("GET", "/sandboxes/a/proxy/9000/some%2Fpath?q=1", undefined, {
    headers: { "x-mine": "1" },
  });
  expect(answer.status).toBe(200);
  expect(answer.headers.get("x-app")).toBe("yes");
  expect(answer.body).toStartWith("GET /some%2Fpath?q=1 HTTP/1.1\r\n");
  expect(answer.body.toLowerCase()).toContain("x-mine: 1");
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
  expect(await hear(one, "a", "bee", 8000)).toBe(`b ${ip.a}`);
});
