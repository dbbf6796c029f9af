/** One sandbox that asks as fast as it can: what it costs the daemon, the resolver, and the others. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import type { HostNetwork } from "../create.ts";
import type { SandboxNet } from "../network.ts";
import { run } from "../run.ts";
import { Lab } from "../test-lab.ts";

const FLOOD_MS = 3000;
/** Clock ticks of /proc/<pid>/stat, ms. */
const TICK_MS = 10;

describe.skipIf(process.getuid?.() !== 0)("a flood of DNS questions", () => {
  const lab = new Lab();
  let network: HostNetwork;
  let alice: SandboxNet;
  const guests: Record<string, string> = {};

  beforeAll(async () => {
    network = lab.network();
    await network.start([]);
    for (const [name, owner] of [
      ["flooder", lab.alice],
      ["sibling", lab.alice],
      ["stranger", lab.bob],
    ] as const) {
      const net = network.plan(owner);
      await network.attach(owner, net);
      network.setName(owner, net, name);
      if (name === "flooder") alice = net;
      guests[name] = await lab.guest(net);
    }
  }, 60_000);
  afterAll(() => lab.dispose(), 60_000);

  /** Asks for `flooder.internal` at `server` as fast as it can; how many were sent and answered. */
  async function flood(server: string, port: number): Promise<{ sent: number; answered: number }> {
    const out = await lab.bun(
      guests.flooder as string,
      `let sent = 0, answered = 0;
       const s = await Bun.udpSocket({ connect: { hostname: "${server}", port: ${port} }, socket: { data() { answered++; } } });
       const q = Buffer.from("00010100000100000000000007666c6f6f64657208696e7465726e616c0000010001", "hex");
       const end = performance.now() + ${FLOOD_MS};
       while (performance.now() < end) { for (let i = 0; i < 200; i++) if (s.send(q)) sent++; await new Promise(setImmediate); }
       await Bun.sleep(200); print(JSON.stringify({ sent, answered })); process.exit();`,
    );
    return JSON.parse(out);
  }

  /** CPU time of the resolver so far: the only process of its user. */
  function resolverMs(): number {
    const uid = 200_000 + lab.base * 5000;
    for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
      try {
        if (!readFileSync(`/proc/${pid}/status`, "utf8").includes(`Uid:\t${uid}\t`)) continue;
        const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") as string[];
        return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
      } catch {
        // Ended meanwhile.
      }
    }
    throw new Error("there is no resolver");
  }

  test("is limited, and the others go on", async () => {
    const before = resolverMs();
    const flooding = flood("169.254.77.1", 53);
    const heard: string[] = [];
    const end = performance.now() + FLOOD_MS;
    while (performance.now() < end) {
      heard.push(await lab.lookup(guests.stranger as string, "resolve4", "stranger.internal"));
      heard.push(await lab.lookup(guests.sibling as string, "resolve4", "flooder"));
    }
    const { sent, answered } = await flooding;
    const usedMs = resolverMs() - before;
    if (process.env.TEST_LOG) console.log({ sent, answered, usedMs, heard: heard.length });
    expect(sent).toBeGreaterThan(10_000);
    expect(answered).toBeGreaterThan(100);
    // 600 at once, then 300 a second.
    expect(answered).toBeLessThan(600 + 300 * (FLOOD_MS / 1000 + 1));
    expect(heard.every((word) => word.startsWith("10."))).toBe(true);
    expect(usedMs).toBeLessThan(FLOOD_MS * 0.3);
  }, 60_000);

  test("is limited at every address and port where the responder can be reached", async () => {
    for (const [server, port] of [
      [alice.gateway, 53],
      [alice.gateway, 10053],
    ] as const) {
      const { sent, answered } = await flood(server, port);
      expect(sent).toBeGreaterThan(10_000);
      expect(answered).toBeLessThan(600 + 300 * (FLOOD_MS / 1000 + 1));
    }
  }, 60_000);

  test("the twin: without the limit many more are answered, and even that costs the daemon's thread nothing", async () => {
    await run(["nft", `insert rule inet bhatti_${lab.prefix} dns accept`]);
    const before = [process.cpuUsage(), resolverMs()] as const;
    const { answered } = await flood("169.254.77.1", 53);
    const used = process.cpuUsage(before[0]);
    const usedMs = Math.round((used.user + used.system) / 1000);
    const theirs = resolverMs() - before[1];
    if (process.env.TEST_LOG) console.log({ answered, usedMs, theirs });
    expect(answered).toBeGreaterThan(3000);
    // Who answers pays: what this process uses is its own housekeeping.
    expect(usedMs).toBeLessThan(theirs / 3);
  }, 60_000);
});
