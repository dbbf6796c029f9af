/**
 * What a sandbox cannot reach. Each refusal has its twin: with the rules away that refuse, the same packet arrives; and where
 * two layers refuse, each does it alone. The rules are those of this kernel; needs root.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { HostNetwork } from "./create.ts";
import { BRIDGE_MAC, macOf } from "./names.ts";
import { GUEST, type SandboxNet } from "./network.ts";
import { run } from "./run.ts";
import { Lab } from "./test-lab.ts";
import { bridged, type Layer, refused, sysctl } from "./test-lab-refusal.ts";

const TIMEOUT = 120_000;
const PORT = 39_871;

describe.skipIf(process.getuid?.() !== 0)("two owners, three sandboxes", () => {
  const lab = new Lab();
  let network: HostNetwork;
  const nets: Record<string, SandboxNet> = {};
  const guests: Record<string, string> = {};
  const net = (name: string) => nets[name] as SandboxNet;
  const guest = (name: string) => guests[name] as string;

  beforeAll(async () => {
    await lab.buildInternet();
    network = lab.network();
    await network.start([]);
    for (const [name, owner] of [
      ["a1", lab.alice],
      ["a2", lab.alice],
      ["b1", lab.bob],
    ] as const) {
      const planned = network.plan(owner);
      await network.attach(owner, planned);
      network.setName(owner, planned, name);
      nets[name] = planned;
      guests[name] = await lab.guest(planned);
      await lab.say(guest(name), 80, name);
      await lab.say(guest(name), GUEST.agentPort, `agent-${name}`);
    }
    await lab.say(lab.outside, 80, "outside");
    await lab.say(null, PORT, "host");
  }, TIMEOUT);
  afterAll(() => lab.dispose(), TIMEOUT);

  const { without } = lab;
  const hear = (from: string | null, host: string, port: number) => lab.hear(from, host, port, 700);
  const ping = async (from: string, args: string) => ((await lab.ping(from, args)) ? "pong" : "silence");
  const onBridge = (chain: string) => bridged(lab.prefix, chain);

  test(
    "the agent of a sibling: directly, and by way of the gateway",
    async () => {
      const agent = () => hear(guest("a1"), net("a2").address, GUEST.agentPort);
      await refused(
        agent,
        "agent-a2",
        without(null, "bridge", "forward"),
        without(net("a2").netns, "inet", "forward"),
        ...onBridge("siblings"),
      );
      // The gateway's MAC is the one that may, so here the host alone refuses.
      const route = `${net("a2").address}/32 via ${net("a1").gateway}`;
      await lab.shell(net("a1").netns, `ip route add ${route}`);
      expect(await hear(guest("a1"), net("a2").address, 80)).toStartWith("a2 ");
      await refused(agent, "agent-a2", without(null, "inet", "siblings"));
      await lab.shell(net("a1").netns, `ip route delete ${route}`);
    },
    TIMEOUT,
  );

  test(
    "its own agent, at its own address",
    () =>
      refused(
        () => hear(guest("a1"), net("a1").address, GUEST.agentPort),
        "agent-a1",
        without(net("a1").netns, "inet", "forward"),
      ),
    TIMEOUT,
  );

  test(
    "sandboxes of others: services, agents, ping, names",
    async () => {
      const host = without(null, "inet", "from_sandbox");
      await refused(() => hear(guest("a1"), net("b1").address, 80), "b1 ", host);
      await refused(() => hear(guest("b1"), net("a1").address, GUEST.agentPort), "agent-a1 ", host);
      await refused(() => ping(guest("a1"), net("b1").address), "pong", host);
      expect(await lab.lookup(guest("a1"), "resolve4", "a2.internal")).toBe(net("a2").address);
      expect(await lab.lookup(guest("b1"), "resolve4", "a2.internal")).toBe("ENOTFOUND");
      const asked = async () => {
        const heard = await lab.lookup(guest("b1"), "resolve4", "a2.internal", `${net("a1").gateway}:10053`);
        return heard === net("a2").address ? heard : "silence";
      };
      await refused(asked, net("a2").address, without(null, "inet", "host_from_sandbox"));
    },
    TIMEOUT,
  );

  test(
    "services of the host, at every address of it, and ping",
    async () => {
      expect(await hear(null, lab.hostOut, PORT)).toBe(`host ${lab.hostOut}`);
      const input = without(null, "inet", "host_from_sandbox");
      for (const address of [net("a1").gateway, net("b1").gateway, lab.hostOut])
        await refused(() => hear(guest("a1"), address, PORT), "host ", input);
      await refused(() => ping(guest("a1"), net("a1").gateway), "pong", input);
    },
    TIMEOUT,
  );

  test(
    "what listens in its namespace, and from there the way out",
    async () => {
      const inside = net("a1").netns;
      const [input, output] = [without(inside, "inet", "input"), without(inside, "inet", "output")];
      await lab.say(inside, PORT, "inside");
      await refused(() => hear(guest("a1"), GUEST.gateway, PORT), "inside ", input, output);
      await refused(() => hear(inside, lab.internet, 80), "outside ", input, output);
      await refused(() => hear(inside, net("a2").address, 80), "a2 ", input, output);
    },
    TIMEOUT,
  );

  test(
    "private networks and metadata services",
    async () => {
      const host = without(null, "inet", "from_sandbox");
      await refused(() => hear(guest("a1"), lab.lan, 80), "outside ", host);
      const inside = without(net("a1").netns, "inet", "forward");
      const [linkLocal, other] = lab.metadata as [string, string];
      await refused(() => hear(guest("a1"), linkLocal, 80), "outside ", host, inside);
      await refused(() => hear(guest("a1"), other, 80), "outside ", host);
    },
    TIMEOUT,
  );

  test(
    "from outside nobody begins a conversation with a sandbox",
    async () => {
      await lab.shell(lab.outside, `ip route add ${net("a1").address}/32 via ${lab.hostOut} dev wan`);
      await refused(
        () => hear(lab.outside, net("a1").address, 80),
        "a1 ",
        without(null, "inet", "to_sandbox"),
      );
    },
    TIMEOUT,
  );

  test(
    "a guest's packets with another source",
    async () => {
      const send = (source: string) =>
        lab.sniff(net("a2").netns, "eth0", () =>
          lab.packet(
            guest("a1"),
            "frame",
            "eth0",
            GUEST.tapMac,
            GUEST.mac,
            source,
            net("a2").address,
            "4242",
          ),
        );
      const arrived = `> ${net("a2").address}:4242`;
      expect(await send(GUEST.address)).toContain(`ip 17 ${net("a1").address} ${arrived}`);
      const inside = net("a1").netns;
      for (const source of ["192.0.2.99", net("b1").address, GUEST.gateway])
        await refused(
          async () => ((await send(source)).includes(arrived) ? "arrived" : "silence"),
          // From the namespace's own address it never leaves, whatever the rules say.
          source === GUEST.gateway ? "silence" : "arrived",
          without(inside, "inet", "forward"),
          sysctl(inside, "net/ipv4/conf/all/rp_filter", "0"),
        );
    },
    TIMEOUT,
  );

  test(
    "a port's frames with another address, another MAC, or somebody else's ARP; and IPv6",
    async () => {
      const [mine, theirs] = [macOf(net("a1").address), macOf(net("a2").address)];
      const other = net("a1").address.replace(/\d+$/, "99");
      const send = (...args: string[]) =>
        lab.sniff(net("a2").netns, "eth0", () => lab.packet(net("a1").netns, ...args));
      const udp = (mac: string, source: string) =>
        send("frame", "eth0", theirs, mac, source, net("a2").address, "4243");
      expect(await udp(mine, net("a1").address)).toContain(`ip 17 ${net("a1").address} >`);
      expect(await send("arp", "eth0", mine, net("a1").address)).toContain(
        `arp ${net("a1").address} is ${mine}`,
      );

      const port = without(null, "bridge", "from_port");
      const stops = (what: () => Promise<string>, sign: string, ...also: Layer[]) =>
        refused(
          async () => ((await what()).includes(sign) ? "arrived" : "silence"),
          "arrived",
          port,
          ...also,
        );
      await stops(() => udp(mine, other), `ip 17 ${other} >`);
      await stops(() => udp(macOf(other), net("a1").address), `from ${macOf(other)}`);
      await stops(() => udp(macOf(other), other), `from ${macOf(other)}`);
      await stops(() => udp(BRIDGE_MAC, net("a1").address), `from ${BRIDGE_MAC}`);
      for (const claimed of [net("a1").gateway, net("a2").address, other])
        await stops(() => send("arp", "eth0", mine, claimed), `arp ${claimed} is ${mine}`);
      await stops(
        () => send("frame6", "eth0", theirs, mine, "fd00:78::1", "fd00:78::2"),
        "ip6 58 fd00:78::1 >",
        ...onBridge("from_sandbox"),
      );
    },
    TIMEOUT,
  );

  test(
    "IPv6 of a guest, also when its namespace has been made to forward it",
    async () => {
      const [near, far] = [net("a1").netns, net("a2").netns];
      const on = (...ifaces: string[]) =>
        ["all", ...ifaces].map((i) => `echo 0 > /proc/sys/net/ipv6/conf/${i}/disable_ipv6`).join("; ");
      await lab.shell(
        near,
        `${on("tap0", "eth0")}; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
         ip -6 address add fd00:77::1/64 dev tap0 nodad; ip -6 address add fd00:78::1/64 dev eth0 nodad`,
      );
      await lab.shell(
        far,
        `${on("eth0")}; ip -6 address add fd00:78::2/64 dev eth0 nodad; ip -6 route add fd00:77::/64 via fd00:78::1`,
      );
      await lab.shell(
        guest("a1"),
        `${on("eth0")}; ip -6 address add fd00:77::2/64 dev eth0 nodad; ip -6 route add default via fd00:77::1`,
      );
      await refused(
        () => ping(guest("a1"), "-6 fd00:78::2"),
        "pong",
        without(near, "inet", "forward"),
        without(near, "inet", "input"),
        without(near, "inet", "output"),
        without(far, "inet", "input"),
        without(far, "inet", "output"),
        without(null, "bridge", "from_port"),
        ...onBridge("from_sandbox"),
      );
    },
    TIMEOUT,
  );

  test(
    "of the host's users root alone reaches an agent",
    async () => {
      const nobody = (port: number) => lab.hearAs(65_534, net("a1").address, port);
      expect(await nobody(80)).toStartWith("a1 ");
      expect(await lab.hearAs(0, net("a1").address, GUEST.agentPort)).toStartWith("agent-a1 ");
      await refused(() => nobody(GUEST.agentPort), "agent-a1 ", without(null, "inet", "to_agent"));
    },
    TIMEOUT,
  );

  describe("floods", () => {
    /** Connections of a sandbox in the host's table. */
    const tracked = async (name: string) =>
      (await run(["conntrack", "-L", "-s", net(name).address], "", { tolerant: true })).trim().split("\n")
        .length;
    const inNamespace = async (name: string) =>
      Number(await lab.shell(net(name).netns, "cat /proc/sys/net/netfilter/nf_conntrack_count"));
    const fill = (name: string, first: number, last: number) =>
      lab.packet(guest(name), "udp", lab.internet, String(first), String(last));

    test(
      "a guest cannot fill the connection table, of its namespace or of the host, and goes on being served",
      async () => {
        await fill("b1", 10_000, 16_000);
        expect(await inNamespace("b1")).toBeGreaterThan(3500);
        expect(await inNamespace("b1")).toBeLessThan(4200);
        // The host counts for itself: without the namespace's rule, and in the time in which the rate would allow more.
        const back = await without(net("b1").netns, "inet", "forward")();
        await fill("b1", 16_001, 18_000);
        await Bun.sleep(6000);
        await fill("b1", 18_001, 22_000);
        await back();
        expect(await inNamespace("b1")).toBeGreaterThan(5000);
        expect(await tracked("b1")).toBeGreaterThan(3500);
        expect(await tracked("b1")).toBeLessThan(4200);
        expect(await hear(guest("a1"), lab.internet, 80)).toStartWith("outside ");
        expect(await hear(null, net("b1").address, GUEST.agentPort)).toStartWith("agent-b1 ");
        await network.flush(net("b1"));
        // The twin: without both limits they are all there.
        const open = [
          await without(net("b1").netns, "inet", "forward")(),
          await without(null, "inet", "from_sandbox")(),
        ];
        await fill("b1", 10_000, 16_000);
        expect(await tracked("b1")).toBeGreaterThan(5500);
        for (const put of open) await put();
      },
      TIMEOUT,
    );

    test(
      "closed connections, which are not counted, are soon forgotten or limited by their rate",
      async () => {
        const to = async (host: string, n: number) =>
          Number(await lab.packet(guest("a2"), "churn", host, "80", String(n)));
        const churn = () => to(lab.internet, 6000);
        // Siblings do not pass by the host; there they are forgotten soon.
        expect(await to(net("a1").address, 3000)).toBe(3000);
        const closed = async () =>
          Number(await lab.shell(net("a2").netns, "conntrack -L 2>/dev/null | grep -c TIME_WAIT || true"));
        expect(await closed()).toBeGreaterThan(500);
        await Bun.sleep(11_000);
        expect(await closed()).toBeLessThan(100);
        const done = await churn();
        expect(done).toBeGreaterThan(4000);
        expect(done).toBeLessThan(5900);
        const put = await without(null, "inet", "from_sandbox")();
        expect(await churn()).toBe(6000);
        await put();
      },
      TIMEOUT,
    );
  });
});
