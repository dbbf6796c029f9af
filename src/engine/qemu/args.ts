/** The command line of one VMM. What decides whether a guest boots is in design notes of this folder's README comments. */
import { readFileSync } from "node:fs";
import type { VmSpec } from "../engine.ts";

export interface QemuHost {
  binary: string;
  /** [major, minor] */
  version: [number, number];
  accel: "kvm" | "tcg";
  /** Host TSC, kHz: TCG passes the TSC through and the guest has no PIT to calibrate against. */
  tscKhz: number;
}

/** QEMU 7.2's emulation corrupts flags on cmpxchg16b: 3 of 3 loaded 6.12 guests crashed with it, 0 of 3 without. */
export function cpuModel(host: QemuHost): string {
  if (host.accel === "kvm") return "host";
  return host.version[0] < 8 ? "max,-cx16" : "max";
}

/** `microvm` without the legacy PIC and PIT: a stray vector of theirs kills Linux 6.12 early. */
export const machine = "microvm,pit=off,pic=off,rtc=on,memory-backend=ram0";

export const accelerator = (host: QemuHost): string =>
  host.accel === "kvm" ? "kvm" : "tcg,thread=multi,tb-size=64";

/** Kernel command line. Without tsc_early_khz and no_timer_check no emulated guest boots. */
export function kernelArguments(accel: "kvm" | "tcg", tscKhz: number, extra: string): string {
  const timing = accel === "tcg" ? ` no_timer_check tsc_early_khz=${tscKhz}` : "";
  return `console=ttyS0 quiet loglevel=4 panic=-1 reboot=t rdinit=/init random.trust_cpu=on mitigations=auto${timing} ${extra}`.trim();
}

/** Descriptors that the VMM inherits from `lohar jail`: nothing of the host needs a name in the jail. */
export const INHERITED = { qmp: 3, incoming: 4 };

/** Paths inside the jail. `out` is in a folder that only root can write. */
export const IN_JAIL = {
  out: "/out/sock",
  memory: "/mem",
  kernel: "/kernel",
  initramfs: "/initramfs",
};

export const driveInJail = (index: number): string => `/drive${index}`;

/** Everything but the program itself. `incoming`: wait for a device state, with stopped vCPUs. */
export function qemuArguments(
  spec: VmSpec,
  host: QemuHost,
  incoming: boolean,
  extraKernelArgs = "",
): string[] {
  // -no-shutdown: a guest that ended stays as a stopped VM, whose console and reason can still be read, also by a daemon
  // that was away in that moment.
  const args = ["-nodefaults", "-no-user-config", "-no-reboot", "-no-shutdown", "-display", "none"];
  args.push("-M", machine, "-accel", accelerator(host), "-cpu", cpuModel(host));
  args.push("-smp", String(spec.shape.vcpus), "-m", String(spec.shape.memoryMib));
  args.push(
    "-object",
    `memory-backend-file,id=ram0,size=${spec.shape.memoryMib}M,mem-path=${IN_JAIL.memory},share=on`,
  );
  args.push(
    "-kernel",
    IN_JAIL.kernel,
    "-initrd",
    IN_JAIL.initramfs,
    "-append",
    kernelArguments(host.accel, host.tscKhz, extraKernelArgs),
  );
  // Standard output is a pipe into a ring of bounded size: a hostile guest can print for ever and fills no disk.
  args.push("-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console");
  for (const [index, drive] of spec.drives.entries()) {
    const mode = drive.readOnly ? ",readonly=on" : "";
    // writeback: guest flushes become fdatasync. A write that finds no space stops the machine, which repeats it when it goes
    // on (Vm.outOfSpace); any other error is the guest's, as on a real disk.
    args.push(
      "-drive",
      `id=${drive.id},file=${driveInJail(index)},format=raw,if=none,cache=writeback,discard=unmap,werror=enospc,rerror=report${mode}`,
    );
    args.push("-device", `virtio-blk-device,id=dev-${drive.id},drive=${drive.id}`);
  }
  args.push("-netdev", `tap,id=n,ifname=${spec.tap},script=no,downscript=no`);
  args.push("-device", `virtio-net-device,netdev=n,mac=${spec.mac}`);
  args.push("-device", "virtio-rng-device");
  args.push("-device", "virtio-balloon-device,deflate-on-oom=on,free-page-reporting=on");
  args.push("-chardev", `socket,id=qmp,fd=${INHERITED.qmp},server=on,wait=off`);
  args.push("-mon", "chardev=qmp,mode=control");
  args.push("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
  if (incoming) args.push("-S", "-incoming", "defer");
  return args;
}

/** kHz of the host's TSC, from /proc/cpuinfo. */
export function hostTscKhz(): number {
  const mhz = readFileSync("/proc/cpuinfo", "utf8").match(/^cpu MHz\s*:\s*([\d.]+)/m)?.[1];
  return Math.round(Number(mhz ?? 2000) * 1000);
}
