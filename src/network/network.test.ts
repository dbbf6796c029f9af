/** What sandboxes reach, and the life of their networks: namespaces, bridges and rules of this kernel. Needs root. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { HostNetwork } from "./create.ts";
import { Names } from "./names.ts";
import type { Owner, SandboxNet } from "./network.ts";
import { run } from "./run.ts";
import { Lab } from "./test-lab.ts";

const TIMEOUT = 60_000;
const isRoot = process.getuid?.() === 0;

describe.skipIf(!isRoot)("two owners, three sandboxes", () => {
  const lab = new Lab();
  let network: HostNetwork;
  const nets: Record<string, SandboxNet> = {};
  const guests: Record<string, string> = {};
  const net = (name: string) => nets[name] as SandboxNet;
  const guest = (name: string) => guests[name] as string;

  beforeAll(async () => {
    await lab.buildInternet();
    network = lab.network({ poolSize: 1 });
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
      await lab.say(guest(name), 1024, `agent-${name}`);
    }
    await lab.say(lab.outside, 80, "internet");
    await lab.serve(
      lab.outside,
      `const reply = (q) => { // answers every A question with 192.0.2.55
         let end = 12; while (q[end]) end += q[end] + 1; end += 5;
         const a = Buffer.concat([q.subarray(0, end), Buffer.from("c00c0001000100000e100004c0000237", "hex")]);
         a[2] = 0x81; a[3] = 0x80; a.writeUInt16BE(1, 6); a.writeUInt16BE(0, 8); a.writeUInt16BE(0, 10); return a; };
       await Bun.udpSocket({ hostname: "0.0.0.0", port: 53, socket: { data(s, d, p, h) { s.send(reply(Buffer.from(d)), p, h); } } });
       print("up");`,
    );
  }, TIMEOUT);
  afterAll(() => lab.dispose(), TIMEOUT);

  const hear = lab.hear;
  test(
    "the host reaches the guest and its agent at the routable address",
    async () => {
      expect(await hear(null, net("a1").address, 80)).toBe(`a1 ${net("a1").gateway}`);
      expect(await hear(null, net("b1").address, 1024)).toBe(`agent-b1 ${net("b1").gateway}`);
    },
    TIMEOUT,
  );

  test(
    "siblings reach each other by address, by ping and by name",
    async () => {
      expect(await hear(guest("a1"), net("a2").address, 80)).toBe(`a2 ${net("a1").address}`);
      expect(await lab.ping(guest("a1"), net("a2").address)).toBe(true);
      expect(await lab.lookup(guest("a1"), "resolve4", "a2")).toBe(net("a2").address);
      expect(await lab.lookup(guest("a1"), "resolve4", "A2.internal")).toBe(net("a2").address);
      expect(await lab.lookup(guest("a1"), "reverse", net("a2").address)).toBe("a2.internal");
    },
    TIMEOUT,
  );

  test(
    "a sandbox reaches itself by its own address",
    async () => {
      expect(await hear(guest("a1"), net("a1").address, 80)).toBe("a1 169.254.77.1");
    },
    TIMEOUT,
  );

  test(
    "the internet is reached through the host, other names are forwarded",
    async () => {
      expect(await hear(guest("a1"), lab.internet, 80)).toBe(`internet ${lab.hostOut}`);
      expect(await lab.ping(guest("b1"), lab.internet)).toBe(true);
      expect(await lab.lookup(guest("a1"), "resolve4", "example.org")).toBe("192.0.2.55");
    },
    TIMEOUT,
  );

  test(
    "release leaves nothing, also of the owner's bridge",
    async () => {
      await network.settled();
      await network.release(lab.bob, net("b1"));
      await network.settled();
      expect(await lab.leftovers()).not.toContain(`${lab.prefix}b2`);
      await network.release(lab.bob, net("b1"));
      expect(network.plan(lab.bob).address).toBe(net("b1").address);
      await network.purge();
      expect(await lab.leftovers()).toEqual([]);
    },
    TIMEOUT,
  );
});

describe.skipIf(!isRoot)("life of networks", () => {
  const lab = new Lab();
  afterAll(() => lab.dispose(), TIMEOUT);

  test(
    "slot and address are held until the last word of who gives them back, and on when that fails",
    async () => {
      const network = lab.network({ poolSize: 0 });
      await network.start([]);
      const old = network.plan(lab.alice);
      const tryOnce = async (last: () => Promise<void>) => {
        let meanwhile: SandboxNet | undefined;
        const released = network.release(lab.alice, old, async () => {
          meanwhile = network.plan(lab.alice);
          await last();
        });
        await released.catch(() => {});
        await network.release(lab.alice, meanwhile!);
        return [meanwhile!.slot === old.slot, meanwhile!.address === old.address];
      };
      expect(await tryOnce(() => Promise.reject(new Error("files do not go")))).toEqual([false, false]);
      expect(await tryOnce(async () => {})).toEqual([false, false]);
      const next = network.plan(lab.alice);
      expect([next.slot, next.address]).toEqual([old.slot, old.address]);
      await network.release(lab.alice, next);
      await network.purge();
    },
    TIMEOUT,
  );

  test(
    "twenty at once, of two owners, all different, and gone again at once",
    async () => {
      const network = lab.network({ poolSize: 4 });
      await network.start([]);
      await network.settled();
      const owners = [lab.alice, lab.bob];
      const planned = Array.from({ length: 20 }, (_, i) => {
        const owner = owners[i % 2] as Owner;
        return { owner, net: network.plan(owner) };
      });
      expect(new Set(planned.map(({ net }) => net.address)).size).toBe(20);
      expect(new Set(planned.map(({ net }) => net.slot)).size).toBe(20);
      await Promise.all(planned.map(({ owner, net }) => network.attach(owner, net)));
      await Promise.all(planned.map(({ owner, net }) => network.attach(owner, net)));
      const [first, , third] = planned.map(({ net }) => net) as [SandboxNet, SandboxNet, SandboxNet];
      await lab.say(await lab.guest(third), 80, "third");
      expect(await lab.hear(await lab.guest(first), third.address, 80)).toBe(`third ${first.address}`);
      await Promise.all(planned.map(({ owner, net }) => network.release(owner, net)));
      await network.stop();
      expect((await lab.leftovers()).filter((name) => /b\d+$/.test(name))).toEqual([]);
      await network.purge();
      expect(await lab.leftovers()).toEqual([]);
    },
    TIMEOUT,
  );

  test(
    "the last release and the next attach of an owner may cross",
    async () => {
      const network = lab.network();
      await network.start([]);
      let current = network.plan(lab.alice);
      await network.attach(lab.alice, current);
      for (let i = 0; i < 5; i++) {
        const next = network.plan(lab.alice);
        await Promise.all([network.release(lab.alice, current), network.attach(lab.alice, next)]);
        current = next;
      }
      await lab.say(await lab.guest(current), 80, "still here");
      expect(await lab.hear(null, current.address, 80)).toStartWith("still here");
      await network.purge();
    },
    TIMEOUT,
  );

  test(
    "a new daemon keeps live sandboxes with their connections, rebuilds the others on demand, removes the rest",
    async () => {
      const before = lab.network({ poolSize: 2 });
      await before.start([]);
      const [live, cold, stray] = [lab.alice, lab.alice, lab.bob].map((owner) => before.plan(owner)) as [
        SandboxNet,
        SandboxNet,
        SandboxNet,
      ];
      await before.attach(lab.alice, live);
      await before.attach(lab.alice, cold);
      await before.attach(lab.bob, stray);
      const guest = await lab.guest(live);
      await lab.serve(
        guest,
        `Bun.listen({ hostname: "0.0.0.0", port: 80, socket: { data(s, d) { s.write(d); } } }); print("up");`,
      );
      const { promise: echoed, resolve } = Promise.withResolvers<string>();
      const connection = await Bun.connect({
        hostname: live.address,
        port: 80,
        socket: { data: (_s, d) => resolve(d.toString()) },
      });
      await before.stop();

      const after = lab.network();
      await after.start([
        { owner: lab.alice, net: live, name: "live", live: true },
        { owner: lab.alice, net: cold, name: "cold", live: false },
      ]);
      connection.write("echo");
      expect(await echoed).toBe("echo");
      connection.end();
      expect(await lab.lookup(guest, "resolve4", "cold")).toBe(cold.address);
      await after.settled();
      const left = await lab.leftovers();
      expect(left).toContain(live.netns);
      expect(left).not.toContain(stray.netns);
      expect(left).not.toContain(cold.netns);
      await after.attach(lab.alice, cold);
      await lab.say(await lab.guest(cold), 80, "cold");
      expect(await lab.hear(guest, cold.address, 80)).toBe(`cold ${live.address}`);
      expect(after.plan(lab.alice).address).not.toBe(cold.address);
      await after.purge();
      expect(await lab.leftovers()).toEqual([]);
    },
    TIMEOUT,
  );

  test(
    "a daemon killed at any moment leaves nothing that the next one does not clear",
    async () => {
      for (const delayMs of [5, 15, 30, 60, 90, 140, 200]) {
        const child = Bun.spawn(
          [process.execPath, `${import.meta.dir}/churn.fixture.ts`, lab.prefix, String(lab.base)],
          {
            stdout: "pipe",
          },
        );
        await child.stdout.getReader().read();
        await Bun.sleep(delayMs);
        child.kill("SIGKILL");
        await child.exited;
        const network = lab.network();
        await network.start([]);
        await network.settled();
        expect((await lab.leftovers()).filter((name) => !name.includes("table"))).toEqual([]);
        const net = network.plan(lab.alice);
        await network.attach(lab.alice, net);
        await network.release(lab.alice, net);
        await network.stop();
      }
      await lab.network().purge();
      expect(await lab.leftovers()).toEqual([]);
    },
    TIMEOUT,
  );

  test(
    "a start does not wait until what a crash left is gone, and thousands of rows cost it nothing",
    async () => {
      const before = lab.network();
      await before.start([]);
      const old = Array.from({ length: 24 }, () => before.plan(lab.alice));
      await Promise.all(old.map((net) => before.attach(lab.alice, net)));
      await before.stop();
      const after = lab.network();
      const names = new Names(lab.prefix, lab.base);
      const cold = old
        .slice(0, 12)
        .map((net) => ({ owner: lab.alice, net, name: `c${net.slot}`, live: false }));
      const rows = Array.from({ length: 3800 }, (_, i) => {
        const owner = { userId: String(i), subnetIndex: 10 + Math.floor(i / 200) };
        return { owner, net: names.net(owner, 101 + i, 2 + (i % 200)), name: `r${i}`, live: false };
      });
      const cpu = process.cpuUsage();
      await after.start([...cold, ...rows]);
      const used = process.cpuUsage(cpu);
      expect((used.user + used.system) / 1000).toBeLessThan(500);
      const held = old.at(-1) as SandboxNet;
      expect(await lab.leftovers()).toContain(held.netns);
      // Nobody gets what is being cleared, and who has a right to it does not wait for the rest.
      expect(after.plan(lab.bob).slot).toBe(25);
      await Promise.all(cold.map(({ owner, net }) => after.attach(owner, net)));
      await after.settled();
      for (const { net } of cold) {
        await lab.say(await lab.guest(net), 80, net.netns);
        expect(await lab.hear(null, net.address, 80)).toStartWith(`${net.netns} `);
      }
      const slot = new RegExp(`^${lab.prefix}\\d+$`);
      const spaces = (await lab.leftovers()).filter((name) => slot.test(name));
      expect(spaces.sort()).toEqual(cold.map(({ net }) => net.netns).sort());
      expect(after.plan(lab.bob).slot).toBe(13);
      await after.purge();
    },
    TIMEOUT,
  );

  test(
    "allowed private ranges are open, metadata is not even then",
    async () => {
      await lab.buildInternet();
      await lab.say(lab.outside, 80, "lan");
      const network = lab.network({ allowedPrivate: [`${lab.lan}/32`, "169.254.0.0/16"] });
      await network.start([]);
      const net = network.plan(lab.alice);
      await network.attach(lab.alice, net);
      const guest = await lab.guest(net);
      expect(await lab.hear(guest, lab.lan, 80)).toStartWith("lan");
      const metadata = () => lab.hear(guest, "169.254.169.254", 80, 700);
      const back: (() => Promise<unknown>)[] = [];
      for (const layer of [
        lab.without(net.netns, "inet", "forward"),
        lab.without(null, "inet", "from_sandbox"),
      ]) {
        expect(await metadata()).toBe("silence");
        back.push(await layer());
      }
      // The twin: it is there, and the host would bring the packet to it.
      expect(await metadata()).toStartWith("lan");
      for (const put of back) await put();
      await network.purge();
      expect(() => lab.network({ allowedPrivate: ["1.2.3.4/8 } drop"] })).toThrow("must be an IPv4 address");
    },
    TIMEOUT,
  );

  test(
    "a failed attach is rolled back",
    async () => {
      const network = lab.network();
      await network.start([]);
      const net = network.plan(lab.alice);
      // Not a bridge, so no port can be put on it.
      await run(["ip", "link", "add", `${lab.prefix}b1`, "type", "veth", "peer", "name", `${lab.prefix}-x`]);
      await expect(network.attach(lab.alice, net)).rejects.toThrow();
      await run(["ip", "link", "del", `${lab.prefix}b1`], "", { tolerant: true });
      expect((await lab.leftovers()).filter((name) => !name.includes("table"))).toEqual([]);
      await network.attach(lab.alice, net);
      await network.release(lab.alice, net);
      await network.purge();
      expect(await lab.leftovers()).toEqual([]);
    },
    TIMEOUT,
  );
});
