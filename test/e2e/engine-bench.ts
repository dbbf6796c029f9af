/** A place for VMs without a daemon: an engine, its network, copies of the minimal image. */
import { chownSync, mkdirSync, rmSync } from "node:fs";
import { loharPath } from "../../src/daemon/programs.ts";
import { chooseEngine } from "../../src/engine/choose.ts";
import type { Bench } from "../../src/engine/contract.ts";
import { drivesOf, type Engine, type VmSpec } from "../../src/engine/engine.ts";
import { FirecrackerEngine } from "../../src/engine/firecracker/firecracker.ts";
import { QemuEngine } from "../../src/engine/qemu/qemu.ts";
import { createGuestClient } from "../../src/guest/client.ts";
import { createImages } from "../../src/images/images.ts";
import { createKernels } from "../../src/kernel/kernels.ts";
import { hex, newId } from "../../src/lib/ids.ts";
import { createLog } from "../../src/lib/log.ts";
import { HostNetwork } from "../../src/network/create.ts";
import { GUEST, type SandboxNet } from "../../src/network/network.ts";
import { createStorage } from "../../src/storage/create.ts";
import { claimBase } from "./claim.ts";
import { BASE, prepareBase } from "./harness.ts";

/** Directory of Firecracker and its jailer for tests; "" where there is none. */
export const FIRECRACKER = process.env.BHATTI_FIRECRACKER_DIR ?? "";

const ENGINES = {
  qemu: {
    make: (lohar: string, accel: "kvm" | "tcg"): Engine => QemuEngine.create({ lohar, accel }),
    jail: { filters: 2, root: /^\S+ \S+ \S+ \/ \/ ro,nosuid,noexec/m },
    tellsPowerOff: true,
  },
  firecracker: {
    make: (lohar: string): Engine => FirecrackerEngine.create({ lohar, dir: FIRECRACKER }),
    jail: { filters: 1, root: /^\S+ \S+ \S+ \/firecracker\/\S+\/root \/ rw,nosuid\b.* - tmpfs /m },
    tellsPowerOff: false,
  },
};

/** `close` takes the network and all files away. Whoever calls it first prepares the test file system (minutes). */
export async function createBench(
  name: keyof typeof ENGINES = "qemu",
): Promise<{ bench: Bench; close(): Promise<void> }> {
  const dataDir = `${BASE}/mnt/base`;
  const root = `${BASE}/mnt/engine-${hex(3)}`;
  const owner = { userId: "contract", subnetIndex: 1 };
  const nets = new Map<string, SandboxNet>();
  const claim = claimBase();
  await prepareBase();
  mkdirSync(root, { recursive: true, mode: 0o700 });
  const lohar = await loharPath(dataDir);
  const storage = await createStorage(dataDir);
  const image = await createImages(dataDir).resolve("minimal");
  const network = new HostNetwork({
    prefix: claim.prefix,
    base: claim.base,
    poolSize: 0,
    dnsUpstreams: [],
    log: createLog("error"),
  });
  await network.start([]);
  const place = async (): Promise<VmSpec> => {
    const net = network.plan(owner);
    await network.attach(owner, net);
    const id = newId();
    const dir = `${root}/${id}`;
    mkdirSync(dir, { mode: 0o700 });
    nets.set(id, net);
    return {
      id,
      dir,
      uid: net.uid,
      netns: net.netns,
      tap: GUEST.tap,
      mac: GUEST.mac,
      shape: { vcpus: 1, memoryMib: 256 },
      drives: drivesOf(`${dir}/disk`, createKernels(dataDir).current().modules),
      memoryPath: `${dir}/mem`,
      kernel: createKernels(dataDir).current(),
    };
  };
  const { make, jail, tellsPowerOff } = ENGINES[name];
  const { accel } = await chooseEngine("qemu", dataDir, createKernels(dataDir).current());
  const own = (spec: VmSpec, path: string) => chownSync(path, spec.uid, spec.uid);
  const bench: Bench = {
    engine: () => make(lohar, accel),
    jail,
    tellsPowerOff,
    async spec() {
      const spec = await place();
      await storage.clone(image.path, `${spec.dir}/disk`);
      own(spec, `${spec.dir}/disk`);
      return spec;
    },
    async copy(from) {
      const spec = await place();
      for (const file of ["disk", "mem"]) {
        await storage.clone(`${from.dir}/${file}`, `${spec.dir}/${file}`);
        own(spec, `${spec.dir}/${file}`);
      }
      return spec;
    },
    guest: (spec) =>
      createGuestClient({ host: nets.get(spec.id)!.address, port: GUEST.agentPort, token: "" }),
    async clean() {
      for (const [id, net] of nets) {
        await network.release(owner, net);
        rmSync(`${root}/${id}`, { recursive: true, force: true });
      }
      nets.clear();
    },
  };
  return {
    bench,
    async close() {
      await network.purge();
      claim.release();
      rmSync(root, { recursive: true, force: true });
    },
  };
}
