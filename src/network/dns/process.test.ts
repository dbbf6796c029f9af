/** The resolver as a process: real sockets on a loopback address of the test's own. Root is needed to change the user. */
import { afterAll, describe, expect, test } from "bun:test";
import { randomInt } from "node:crypto";
import { promises } from "node:dns";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import pino from "pino";
import { DNS_PORT } from "../host-rules.ts";
import { Dns } from "./dns.ts";

const isRoot = process.getuid?.() === 0;
const UID = 200_000 + randomInt(1000) * 5000;
const subnet = (index: number) => `127.${100 + (process.pid % 100)}.${index}`;
const logged: string[] = [];
const log = pino({ level: "warn" }, { write: (line: string) => logged.push(line) });
const started: Dns[] = [];
afterAll(() => Promise.all(started.map((dns) => dns.stop())));

function dns(): Dns {
  const made = new Dns(["127.0.0.1:1"], UID, subnet, log);
  started.push(made);
  made.start();
  return made;
}

async function lookup(index: number, name: string): Promise<string> {
  const resolver = new promises.Resolver({ timeout: 500, tries: 1 });
  resolver.setServers([`${subnet(index)}.1:${DNS_PORT}`]);
  return resolver.resolve4(name).then(
    (found) => found.join(","),
    (error) => error.code,
  );
}

/** Waits until `name` is `address` there. */
async function until(index: number, name: string, address: string): Promise<void> {
  const end = performance.now() + 10_000;
  while ((await lookup(index, name)) !== address) {
    if (performance.now() > end) throw new Error(`${name} is not ${address} yet`);
    await Bun.sleep(50);
  }
}

describe.skipIf(!isRoot)("the resolver's process", () => {
  test("it is not the daemon, has no privileges and can get none", async () => {
    const one = dns();
    await one.listen(1, `${subnet(1)}.1`);
    const pid = one.pid as number;
    expect(pid).not.toBe(process.pid);
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    const field = (name: string) => new RegExp(`^${name}:[ \\t]*(.*)$`, "m").exec(status)?.[1]?.trim();
    expect(field("Uid")).toBe([UID, UID, UID, UID].join("\t"));
    expect(field("Gid")).toBe([UID, UID, UID, UID].join("\t"));
    expect(field("Groups")).toBe("");
    expect([field("CapPrm"), field("CapEff"), field("NoNewPrivs")]).toEqual([
      "0".repeat(16),
      "0".repeat(16),
      "1",
    ]);
    expect(readFileSync(`/proc/${pid}/environ`, "utf8")).not.toContain("HOME=");
  });

  test("killed, it is back with every name, also those of meanwhile; the log says it once", async () => {
    const one = dns();
    for (const index of [2, 3]) {
      one.setName(index, "before", `${subnet(index)}.7`);
      await one.listen(index, `${subnet(index)}.1`);
    }
    one.setName(2, "later", `${subnet(2)}.8`);
    await until(2, "later", `${subnet(2)}.8`);
    logged.length = 0;
    process.kill(one.pid as number, "SIGKILL");
    one.setName(2, "meanwhile", `${subnet(2)}.9`);
    one.removeName(2, `${subnet(2)}.8`);
    await until(2, "meanwhile", `${subnet(2)}.9`);
    await until(3, "before", `${subnet(3)}.7`);
    expect(await lookup(2, "later.internal")).toBe("ENOTFOUND");
    expect(logged.filter((line) => line.includes("resolver ended")).length).toBe(1);
  }, 30_000);

  test("one that is stuck is replaced", async () => {
    const one = dns();
    await one.listen(4, `${subnet(4)}.1`);
    process.kill(one.pid as number, "SIGSTOP");
    await expect(one.listen(5, `${subnet(5)}.1`)).rejects.toThrow("cannot listen");
    one.setName(4, "web", `${subnet(4)}.7`);
    await until(4, "web", `${subnet(4)}.7`);
  }, 30_000);

  test("what it cannot bind is an error with the remedy, and costs nobody else anything", async () => {
    const one = dns();
    await one.listen(6, `${subnet(6)}.1`);
    await expect(one.listen(7, "192.0.2.1")).rejects.toThrow("cannot listen on 192.0.2.1:10053");
    one.setName(6, "web", `${subnet(6)}.7`);
    await until(6, "web", `${subnet(6)}.7`);
  }, 30_000);

  test("a stopped responder frees its port at once", async () => {
    const one = dns();
    const two = dns();
    for (let i = 0; i < 5; i++) {
      const responder = await (i % 2 ? one : two).listen(8, `${subnet(8)}.1`);
      responder.stop();
    }
  }, 30_000);

  // A small program with the daemon's side in it; its other side is reached as in the product, by the word in main.ts.
  const PROGRAM = `
    import pino from "pino";
    import { Dns } from "${import.meta.dir}/dns.ts";
    if (process.argv[2] === "dns-resolver") await import("${import.meta.dir}/../../main.ts");
    else {
      const dns = new Dns(["127.0.0.1:1"], ${UID}, () => "${subnet(9)}", pino({ level: "warn" }));
      dns.setName(9, "web", "${subnet(9)}.7");
      await dns.listen(9, "${subnet(9)}.1");
      console.log(dns.pid);
      setInterval(() => {}, 1000);
    }`;

  test.each(["from its source", "compiled"])(
    "%s: it answers, and ends with a daemon that is killed",
    async (kind) => {
      const dir = mkdtempSync(`${tmpdir()}/bhatti-dns-`);
      try {
        // Beside the sources, so that the packages are found.
        await Bun.write(
          `${dir}/program.ts`,
          PROGRAM.replace('from "pino"', `from "${Bun.resolveSync("pino", import.meta.dir)}"`),
        );
        let command = [process.execPath, `${dir}/program.ts`];
        if (kind === "compiled") {
          const built = await Bun.build({
            entrypoints: [`${dir}/program.ts`],
            bytecode: true,
            splitting: true,
            format: "esm",
            compile: { outfile: `${dir}/program` },
          });
          expect(built.logs).toEqual([]);
          command = [`${dir}/program`];
        }
        const daemon = Bun.spawn(command, { stdout: "pipe", stderr: "inherit", cwd: dir });
        const { value } = await daemon.stdout.getReader().read();
        const pid = Number(new TextDecoder().decode(value));
        expect(readFileSync(`/proc/${pid}/cmdline`, "utf8")).toContain(
          kind === "compiled" ? "program\0dns-resolver" : "dns/process.ts",
        );
        await until(9, "web", `${subnet(9)}.7`);
        daemon.kill("SIGKILL");
        const end = performance.now() + 5000;
        while ((await Bun.file(`/proc/${pid}/stat`).exists()) && performance.now() < end) await Bun.sleep(20);
        expect(await Bun.file(`/proc/${pid}/stat`).exists()).toBe(false);
      } finally {
        rmSync(dir, { recursive: true });
      }
    },
    60_000,
  );
});
