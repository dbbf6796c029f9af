import { afterAll, expect, test } from "bun:test";
import { existsSync, readFileSync, readlinkSync } from "node:fs";
import { Lab } from "./test-lab.ts";

const lab = new Lab();
afterAll(() => lab.dispose(), 60_000);

const table = "/proc/net/nf_conntrack";
const runnable = process.getuid?.() === 0 && existsSync(table);

test.skipIf(!runnable)(
  "flush forgets the connections of one sandbox, inside and on the host, and no others; a release does too",
  async () => {
    await lab.buildInternet();
    await lab.say(lab.outside, 80, "internet");
    const network = lab.network();
    await network.start([]);
    const [one, two] = [network.plan(lab.alice), network.plan(lab.alice)] as const;
    for (const net of [one, two]) {
      await network.attach(lab.alice, net);
      expect(await lab.hear(await lab.guest(net), lab.internet, 80)).toStartWith("internet");
    }
    const home = readlinkSync("/proc/thread-self/ns/net");
    const onHost = (address: string) => readFileSync(table, "utf8").includes(`src=${address} `);
    expect([onHost(one.address), onHost(two.address)]).toEqual([true, true]);
    const began = performance.now();
    await network.flush(one);
    if (process.env.TEST_LOG) console.log(`flush took ${(performance.now() - began).toFixed(2)} ms`);
    expect([onHost(one.address), onHost(two.address)]).toEqual([false, true]);
    expect(await lab.shell(one.netns, "cat /proc/net/nf_conntrack")).not.toContain(lab.internet);
    expect(await lab.shell(two.netns, "cat /proc/net/nf_conntrack")).toContain(lab.internet);
    // Nor does the next sandbox with an address hear from those with whom the last one spoke.
    await network.release(lab.alice, two);
    expect(onHost(two.address)).toBe(false);
    expect(network.plan(lab.alice).address).toBe(two.address);
    // The daemon is still at home.
    expect(readlinkSync("/proc/thread-self/ns/net")).toBe(home);
    await network.purge();
  },
  60_000,
);
