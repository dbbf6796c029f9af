/** For tests: a network with unusual names, stand-in guests behind a veth in place of the TAP, and an internet of its own. */
import pino from "pino";
import { claimBase } from "../../test/e2e/claim.ts";
import { buildPacket } from "../../test/packet/build.ts";
import { HostNetwork, type NetworkOptions } from "./create.ts";
import { GUEST, type Owner, type SandboxNet } from "./network.ts";
import { ip, ipForce, run } from "./run.ts";

/** Something that refuses, and can be taken away: returns what puts it back. */
export type Layer = () => Promise<() => Promise<unknown>>;

export class Lab {
  /** Everything follows from the base, which no other test process on this machine has. */
  private readonly claim = claimBase();
  readonly prefix = this.claim.prefix;
  readonly base = this.claim.base;
  /** Host and far end of the link to the internet: public addresses, as far as the rules know. */
  private readonly link = `${this.base < 128 ? "198.51.100" : "203.0.113"}`;
  readonly hostOut = `${this.link}.${(this.base % 128) * 2}`;
  readonly internet = `${this.link}.${(this.base % 128) * 2 + 1}`;
  /** A private address behind the same link. */
  readonly lan = `172.31.${this.base}.77`;
  /** Metadata services there, to which the host would forward what comes from alice's bridge. */
  readonly metadata = ["169.254.169.254", "168.63.129.16"];
  private readonly routes = 20_000 + this.base;
  readonly outside = `${this.prefix}-out`;
  readonly networks: HostNetwork[] = [];
  private readonly tool = buildPacket();
  private readonly children: Bun.Subprocess[] = [];
  private readonly guests: string[] = [];
  readonly alice: Owner = { userId: "alice", subnetIndex: 1 };
  readonly bob: Owner = { userId: "bob", subnetIndex: 2 };

  network(config: Partial<NetworkOptions> = {}): HostNetwork {
    const network = new HostNetwork({
      poolSize: 0,
      dnsUpstreams: [`${this.internet}:53`],
      prefix: this.prefix,
      base: this.base,
      tapKind: "veth",
      log: pino({ level: process.env.TEST_LOG ?? "silent" }),
      ...config,
    });
    this.networks.push(network);
    return network;
  }

  /** A namespace that the host reaches by a public and a private address. It has no route back to any sandbox. */
  async buildInternet(): Promise<void> {
    await ip([
      `netns add ${this.outside}`,
      `link add ${this.prefix}-o type veth peer name wan netns ${this.outside}`,
      `address add ${this.hostOut}/31 dev ${this.prefix}-o`,
      `link set ${this.prefix}-o up`,
      `route add ${this.lan}/32 via ${this.internet} onlink dev ${this.prefix}-o`,
      // The host has routes of its own to these, which are not ours to change.
      `route add default via ${this.internet} dev ${this.prefix}-o table ${this.routes}`,
      ...this.metadata.map((address) => `rule add to ${address} iif ${this.prefix}b1 lookup ${this.routes}`),
    ]);
    await this.shell(
      this.outside,
      `ip link set lo up; ip link set wan up; ip address add ${this.internet}/31 dev wan
       for address in ${this.lan} ${this.metadata.join(" ")}; do ip address add $address/32 dev lo; done`,
    );
  }

  /** A stand-in guest behind the sandbox's tap. Returns its namespace. */
  async guest(net: SandboxNet): Promise<string> {
    const name = `${this.prefix}-g${this.guests.length}`;
    await ip([`netns add ${name}`]);
    this.guests.push(name);
    await this.shell(net.netns, `ip link set guest0 netns ${name}`);
    await this.shell(
      name,
      `ip link set lo up; ip link set guest0 name eth0; ip link set eth0 address ${GUEST.mac} up
       ip address add ${GUEST.address}/${GUEST.prefix} dev eth0; ip route add default via ${GUEST.gateway}`,
    );
    return name;
  }

  shell = (netns: string, script: string): Promise<string> =>
    run(["nsenter", `--net=/run/netns/${netns}`, "sh", "-es"], script);

  /** Runs `code` (a module that may use `print`) with Bun inside a namespace; null is the host. Returns its output. */
  bun(netns: string | null, code: string): Promise<string> {
    return run([...enter(netns), process.execPath, "-e", PRELUDE + code]).then((out) => out.trim());
  }

  /** The same, left running; resolves when it has printed its first line. */
  serve = (netns: string | null, code: string): Promise<Bun.Subprocess> =>
    this.start(netns, [process.execPath, "-e", PRELUDE + code]);

  private async start(netns: string | null, argv: string[]): Promise<Bun.Subprocess> {
    const child = Bun.spawn([...enter(netns), ...argv], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "inherit",
    });
    this.children.push(child);
    const { done } = await child.stdout.getReader().read();
    if (done) throw new Error("the server in the test did not start");
    return child;
  }

  /** A TCP server that says `word` to everybody, with the address it sees. */
  say = (netns: string | null, port: number, word: string, address = "0.0.0.0"): Promise<Bun.Subprocess> =>
    this.start(netns, [this.tool, "serve", String(port), word, address]);

  /** What a TCP server at `host`:`port` says; "refused" or "silence" if nothing. */
  hear = (netns: string | null, host: string, port: number, waitMs = 1500): Promise<string> =>
    this.packet(netns, "tcp", host, String(port), String(waitMs));

  /** The same from the host, as a user who is not root. */
  hearAs = (uid: number, host: string, port: number): Promise<string> =>
    run([
      "setpriv",
      `--reuid=${uid}`,
      "--clear-groups",
      "timeout",
      "2",
      "bash",
      "-c",
      `exec 3<>/dev/tcp/${host}/${port}; cat <&3`,
    ]).catch((error) => (error.code === 124 ? "silence" : `failed: ${error.message}`));

  /** Runs test/packet in a namespace; its output without the last line end. */
  packet = async (netns: string | null, ...args: string[]): Promise<string> =>
    (await run([...enter(netns), this.tool, ...args])).trimEnd();

  /** What comes in at `iface` while `during` runs, and shortly after: a line for each kind of packet. */
  async sniff(netns: string, iface: string, during: () => Promise<unknown>): Promise<string> {
    const child = Bun.spawn([...enter(netns), this.tool, "sniff", iface, "900"], { stdout: "pipe" });
    let heard = "";
    for await (const chunk of child.stdout) {
      // Its first word is that it listens.
      if (heard === "") await during();
      heard += new TextDecoder().decode(chunk);
    }
    return heard;
  }

  /**
   * A chain of the host's tables (`netns` null) or of a namespace's, as something that refuses: without it means that its
   * first rule accepts.
   */
  without =
    (netns: string | null, family: "inet" | "bridge" | "arp", chain: string): Layer =>
    async () => {
      const table = `${family} ${netns === null ? `bhatti_${this.prefix}` : "bhatti"}`;
      const nft = (...args: string[]) => run([...enter(netns), "nft", ...args]);
      const echoed = await nft("-e", "-a", `insert rule ${table} ${chain} accept`);
      const handle = /handle (\d+)/.exec(echoed)?.[1];
      return () => nft(`delete rule ${table} ${chain} handle ${handle}`);
    };

  /** DNS through the guest's resolver address (or `server`). */
  lookup = (netns: string, method: string, name: string, server: string = GUEST.gateway): Promise<string> =>
    this.bun(
      netns,
      `const r = new (require("node:dns").promises.Resolver)({ timeout: 1500, tries: 2 }); r.setServers(["${server}"]);
       r.${method}("${name}").then((a) => print(a.join(",")), (e) => print(e.code)).finally(() => process.exit());`,
    );

  /** Whether one ICMP echo is answered. Throws when it could not even be tried. */
  async ping(netns: string, args: string): Promise<boolean> {
    const out = await this.shell(netns, `ping -n -c1 -W1 ${args} 2>&1 || true`);
    if (!out.includes("transmitted")) throw new Error(`ping ${args} did not run (package iputils-ping)`);
    return / 1 received/.test(out);
  }

  /** What is left of ours on the host: names, for comparisons with []. */
  async leftovers(): Promise<string[]> {
    const links = JSON.parse(await run(["ip", "-j", "link", "show"])) as { ifname: string }[];
    const spaces = await run(["ip", "netns", "list"]);
    const tables = await run(["nft", "list", "tables"]);
    return [
      ...links.map((l) => l.ifname),
      ...spaces.split("\n").map((l) => l.split(" ")[0] as string),
      ...tables.split("\n"),
    ].filter((name) => new RegExp(`^${this.prefix}[bv]?\\d|_${this.prefix}$`).test(name));
  }

  async dispose(): Promise<void> {
    for (const child of this.children) child.kill("SIGKILL");
    for (const network of this.networks) await network.stop().catch(() => {});
    await ipForce([
      ...this.guests.map((name) => `netns delete ${name}`),
      `link delete ${this.prefix}-o`,
      `netns delete ${this.outside}`,
      ...this.metadata.map(
        (address) => `rule delete to ${address} iif ${this.prefix}b1 lookup ${this.routes}`,
      ),
    ]);
    await this.networks[0]?.purge();
    this.claim.release();
  }
}

const PRELUDE = "const print = (line) => require('node:fs').writeSync(1, line + '\\n');\n";
const enter = (netns: string | null) => (netns ? ["nsenter", `--net=/run/netns/${netns}`] : []);
