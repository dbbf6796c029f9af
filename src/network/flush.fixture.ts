/**
 * What happens when somebody flushes the host's rules, in a network and mount namespace of its own, because it would open
 * everybody's sandboxes on this host. Run by host-tables.test.ts; prints what it saw as JSON.
 */
import { readFileSync } from "node:fs";
import pino from "pino";
import { run } from "./run.ts";
import { Lab } from "./test-lab.ts";

const lab = new Lab();
const logged: string[] = [];
const table = `bhatti_${lab.prefix}`;
const seen: Record<string, unknown> = {};

/** A TCP server that sends everything back. */
const echo = (netns: string | null, port: number) =>
  lab.serve(
    netns,
    `Bun.listen({ hostname: "0.0.0.0", port: ${port}, socket: { data(s, d) { s.write(d); } } }); print("up");`,
  );

/** A connection that asks and is answered all the time; `answers` counts. */
async function talk(netns: string, host: string, port: number) {
  let answers = 0;
  const child = Bun.spawn(
    [
      "nsenter",
      `--net=/run/netns/${netns}`,
      process.execPath,
      "-e",
      `const s = await Bun.connect({ hostname: "${host}", port: ${port}, socket: { data(_, d) { process.stdout.write("x".repeat(d.length)); } } });
       setInterval(() => s.write("x"), 30);`,
    ],
    { stdout: "pipe", stderr: "ignore" },
  );
  void (async () => {
    for await (const chunk of child.stdout) answers += chunk.length;
  })();
  return {
    /** Whether answers arrive within the next second. */
    async alive(): Promise<boolean> {
      const before = answers;
      const end = performance.now() + 1000;
      while (answers === before && performance.now() < end) await Bun.sleep(20);
      return answers > before;
    },
    end: () => child.kill("SIGKILL"),
  };
}

/** Milliseconds until both tables are there. */
async function back(): Promise<number> {
  const began = performance.now();
  for (;;) {
    const tables = await run(["nft", "list", "tables"]);
    if (tables.includes(`inet ${table}`) && tables.includes(`bridge ${table}`))
      return performance.now() - began;
    if (performance.now() - began > 5000) return Number.POSITIVE_INFINITY;
    await Bun.sleep(5);
  }
}

/** The process that watches the rules for us. */
async function monitor(): Promise<number> {
  const children = readFileSync(`/proc/self/task/${process.pid}/children`, "utf8")
    .trim()
    .split(" ")
    .map(Number);
  const found = children.find((pid) => readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("monitor"));
  return found as number;
}

try {
  await lab.buildInternet();
  const network = lab.network({
    log: pino({ level: "warn" }, { write: (line: string) => logged.push(line) }),
  });
  await network.start([]);
  const [alice, bob] = [network.plan(lab.alice), network.plan(lab.bob)] as const;
  await network.attach(lab.alice, alice);
  await network.attach(lab.bob, bob);
  const guest = await lab.guest(alice);
  await echo(await lab.guest(bob), 7000);
  await lab.say(lab.outside, 80, "internet");

  const toOwner = () => lab.hear(guest, bob.address, 7000, 600);
  seen.before = await toOwner();

  await run(["nft", "flush", "ruleset"]);
  seen.backMs = await back();
  seen.after = [await toOwner(), await lab.hear(guest, lab.internet, 80)];

  for (const [what, command] of [
    ["chainFlushed", `flush chain inet ${table} from_sandbox`],
    ["bridgeDeleted", `delete table bridge ${table}`],
  ] as const) {
    const whole = await run(["nft", "-t", "list", "ruleset"]);
    await run(["nft", command]);
    await Bun.sleep(500);
    const bare = (text: string) => text.replace(/packets \d+ bytes \d+/g, "");
    seen[what] = bare(await run(["nft", "-t", "list", "ruleset"])) === bare(whole);
  }

  // The twin: nobody watches, so the rules stay away, and what they refuse gets through.
  const watcher = await monitor();
  process.kill(watcher, "SIGSTOP");
  // As the reload of another firewall would, which goes on tracking connections.
  await run(
    ["nft", "-f", "-"],
    `flush ruleset; table inet other { chain f { type filter hook forward priority 0; ct state established accept; }; }`,
  );
  const stranger = await talk(guest, bob.address, 7000);
  seen.unwatched = await stranger.alive();
  process.kill(watcher, "SIGCONT");
  await back();
  await Bun.sleep(300);
  seen.watched = await stranger.alive();

  // A change that finds the tables gone brings them back itself.
  process.kill(watcher, "SIGSTOP");
  await run(["nft", "flush", "ruleset"]);
  const another = network.plan(lab.alice);
  await network.attach(lab.alice, another);
  seen.attached = [await toOwner(), await lab.hear(await lab.guest(another), lab.internet, 80)];
  process.kill(watcher, "SIGCONT");
  seen.warnings = logged.filter((line) => line.includes("removed firewall rules")).length;
  stranger.end();
} finally {
  await lab.dispose();
}
console.log(JSON.stringify(seen));
process.exit();
