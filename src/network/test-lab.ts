/** For tests: a network with unusual names, stand-in guests behind a veth in place of the TAP, and an internet of its own. */
import pino from "pino";
import { claimBase } from "../../test/e2e/claim.ts";
import { buildPacket } from "../../test/packet/build.ts";
import { HostNetwork, type NetworkOptions } from "./create.ts";
import { GUEST, type Owner, type SandboxNet } from "./network.ts";
import { ip, ipForce, run } from "./run.ts";
import { Outside } from "./test-lab-outside.ts";
import { enter, type Layer, sniff, without } from "./test-lab-refusal.ts";

export class Lab {
  /** Everything follows from the base, which no other test process on this machine has. */
  private readonly claim = claimBase();
  readonly prefix = this.claim.prefix;
  readonly base = this.claim.base;
  private readonly world = new Outside(this.prefix, this.base, [`${this.prefix}b1`]);
  readonly hostOut = this.world.hostOut;
  readonly internet = this.world.internet;
  readonly lan = this.world.lan;
  readonly metadata = this.world.metadata;
  readonly outside = this.world.netns;
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

  buildInternet = (): Promise<void> => this.world.build();

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

  sniff = (netns: string, iface: string, during: () => Promise<unknown>): Promise<string> =>
    sniff(netns, iface, during);

  without = (netns: string | null, family: "inet" | "bridge", chain: string): Layer =>
    without(this.prefix, netns, family, chain);

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
    await ipForce(this.guests.map((name) => `netns delete ${name}`));
    await this.world.remove();
    await this.networks[0]?.purge();
    this.claim.release();
  }
}

const PRELUDE = "const print = (line) => require('node:fs').writeSync(1, line + '\\n');\n";
