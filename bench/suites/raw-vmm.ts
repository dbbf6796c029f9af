/** The floor: the VMM by itself, with the same kernel, memory and disk, without jail, daemon, database or network set-up. */
import { chownSync, mkdirSync, rmSync } from "node:fs";
import { loharPath } from "../../src/daemon/programs.ts";
import { createEngine } from "../../src/engine/choose.ts";
import { drivesOf, type Vm } from "../../src/engine/engine.ts";
import { createGuestClient } from "../../src/guest/client.ts";
import { createImages } from "../../src/images/images.ts";
import { createKernels } from "../../src/kernel/kernels.ts";
import { createLog } from "../../src/lib/log.ts";
import { HostNetwork } from "../../src/network/create.ts";
import { GUEST } from "../../src/network/network.ts";
import { createStorage } from "../../src/storage/create.ts";
import { claimBase } from "../../test/e2e/claim.ts";
import { engineWanted } from "../../test/e2e/harness.ts";
import { ms, type Suite } from "../stage.ts";

const TOKEN = "f".repeat(64);

export const rawVmm: Suite = {
  name: "raw",
  async run({ table, installation }) {
    const { boot, restore, firstExec, hot, woken } = await measure(installation.dataDir, 512);
    table.add("floor: raw VMM boot to agent", boot);
    table.add("floor: raw VMM restore to vCPUs running", restore);
    table.add("floor: raw VMM restore to first exec", firstExec);
    table.add("floor: raw guest call, stat", hot);
    table.add("floor: raw VMM resume and guest call, stat", woken);
  },
};

/**
 * ms. Boot: process to agent's answer. Restore: process to vCPUs running, and to the result of a first exec; everything is
 * prepared before the clock starts. Hot and woken: a guest call on a running VM, and resume and call after a second's pause.
 */
async function measure(dataDir: string, memoryMib: number) {
  const claim = claimBase();
  const { engine } = await createEngine({
    engine: engineWanted(),
    dataDir,
    lohar: await loharPath(dataDir),
    kernel: createKernels(dataDir).current(),
  });
  const network = new HostNetwork({
    prefix: claim.prefix,
    base: claim.base,
    poolSize: 0,
    dnsUpstreams: [],
    allowedPrivate: [],
    log: createLog("error"),
  });
  await network.start([]);
  const owner = { userId: "raw", subnetIndex: 1 };
  const net = network.plan(owner);
  await network.attach(owner, net);
  const storage = await createStorage(dataDir);
  const image = await createImages(dataDir).resolve("minimal");
  const dir = `${dataDir}/raw`;
  const kernel = createKernels(dataDir).current();
  const spec = {
    id: "raw",
    dir,
    uid: net.uid,
    netns: net.netns,
    tap: GUEST.tap,
    mac: GUEST.mac,
    shape: { vcpus: 1, memoryMib },
    drives: drivesOf(`${dir}/disk`, kernel.modules),
    memoryPath: `${dir}/mem`,
    kernel,
  };
  let vm: Vm | null = null;
  const result = {
    boot: [] as number[],
    restore: [] as number[],
    firstExec: [] as number[],
    hot: [] as number[],
    woken: [] as number[],
  };
  try {
    for (let i = 0; i < 8; i++) {
      rmSync(dir, { recursive: true, force: true });
      mkdirSync(dir, { recursive: true, mode: 0o700 });
      await storage.clone(image.path, `${dir}/disk`);
      chownSync(`${dir}/disk`, net.uid, net.uid);
      const began = performance.now();
      vm = await engine.boot(spec);
      const guest = createGuestClient({ host: net.address, port: GUEST.agentPort, token: "" });
      await guest.ready(60_000);
      result.boot.push(performance.now() - began);
      guest.disconnect();
      if (i === 7) {
        const configuring = createGuestClient({ host: net.address, port: GUEST.agentPort, token: "" });
        await configuring.configure({
          kind: "boot",
          generation: 1,
          token: TOKEN,
          hostname: "raw",
          resolver: [],
          search: [],
          growRoot: false,
        });
        configuring.disconnect();
        await vm.pause();
        await vm.saveState(`${dir}/state`);
        await storage.clone(spec.memoryPath, `${dir}/mem.saved`);
      }
      await vm.kill();
    }
    for (let i = 0; i < 30; i++) {
      rmSync(spec.memoryPath, { force: true });
      await storage.clone(`${dir}/mem.saved`, spec.memoryPath);
      chownSync(spec.memoryPath, net.uid, net.uid);
      const began = performance.now();
      vm = await engine.restore(spec, `${dir}/state`);
      await vm.resume();
      result.restore.push(performance.now() - began);
      const guest = createGuestClient({ host: net.address, port: GUEST.agentPort, token: TOKEN });
      const { exitCode } = await guest.exec({ argv: ["true"] }, { stdout() {}, stderr() {} });
      if (exitCode !== 0) throw new Error(`exec of true: ${exitCode}`);
      result.firstExec.push(performance.now() - began);
      for (let k = 0; k < 10 && i === 29; k++) {
        const stat = () => guest.stat("/etc/hostname");
        await vm.pause();
        await Bun.sleep(1000);
        result.woken.push(
          await ms(async () => {
            await vm!.resume();
            await stat();
          }),
        );
        await stat();
        result.hot.push(await ms(stat));
      }
      guest.disconnect();
      await vm.kill();
    }
    return result;
  } finally {
    await vm?.kill();
    await network.purge();
    claim.release();
    rmSync(dir, { recursive: true, force: true });
  }
}
