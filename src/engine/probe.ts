/**
 * Whether this host's KVM boots our kernel to our agent. "Is there a /dev/kvm" is the wrong question: on some hosts it opens, and
 * no ordinary kernel boots under it.
 */
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import type { KernelFiles } from "./engine.ts";
import { kernelArguments } from "./firecracker/machine.ts";
import { machine, kernelArguments as qemuKernelArguments } from "./qemu/args.ts";

/** A guest that boots has printed something since; nested hosts take their time, hanging ones say nothing, ms. */
const SILENCE_MS = 8000;
/** Slower than this, emulation is no worse, ms. */
const LONGEST_MS = 45_000;
const MEMORY_MIB = 256;

/** A machine without disk or network: its agent says on the console that it has no disk. */
export async function probeQemu(kernel: KernelFiles): Promise<boolean> {
  return probe((console) => [
    ...["/usr/bin/qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"],
    ...["-M", machine.replace(",memory-backend=ram0", ""), "-accel", "kvm", "-cpu", "host"],
    ...["-m", String(MEMORY_MIB), "-kernel", kernel.vmlinux, "-initrd", kernel.initramfs],
    ...["-append", loud(qemuKernelArguments("kvm", 0, "")), "-serial", `file:${console}`],
  ]);
}

/** The same, without a jail: it is our own kernel that runs. */
export async function probeFirecracker(firecracker: string, kernel: KernelFiles): Promise<boolean> {
  return probe(async (console, dir) => {
    const config = {
      "boot-source": {
        kernel_image_path: kernel.vmlinux,
        initrd_path: kernel.initramfs,
        boot_args: loud(kernelArguments("")),
      },
      "machine-config": { vcpu_count: 1, mem_size_mib: MEMORY_MIB },
      drives: [],
    };
    await writeFile(`${dir}/config`, JSON.stringify(config));
    await writeFile(console, "");
    const line = `exec "$0" --no-api --config-file "$1" --level Error >>"$2"`;
    return ["/bin/sh", "-c", line, firecracker, `${dir}/config`, console];
  });
}

const loud = (args: string): string => args.replace("quiet loglevel=4 ", "");

async function probe(
  command: (console: string, dir: string) => string[] | Promise<string[]>,
): Promise<boolean> {
  const dir = await mkdtemp("/tmp/bhatti-probe-");
  const console = `${dir}/console`;
  let child: Bun.Subprocess | undefined;
  try {
    child = Bun.spawn(await command(console, dir), { stdin: "ignore", stdout: "ignore", stderr: "ignore" });
    return await reachesAgent(child, () => (existsSync(console) ? readFileSync(console, "latin1") : ""));
  } catch {
    return false;
  } finally {
    child?.kill("SIGKILL");
    await child?.exited;
    await rm(dir, { recursive: true, force: true });
  }
}

async function reachesAgent(child: Bun.Subprocess, read: () => string): Promise<boolean> {
  const began = Date.now();
  for (let heard = began, length = 0; Date.now() < began + LONGEST_MS; await Bun.sleep(50)) {
    const ended = child.exitCode !== null || child.signalCode !== null;
    const text = read();
    if (text.includes("lohar:")) return true;
    if (text.length > length) [heard, length] = [Date.now(), text.length];
    if (ended || Date.now() > heard + SILENCE_MS) return false;
  }
  return false;
}
