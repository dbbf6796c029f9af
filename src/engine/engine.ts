/** The seam between the life of a sandbox and the VMM that runs it. One interface, two engines, one contract suite. */

/** What the guest sees as hardware. Part of every snapshot's identity. */
export interface VmShape {
  vcpus: number;
  memoryMib: number;
}

/** What a VMM needs beside the guest's memory, MiB. */
export const VMM_OVERHEAD_MB = 48;

/** A disk of the guest. The order of the array is the order of the devices: the first one is /dev/vda, the root. */
export interface Drive {
  id: string;
  /** Host path; below `VmSpec.dir` when the VMM may write to it. */
  path: string;
  readOnly: boolean;
  /** How far `resizeDrive` may grow it, bytes; its present size when absent. Fixed for the life of the VMM. */
  maxBytes?: number;
}

/** Kernel and initramfs as installed by `bhatti kernel install`. */
export interface KernelFiles {
  version: string;
  vmlinux: string;
  initramfs: string;
  /** Image of the kernel's modules, the last drive of every VM; absent in kernels installed before there was one. */
  modules?: string | undefined;
}

/** The drives of a VM whose root is at `root` and may grow to `maxBytes`, with its kernel's modules. */
export const drivesOf = (root: string, modules: string | undefined, maxBytes?: number): Drive[] => [
  { id: "root", path: root, readOnly: false, ...(maxBytes === undefined ? {} : { maxBytes }) },
  ...(modules ? [{ id: "modules", path: modules, readOnly: true }] : []),
];

export interface VmSpec {
  /** Engine id, 16 hex digits. Names the VMM instance. */
  id: string;
  /**
   * Directory of this VM, `<data>/sandboxes/<id>`: root's, and no VMM can write it. The engine keeps `vm` (empty mount point
   * of the VMM's root), `out`, `qmp.sock`, `vmm.log` and `console.log` there.
   */
  dir: string;
  /** Unprivileged user (and group) of this VMM alone. */
  uid: number;
  /** Network namespace (`ip netns` name) with the TAP in it. */
  netns: string;
  tap: string;
  mac: string;
  shape: VmShape;
  /** CPU time it may use, in CPUs: 0.5 is half of one. Default: all of its vCPUs. Enforced where the host has cgroup v2. */
  cpus?: number;
  drives: Drive[];
  /** Guest memory: a file of exactly shape.memoryMib MiB, mapped shared. Created (sparse) by boot, required by restore. */
  memoryPath: string;
  kernel: KernelFiles;
}

/** Identifies a VMM process across daemon restarts. */
export interface VmmProcess {
  pid: number;
  /** Field 22 of /proc/<pid>/stat, clock ticks since host boot. */
  startTime: number;
}

/**
 * Why a VM ended. `poweroff` and `reset`: the guest did it itself (a kernel that panics resets, too: only the console tells
 * them apart). `oom`: the host's kernel killed the VMM for its memory. `crashed`: anything else.
 */
export type ExitCause = "poweroff" | "reset" | "oom" | "crashed";

export interface VmExit {
  cause: ExitCause;
  /** Exit code; null when it was killed by a signal or when the process was adopted (not our child). */
  code: number | null;
  /** Last 16 KiB of the VMM's stderr and of the guest's console, for error messages. The guest writes what it likes there. */
  stderrTail: string;
  consoleTail: string;
}

/**
 * Where the guest's serial console is kept: a ring (ring.ts; `ringTail` and `followRing` read it) of 128 to 256 KiB in the
 * VM's directory. It may be read at any time: while the VM runs, after its end, through restarts of the daemon. It goes on
 * over stops and wakes and is removed with the directory. Bytes are the guest's: hostile, not always text.
 */
export const consoleFile = (dir: string): string => `${dir}/console.log`;

/** What the VMM says to its standard error: a ring too, begun anew with every VMM. For logs, never for the wire. */
export const vmmLogFile = (dir: string): string => `${dir}/vmm.log`;

export type VmState = "running" | "paused" | "exited";

/** A live VMM. Methods are not re-entrant: the sandbox's actor calls them one at a time. */
export interface Vm {
  readonly spec: VmSpec;
  readonly process: VmmProcess;
  /** Asks the VMM. Never a remembered value. */
  state(): Promise<VmState>;
  /** Stops the vCPUs. Pausing the paused succeeds. */
  pause(): Promise<void>;
  /** Runs the vCPUs. Resuming the running succeeds. */
  resume(): Promise<void>;
  /**
   * Writes the device state (about 100 KB) of a paused VM to `path` (new file). Guest memory is already in `memoryPath`;
   * state and memory belong together until the vCPUs run again.
   */
  saveState(path: string): Promise<void>;
  /** Changes how much CPU time it may use, in CPUs. Nothing where the host has no cgroup v2. */
  limitCpus(cpus: number): Promise<void>;
  /** A write of the guest found no space, and the vCPUs stopped because of it; `resume` repeats the write. */
  readonly outOfSpace: boolean;
  /** Makes a drive larger, bytes, up to its `maxBytes`; the guest is told. */
  resizeDrive(id: string, bytes: number): Promise<void>;
  /** Changes nothing about the VM, but lets go of it: another `adopt` may follow. The object is of no use afterwards. */
  leave(): void;
  /** SIGKILL, then waits until no process of the VMM is left (its PID namespace ends with it). Killing the dead succeeds. */
  kill(): Promise<void>;
  /** Resolves once, when the guest has ended or the VMM process is gone, for whatever reason. Never rejects. */
  readonly exited: Promise<VmExit>;
  /** CPU time of the VMM process so far, ms. 0 when gone. */
  cpuMs(): number;
  /** Resident memory of the VMM process, bytes (Rss and Pss from smaps_rollup). */
  memory(): Promise<{ rssBytes: number; pssBytes: number }>;
}

export interface Engine {
  readonly name: "qemu" | "firecracker";
  readonly accel: "kvm" | "tcg";
  /**
   * Everything a device state depends on apart from shape and drives: VMM version, machine options, CPU model, kernel
   * version. A state is only restored under the fingerprint it was saved under.
   */
  fingerprint(): string;
  /** Cold boot. Resolves when the vCPUs run; the agent is not up yet. On failure nothing is left behind. */
  boot(spec: VmSpec): Promise<Vm>;
  /**
   * New VMM from `memoryPath` and the device state at `statePath`, left paused: the caller commits 'consumed' before it
   * resumes. The memory file is unchanged until then. On failure nothing is left behind and both files are as before.
   */
  restore(spec: VmSpec, statePath: string): Promise<Vm>;
  /**
   * The live VMM of a former daemon, or null when it is gone (pid, start time and uid are verified). Throws EngineError when
   * it runs but does not answer within `deadlineMs` ('silent'), or not as a VMM does ('nonsense'); the VM runs on.
   */
  adopt(spec: VmSpec, process: VmmProcess, deadlineMs: number): Promise<Vm | null>;
  /** Users in `from`…`to` that have a live process. Reads all of /proc once. */
  liveUids(from: number, to: number): Set<number>;
  /** Kills every process of these users, with one look at /proc a round; returns the users whose processes do not end. */
  killUids(uids: Iterable<number>): Promise<Set<number>>;
  /** Makes the agent of a VM without owner run what every sandbox runs first. The vCPUs must run. */
  warmUp(spec: VmSpec): Promise<void>;
}

/** Whose a fingerprint is: no engine reads another one's states. */
export const engineOf = (fingerprint: string): Engine["name"] =>
  fingerprint.startsWith("firecracker-") ? "firecracker" : "qemu";

/** Any failure of a VMM. */
export class EngineError extends Error {
  constructor(
    message: string,
    /** What the VMM and the guest console said last; for logs, never for the wire. */
    readonly detail: string = "",
    options?: ErrorOptions,
    /**
     * What is the matter with the VMM: 'gone' (no process), 'silent' (alive, no answer in time: a busy host, or a hung VMM),
     * 'nonsense' (it answers what no VMM answers), 'failed' (it refused, or could not), 'unknown' (its version has no such command).
     */
    readonly why: "gone" | "silent" | "nonsense" | "failed" | "unknown" = "failed",
  ) {
    super(message, options);
    this.name = "EngineError";
  }
}

/** The VMM lives, but did not answer a command in time: it is stopped, swapped out, or stuck. */
export const isVmmSilent = (error: unknown): boolean =>
  error instanceof EngineError && error.why === "silent";
