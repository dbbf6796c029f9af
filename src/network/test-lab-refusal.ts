/** For tests: refusals and their twins. A refusal proves something only if the same packet arrives without it. */
import { expect } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { buildPacket } from "../../test/packet/build.ts";
import { run } from "./run.ts";

/** Something that refuses, and can be taken away: returns what puts it back. */
export type Layer = () => Promise<() => Promise<unknown>>;

export const enter = (netns: string | null): string[] =>
  netns ? ["nsenter", `--net=/run/netns/${netns}`] : [];

/**
 * A chain of the host's tables (`netns` null) or of a namespace's, as something that refuses: without it means that its first
 * rule accepts.
 */
export const without =
  (prefix: string, netns: string | null, family: "inet" | "bridge", chain: string): Layer =>
  async () => {
    const table = `${family} ${netns === null ? `bhatti_${prefix}` : "bhatti"}`;
    const nft = (...args: string[]) => run([...enter(netns), "nft", ...args]);
    const echoed = await nft("-e", "-a", `insert rule ${table} ${chain} accept`);
    const handle = /handle (\d+)/.exec(echoed)?.[1];
    return () => nft(`delete rule ${table} ${chain} handle ${handle}`);
  };

/** The host's IP rules, which bridged packets pass as well where br_netfilter is loaded. */
export function bridged(prefix: string, chain: string): Layer[] {
  const file = "/proc/sys/net/bridge/bridge-nf-call-iptables";
  return existsSync(file) && readFileSync(file, "utf8").trim() === "1"
    ? [without(prefix, null, "inet", chain)]
    : [];
}

/** A sysctl of a namespace, as something that refuses. */
export const sysctl =
  (netns: string, path: string, open: string): Layer =>
  async () => {
    const set = (value: string) =>
      run([...enter(netns), "sh", "-c", `cat /proc/sys/${path}; echo ${value} >/proc/sys/${path}`]);
    const before = (await set(open)).trim();
    return () => set(before);
  };

/** `what` is silence as long as one of `layers` is there, and begins with `through` when none is. */
export async function refused(
  what: () => Promise<string>,
  through: string,
  ...layers: Layer[]
): Promise<void> {
  const probe = async (away: Layer[], expected: string) => {
    const back: (() => Promise<unknown>)[] = [];
    for (const layer of away) back.push(await layer());
    let heard = await what();
    // What gets through may take a few attempts on a busy machine: neighbours must be found first. Silence is asked once.
    for (let i = 0; i < 4 && expected === through && !heard.startsWith(through); i++) heard = await what();
    for (const put of back) await put();
    expect(heard).toStartWith(expected);
  };
  await probe([], "silence");
  if (layers.length > 1)
    for (const one of layers)
      await probe(
        layers.filter((layer) => layer !== one),
        "silence",
      );
  await probe(layers, through);
  await probe([], "silence");
}

/** What comes in at `iface` while `during` runs, and for a second after: a line for each kind of packet. */
export async function sniff(netns: string, iface: string, during: () => Promise<unknown>): Promise<string> {
  const child = Bun.spawn([...enter(netns), buildPacket(), "sniff", iface, "300000"], { stdout: "pipe" });
  let heard = "";
  const decoder = new TextDecoder();
  const { promise: ready, resolve } = Promise.withResolvers<void>();
  const reading = (async () => {
    for await (const chunk of child.stdout) {
      heard += decoder.decode(chunk, { stream: true });
      // Its first word is that it listens.
      resolve();
    }
    resolve();
  })();
  await ready;
  try {
    await during();
    await Bun.sleep(1000);
  } finally {
    child.kill("SIGKILL");
    await reading;
  }
  return heard;
}
