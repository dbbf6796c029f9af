/** The machine that Firecracker builds: paths in the jail, and the requests before its start. */
import type { VmSpec } from "../engine.ts";

/** Paths inside the jail. */
export const IN_JAIL = {
  socket: "/run/vmm.sock",
  log: "/log",
  memory: "/mem",
  kernel: "/kernel",
  initramfs: "/initramfs",
  /** Device state that a restore reads, and the one that a save writes. */
  state: "/state",
  saved: "/saved",
};

export const driveInJail = (index: number): string => `/drive${index}`;

/** `bhatti.off`: the machine has no power switch; a guest that is turned off is reset, which ends its VMM. */
export const kernelArguments = (extra: string): string =>
  `console=ttyS0 quiet loglevel=4 panic=-1 reboot=k pci=off rdinit=/init random.trust_cpu=on mitigations=auto bhatti.off=reset ${extra}`.trim();

/** Requests (path, body) in their order, up to the start of the vCPUs. */
export function machineRequests(spec: VmSpec, extraKernelArgs = ""): [string, object][] {
  const { shape, drives, mac, tap } = spec;
  return [
    [
      "/boot-source",
      {
        kernel_image_path: IN_JAIL.kernel,
        initrd_path: IN_JAIL.initramfs,
        boot_args: kernelArguments(extraKernelArgs),
      },
    ],
    // Tracking from the first instruction on makes the first save as small as any: what was never written is a hole.
    [
      "/machine-config",
      { vcpu_count: shape.vcpus, mem_size_mib: shape.memoryMib, smt: false, track_dirty_pages: true },
    ],
    ...drives.map(({ id, readOnly }, index): [string, object] => [
      `/drives/${id}`,
      {
        drive_id: id,
        path_on_host: driveInJail(index),
        is_root_device: false,
        is_read_only: readOnly,
        // A flush of the guest is a flush of the host.
        cache_type: "Writeback",
      },
    ]),
    ["/network-interfaces/eth0", { iface_id: "eth0", guest_mac: mac, host_dev_name: tap }],
    ["/entropy", {}],
    ["/balloon", { amount_mib: 0, deflate_on_oom: true, free_page_reporting: true }],
    ["/actions", { action_type: "InstanceStart" }],
  ];
}
