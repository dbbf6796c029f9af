/**
 * The lab: a whole machine of its own with systemd and cgroup v2, and with nested virtualisation (QEMU emulates AMD SVM), for
 * what needs more of a host than CI machines have. Its booted state is kept: the next start takes seconds.
 */
import { existsSync, mkdirSync, openSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { claimBase } from "../e2e/claim.ts";

/** Kept between runs. */
const DIR = process.env.BHATTI_LAB_DIR ?? "/var/tmp/bhatti-lab";
const ROOT = `${import.meta.dir}/../..`;
const BOOT_MS = 300_000;

export interface LabResult {
  status: number;
  stdout: string;
  stderr: string;
}

export class Lab {
  private constructor(
    private readonly child: Bun.Subprocess,
    private readonly port: number,
    private readonly claim: ReturnType<typeof claimBase>,
  ) {}

  /** Builds the disk once (minutes), boots or restores the machine, and answers when commands run in it. */
  static async start(): Promise<Lab> {
    mkdirSync(DIR, { recursive: true, mode: 0o700 });
    const built = Bun.spawnSync([`${import.meta.dir}/build.sh`, DIR], {
      stdout: "inherit",
      stderr: "inherit",
    });
    if (built.exitCode !== 0) throw new Error(`the lab's disk cannot be built (status ${built.exitCode})`);
    if (!existsSync(`${DIR}/state`)) {
      const fresh = await Lab.launch("boot");
      await fresh.keepBooted().finally(() => fresh.stop());
    }
    return Lab.launch("restore");
  }

  private static async launch(how: "boot" | "restore"): Promise<Lab> {
    // A number that no other test process has: also good for a port.
    const claim = claimBase();
    const port = 22_000 + claim.base;
    const lab = new Lab(launch(port, how), port, claim);
    try {
      await lab.ready();
      return lab;
    } catch (error) {
      await lab.stop();
      throw error;
    }
  }

  /** Runs a shell line as root. */
  async sh(line: string, stdin?: Blob): Promise<LabResult> {
    const child = Bun.spawn([...this.ssh(), line], {
      stdin: stdin ?? "ignore",
      stdout: "pipe",
      stderr: "pipe",
    });
    const [stdout, stderr] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
    ]);
    return { status: await child.exited, stdout, stderr };
  }

  /** stdout of a line that must succeed, trimmed. */
  async ok(line: string): Promise<string> {
    const { status, stdout, stderr } = await this.sh(line);
    if (status !== 0) throw new Error(`in the lab: ${line}\nstatus ${status}: ${stderr}${stdout}`);
    return stdout.trim();
  }

  /** Puts files of this checkout (paths from its root) below /root/src. */
  async put(...paths: string[]): Promise<void> {
    const tar = Bun.spawn(["tar", "-C", ROOT, "-cf", "-", "--dereference", ...paths], { stdout: "pipe" });
    const bytes = await new Response(tar.stdout).blob();
    if ((await tar.exited) !== 0) throw new Error(`tar of ${paths.join(" ")} failed`);
    const { status, stderr } = await this.sh("mkdir -p /root/src && tar -C /root/src -xf -", bytes);
    if (status !== 0) throw new Error(`files did not reach the lab: ${stderr}`);
  }

  /** Power off, without ceremony; what was written since the kept state is forgotten. */
  async stop(): Promise<void> {
    this.child.kill("SIGKILL");
    await this.child.exited;
    this.claim.release();
    for (const name of [`monitor-${this.port}`, `disk-${this.port}`])
      rmSync(`${DIR}/root/lab/${name}`, { force: true });
  }

  private ssh(): string[] {
    const options = [
      "StrictHostKeyChecking=no",
      "UserKnownHostsFile=/dev/null",
      "LogLevel=ERROR",
      "ConnectTimeout=5",
    ];
    const flags = options.flatMap((option) => ["-o", option]);
    return ["ssh", "-i", `${DIR}/key`, "-p", String(this.port), ...flags, "root@127.0.0.1"];
  }

  private async ready(): Promise<void> {
    const end = Date.now() + BOOT_MS;
    while ((await this.sh("true")).status !== 0) {
      if (this.child.exitCode !== null) throw new Error("the lab ended while it started");
      if (Date.now() > end) throw new Error(`the lab does not answer: see ${DIR}/serial.log`);
      await Bun.sleep(500);
    }
  }

  /** Saves the running machine; its disk must not be written again. */
  private async keepBooted(): Promise<void> {
    await this.ok("sync");
    const part = `${DIR}/root/lab/state`;
    writeFileSync(part, "", { mode: 0o600 });
    const path = `${DIR}/root/lab/monitor-${this.port}`;
    await monitor(path, "stop");
    await monitor(path, "migrate file:/lab/state");
    renameSync(part, `${DIR}/state`);
  }
}

/**
 * The lab's own QEMU runs it: nested virtualisation needs version 10. `restore`: from the kept state, writing to a scratch disk
 * of its own.
 */
function launch(port: number, how: "boot" | "restore"): Bun.Subprocess {
  const files = ["vmlinuz", "initrd.img", "disk.qcow2", ...(how === "restore" ? ["state"] : [])];
  const disk = how === "restore" ? `disk-${port}` : "disk.qcow2";
  const qemu = [
    ...["qemu-system-x86_64", "-nodefaults", "-no-reboot", "-display", "none", "-M", "q35"],
    ...["-accel", "tcg,thread=multi,tb-size=512", "-cpu", "EPYC-v4,+svm,+npt", "-smp", "2", "-m", "3G"],
    ...["-kernel", "/lab/vmlinuz", "-initrd", "/lab/initrd.img"],
    ...["-append", "console=ttyS0 root=/dev/vda rw quiet", "-serial", "file:/lab/serial.log"],
    ...["-drive", `file=/lab/${disk},format=qcow2,if=virtio`, "-device", "virtio-rng-pci"],
    ...["-netdev", `user,id=n,hostfwd=tcp:127.0.0.1:${port}-:22`, "-device", "virtio-net-pci,netdev=n"],
    ...["-monitor", `unix:/lab/monitor-${port},server=on,wait=off`],
    ...(how === "restore" ? ["-incoming", "file:/lab/state"] : []),
  ];
  const script = [
    "mount --make-rprivate /",
    'for f in $FILES; do touch "$DIR/root/lab/$f"; mount --bind "$DIR/$f" "$DIR/root/lab/$f"; done',
    'mount --rbind /dev "$DIR/root/dev"',
    'if [ -n "$SCRATCH" ]; then chroot "$DIR/root" qemu-img create -q -f qcow2 -F qcow2 -b disk.qcow2 "/lab/$SCRATCH"; fi',
    'exec chroot "$DIR/root" "$@"',
  ].join("\n");
  const log = openSync(`${DIR}/qemu.log`, "a", 0o600);
  return Bun.spawn(["unshare", "--mount", "bash", "-euc", script, "lab", ...qemu], {
    stdin: "ignore",
    stdout: log,
    stderr: log,
    env: { PATH: process.env.PATH!, DIR, FILES: files.join(" "), SCRATCH: how === "restore" ? disk : "" },
  });
}

/** One command for QEMU's monitor; resolves at the next prompt. */
async function monitor(path: string, command: string): Promise<void> {
  if (!existsSync(path)) throw new Error("the lab has no monitor");
  const done = Promise.withResolvers<void>();
  let text = "";
  let sent = false;
  const socket = await Bun.connect({
    unix: path,
    socket: {
      data(peer, chunk) {
        text += chunk.toString();
        if (!text.endsWith("(qemu) ")) return;
        if (sent) return done.resolve();
        sent = true;
        text = "";
        peer.write(`${command}\n`);
      },
      close: () => done.reject(new Error("the lab's QEMU ended")),
      error: (_peer, error) => done.reject(error),
    },
  });
  await done.promise.finally(() => socket.end());
  if (/error/i.test(text)) throw new Error(`monitor: ${text}`);
}
