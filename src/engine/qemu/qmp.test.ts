import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { EngineError, isVmmSilent } from "../engine.ts";
import { Qmp, type QmpEvent } from "./qmp.ts";

/** A VMM that greets, tells of an event, and answers every command but `stop` and those after it. */
async function withVmm(work: (qmp: Qmp) => Promise<void>): Promise<void> {
  const dir = mkdtempSync("/tmp/bhatti-qmp-");
  let silent = false;
  const server = Bun.listen({
    unix: `${dir}/sock`,
    socket: {
      open: (socket) => void socket.write('{"QMP":{}}\n{"event":"SHUTDOWN","data":{"guest":true}}\n'),
      data(socket, bytes) {
        for (const line of bytes.toString().trim().split("\n")) {
          const { id, execute } = JSON.parse(line);
          silent ||= execute === "stop";
          if (execute === "cont") socket.write(`{"id":${id},"error":{"desc":"no"}}\n`);
          else if (!silent) socket.write(`{"id":${id},"return":{}}\n{"event":"RESUME"}\n`);
        }
      },
    },
  });
  const qmp = await Qmp.connect(
    `${dir}/sock`,
    { pid: process.pid, uid: process.getuid!() },
    2000,
    () => true,
  );
  try {
    await work(qmp);
  } finally {
    qmp.close();
    server.stop(true);
    rmSync(dir, { recursive: true, force: true });
  }
}

test("no answer in time is an error of its own; a refusal and a VMM that is gone are others", async () => {
  await withVmm(async (qmp) => {
    await qmp.call("query-status");
    const refused = await qmp.call("cont").catch((e) => e);
    expect(refused).toBeInstanceOf(EngineError);
    expect(isVmmSilent(refused)).toBe(false);
    const began = performance.now();
    expect(isVmmSilent(await qmp.call("stop", {}, 100).catch((e) => e))).toBe(true);
    expect(performance.now() - began).toBeLessThan(1000);
    const waiting = qmp.call("query-status", {}, 60_000).catch((e) => e);
    qmp.close();
    expect(isVmmSilent(await waiting)).toBe(false);
  });
});

test("events are heard, also those that came before the listener", async () => {
  await withVmm(async (qmp) => {
    const events: QmpEvent[] = [];
    qmp.onEvent((event) => events.push(event));
    await qmp.call("query-status");
    await Bun.sleep(20);
    expect(events.map(({ event }) => event)).toEqual(["SHUTDOWN", "RESUME", "RESUME"]);
    expect(events[0]!.data).toEqual({ guest: true });
  });
});

test("a channel that we close was not closed by the VMM, which would be killed for it", async () => {
  await withVmm(async (qmp) => {
    qmp.close();
    expect(await qmp.closed).toBe(false);
  });
});
