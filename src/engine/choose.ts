/** Which engine runs here: the one of the configuration, or the best that a probe boot proves. */
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { type Engine, EngineError, type KernelFiles } from "./engine.ts";
import { findBinaries } from "./firecracker/binaries.ts";
import { FirecrackerEngine } from "./firecracker/firecracker.ts";
import { probeFirecracker, probeQemu } from "./probe.ts";
import { QemuEngine } from "./qemu/qemu.ts";

export interface Choice {
  engine: "qemu" | "firecracker";
  accel: "kvm" | "tcg";
  /** Why, for people. */
  why: string;
}

export type WantedEngine = "auto" | "qemu" | "firecracker";

/** Where `install.sh` puts Firecracker and its jailer. */
export const FIRECRACKER_DIR =
  process.env.BHATTI_FIRECRACKER_DIR ?? "/usr/local/lib/bhatti/firecracker/current";

/**
 * `auto` and `qemu`: QEMU with KVM where our kernel boots under it, else with emulation. Throws EngineError, which says why, for
 * `firecracker` where it cannot be; the others always can.
 */
export async function chooseEngine(
  wanted: WantedEngine,
  dataDir: string,
  kernel: KernelFiles,
): Promise<Choice> {
  if (wanted === "firecracker") return firecracker(dataDir, kernel);
  return qemu(dataDir, kernel);
}

async function firecracker(dataDir: string, kernel: KernelFiles): Promise<Choice> {
  if (!existsSync("/dev/kvm")) throw new EngineError("it needs KVM, and there is no /dev/kvm");
  const { version, firecracker, digest } = findBinaries(FIRECRACKER_DIR);
  const ask = () => probeFirecracker(firecracker, kernel);
  if (!(await remembered(dataDir, `firecracker ${digest}`, kernel, ask)))
    throw new EngineError("our kernel does not boot under it on this host's KVM");
  return { engine: "firecracker", accel: "kvm", why: `version ${version}: a guest booted under it` };
}

async function qemu(dataDir: string, kernel: KernelFiles): Promise<Choice> {
  const engine = "qemu";
  if (!existsSync("/dev/kvm")) return { engine, accel: "tcg", why: "no /dev/kvm: software emulation" };
  const program = Bun.spawnSync(["/usr/bin/qemu-system-x86_64", "--version"]).stdout.toString();
  if (await remembered(dataDir, program, kernel, () => probeQemu(kernel)))
    return { engine, accel: "kvm", why: "KVM works: a guest booted under it" };
  const why = "/dev/kvm exists, but our kernel does not boot under it: software emulation";
  return { engine, accel: "tcg", why };
}

/** Asked once per kernel, VMM, CPU and host kernel. */
async function remembered(
  dataDir: string,
  vmm: string,
  kernel: KernelFiles,
  ask: () => Promise<boolean>,
): Promise<boolean> {
  const cpu = readFileSync("/proc/cpuinfo", "utf8").match(/^model name.*$/m)?.[0] ?? "";
  const host = readFileSync("/proc/version", "utf8");
  const key = createHash("sha256").update([kernel.version, vmm, cpu, host].join("\n")).digest("hex");
  const file = `${dataDir}/kvm-probe.json`;
  let known: Record<string, boolean> = {};
  try {
    const read: unknown = JSON.parse(readFileSync(file, "utf8"));
    if (typeof read === "object" && read !== null) known = read as Record<string, boolean>;
  } catch {}
  if (typeof known[key] === "boolean") return known[key];
  const works = await ask();
  // What was asked of other kernels and VMMs is forgotten, but for the other engine of today. Asked again when the disk is full.
  const kept = Object.entries(known).filter(([, value]) => typeof value === "boolean");
  await writeFile(file, JSON.stringify({ ...Object.fromEntries(kept.slice(-8)), [key]: works })).catch(
    () => {},
  );
  return works;
}

/** The engine of the configuration. Throws for one that cannot be had. */
export async function createEngine(options: {
  engine: WantedEngine;
  dataDir: string;
  lohar: string;
  kernel: KernelFiles;
}): Promise<{ engine: Engine; choice: Choice }> {
  const { lohar } = options;
  const choice = await chooseEngine(options.engine, options.dataDir, options.kernel);
  const extraKernelArgs = process.env.BHATTI_TEST_KERNEL_ARGS;
  if (choice.engine === "firecracker")
    return { engine: FirecrackerEngine.create({ lohar, dir: FIRECRACKER_DIR, extraKernelArgs }), choice };
  const seccomp = process.env.BHATTI_JAIL_SECCOMP === "learn" ? "learn" : "enforce";
  return {
    engine: QemuEngine.create({ lohar, accel: choice.accel, extraKernelArgs, seccomp }),
    choice:
      seccomp === "learn"
        ? { ...choice, why: `${choice.why}; SYSTEM CALLS OF VMMS ARE LOGGED, NOT REFUSED` }
        : choice,
  };
}
