/** `engine: auto`: QEMU with KVM where a probe boot proves it, with emulation anywhere else. */
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import type { KernelFiles } from "./engine.ts";
import { QemuEngine } from "./qemu/qemu.ts";

export interface Choice {
  accel: "kvm" | "tcg";
  /** Why, for people. */
  why: string;
}

const PROBE_MS = 8000;

/**
 * "Is there a /dev/kvm" is the wrong question: on some hosts it opens and no ordinary kernel boots under it. The right one
 * is whether our kernel reaches our agent. Asked once per kernel, QEMU, CPU and host kernel; the answer is remembered.
 */
export async function chooseAccel(dataDir: string, kernel: KernelFiles): Promise<Choice> {
  if (!existsSync("/dev/kvm")) return { accel: "tcg", why: "no /dev/kvm: software emulation" };
  const cpu = readFileSync("/proc/cpuinfo", "utf8").match(/^model name.*$/m)?.[0] ?? "";
  const qemu = Bun.spawnSync(["/usr/bin/qemu-system-x86_64", "--version"]).stdout.toString();
  const host = readFileSync("/proc/version", "utf8");
  const key = createHash("sha256").update([kernel.version, qemu, cpu, host].join("\n")).digest("hex");
  const file = `${dataDir}/kvm-probe.json`;
  try {
    const known = JSON.parse(readFileSync(file, "utf8")) as Choice & { key: string };
    if (known.key === key) return { accel: known.accel, why: known.why };
  } catch {}
  const works = await probeKvm(kernel);
  const choice: Choice = works
    ? { accel: "kvm", why: "KVM works: a guest booted under it" }
    : { accel: "tcg", why: "/dev/kvm exists, but our kernel does not boot under it: software emulation" };
  // Asked again next time when the disk is full.
  await writeFile(file, JSON.stringify({ ...choice, key })).catch(() => {});
  return choice;
}

/** Boots kernel and agent without disk or network; the agent says on the console that it has no disk. Hard deadline. */
export async function probeKvm(kernel: KernelFiles): Promise<boolean> {
  const dir = await mkdtemp("/tmp/bhatti-probe-");
  const child = Bun.spawn(
    [
      "/usr/bin/qemu-system-x86_64",
      ...[
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
        "-M",
        "microvm,pit=off,pic=off,rtc=on",
      ],
      ...[
        "-accel",
        "kvm",
        "-cpu",
        "host",
        "-m",
        "256",
        "-kernel",
        kernel.vmlinux,
        "-initrd",
        kernel.initramfs,
      ],
      ...["-append", "console=ttyS0 panic=-1 reboot=t rdinit=/init", "-serial", `file:${dir}/console`],
    ],
    { stdin: "ignore", stdout: "ignore", stderr: "ignore" },
  );
  try {
    const end = Date.now() + PROBE_MS;
    while (Date.now() < end) {
      if (existsSync(`${dir}/console`) && readFileSync(`${dir}/console`, "latin1").includes("lohar:"))
        return true;
      if (child.exitCode !== null) return readFileSync(`${dir}/console`, "latin1").includes("lohar:");
      await Bun.sleep(50);
    }
    return false;
  } catch {
    return false;
  } finally {
    child.kill("SIGKILL");
    await child.exited;
    await rm(dir, { recursive: true, force: true });
  }
}

/** The engine of the configuration. Throws for one that cannot be had. */
export async function createEngine(options: {
  engine: "auto" | "qemu" | "firecracker";
  dataDir: string;
  lohar: string;
  kernel: KernelFiles;
}): Promise<{ engine: QemuEngine; choice: Choice }> {
  if (options.engine === "firecracker")
    throw new Error("engine: firecracker is not available in this version; use auto or qemu");
  const choice = await chooseAccel(options.dataDir, options.kernel);
  const extraKernelArgs = process.env.BHATTI_TEST_KERNEL_ARGS;
  const seccomp = process.env.BHATTI_JAIL_SECCOMP === "learn" ? "learn" : "enforce";
  return {
    engine: QemuEngine.create({ lohar: options.lohar, accel: choice.accel, extraKernelArgs, seccomp }),
    choice:
      seccomp === "learn"
        ? { ...choice, why: `${choice.why}; SYSTEM CALLS OF VMMS ARE LOGGED, NOT REFUSED` }
        : choice,
  };
}
