/** 300 random cycles of pause, wake, stop and start under load: nothing is lost, nothing goes backwards. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import type { Api } from "./api.ts";
import { Installation } from "./harness.ts";

const CYCLES = Number(process.env.BHATTI_TEST_CYCLES ?? 300);
let installation: Installation;
let api: Api;

beforeAll(async () => {
  installation = await Installation.create();
  api = installation.api;
}, 300_000);
afterAll(async () => {
  await installation?.remove();
}, 120_000);

/** Holds 16 MiB of known bytes and checks them again and again; counts; says so in files. */
const CANARY = `perl -e '$m=join("",map{chr(($_*7)&255)}0..65535) x 256; $want=unpack("%32C*",$m); $i=0; while(1){ $i++; die "canary" if unpack("%32C*",$m)!=$want; open F,">/tmp/c.new"; print F $i; close F; rename "/tmp/c.new","/tmp/counter"; select undef,undef,undef,0.05 }'`;

test(`${CYCLES} cycles`, async () => {
  const names = ["c1", "c2"];
  for (const name of names) {
    await api.create({ name, warm_after_s: 1, cold_after_s: 2 });
    await api.exec(name, [
      "sh",
      "-c",
      "head -c 3000000 /dev/urandom >/workspace/data; sha256sum /workspace/data >/workspace/sum; sync",
    ]);
    await api.exec(name, ["sh", "-c", CANARY], { detach: true });
  }
  const last: Record<string, number> = { c1: 0, c2: 0 };
  // A detached job keeps a sandbox hot: cycles are driven from outside, by stop and start, and by the idle pause in between.
  const seed = { x: 12345 };
  const random = () => {
    seed.x = (seed.x * 1103515245 + 12345) & 0x7fffffff;
    return seed.x / 0x7fffffff;
  };
  const check = async (name: string) => {
    const asked = Date.now();
    const out = await api.sh(
      name,
      "for i in $(seq 300); do [ -s /tmp/counter ] && break; sleep 0.1; done; cat /tmp/counter; echo; pgrep -c perl; date +%s%3N; sha256sum -c /workspace/sum 2>&1 | tail -1",
    );
    const [counter, canaries, clock, sum] = out.split("\n");
    expect(Number(counter)).toBeGreaterThanOrEqual(last[name]!);
    last[name] = Number(counter);
    expect(Number(canaries)).toBe(1);
    expect(Number(clock)).toBeGreaterThan(asked - 1000);
    expect(Number(clock)).toBeLessThan(Date.now() + 1000);
    expect(sum).toBe("/workspace/data: OK");
  };
  for (let i = 0; i < CYCLES; i += 2) {
    await Promise.all(
      names.map(async (name) => {
        const roll = random();
        if (roll < 0.6) await api.stop(name, roll < 0.1 ? { sync: true } : {});
        if (roll < 0.3) await api.start(name);
        if (roll > 0.8)
          await Promise.all([
            api.call("POST", `/sandboxes/${name}/stop`),
            api.call("POST", `/sandboxes/${name}/start`),
          ]);
        if (i % 10 === 0) await check(name);
        else await api.exec(name, ["true"]);
      }),
    );
  }
  for (const name of names) {
    await check(name);
    expect(await api.sh(name, "getent hosts c1.internal | awk '{print $1}'")).toMatch(/^10\./);
    expect(
      await api.sh(name, "curl -s -m 20 -o /dev/null -w '%{http_code}' http://deb.debian.org/debian/"),
    ).toBe("200");
  }
  const events = await api.ok<{ type: string }[]>("GET", "/events?limit=10000");
  expect(events.filter((e) => e.type === "sandbox.stopped").length).toBeGreaterThan(CYCLES / 3);
  expect(events.some((e) => /crash|lost|failed/.test(e.type))).toBe(false);
}, 400_000);

test("idle pauses and wakes, many times over", async () => {
  await api.create({ name: "idle", warm_after_s: 1 });
  await api.sh("idle", "echo 1 >/tmp/n");
  for (let i = 1; i <= 15; i++) {
    await api.until("idle", (s) => s.thermal === "warm", 20_000);
    expect(await api.sh("idle", "n=$(cat /tmp/n); echo $((n+1)) >/tmp/n; echo $n")).toBe(String(i));
  }
}, 120_000);
