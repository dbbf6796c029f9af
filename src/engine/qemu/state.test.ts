/** A VMM that sends its state: well, or so that the daemon would wait for ever. */
import { afterAll, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import type { Qmp } from "./qmp.ts";
import { saveState } from "./state.ts";

const dir = mkdtempSync("/tmp/bhatti-state-");
mkdirSync(`${dir}/out`);
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const me = { pid: process.pid, uid: process.getuid!() };

function vmm(closes: boolean): Qmp {
  const call = async (execute: string) => {
    if (execute !== "migrate") return {};
    const socket = await Bun.connect({ unix: `${dir}/out/sock`, socket: { data() {} } });
    socket.write("state");
    if (closes) socket.end();
  };
  return { call, query: async () => ({ status: "completed" }) } as unknown as Qmp;
}

test("the state is written; a connection that is held open ends with an error and leaves no file", async () => {
  await saveState(vmm(true), dir, me, `${dir}/good`);
  expect(readFileSync(`${dir}/good`, "utf8")).toBe("state");
  await expect(saveState(vmm(false), dir, me, `${dir}/held`)).rejects.toThrow("does not close");
  expect([existsSync(`${dir}/held`), existsSync(`${dir}/out/sock`)]).toEqual([false, false]);
}, 20_000);
