/**
 * The lab: a whole machine of its own with systemd and cgroup v2, and with nested virtualisation (QEMU emulates AMD SVM), for
 * what needs more of a host than CI machines have. Its booted state is kept: the next start takes seconds.
 */
import {
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { sha256 } from "../../src/lib/hash.ts";
import { hostMemory } from "../../src/sandboxes/memory.ts";
import { claimBase, exclusively } from "../e2e/claim.ts";
import { BASE } from "../e2e/harness.ts";

/** Kept between runs. */
const DIR = process.env.BHATTI_LAB_DIR ?? "/var/tmp/bhatti-lab";
const ROOT = `${import.meta.dir}/../..`;
const BOOT_MS = 300_000;
/** The drive by which files come in; its size is part of the kept state. */
const PAYLOAD = "6G";
const MEMORY_MIB = 4096;
/** How long a start waits for other tests of this machine to give memory back, ms. */
const ROOM_MS = 600_000;

export interface LabResult {
  status: number;
  stdout: string;
  stderr: string;
}

/** Where things are in the lab. */
export const IN_LAB = {
  /** This checkout, writable. */
  src: "/root/src",
  /** Kernel and image of the suites, when this machine has them. */
  base: "/payload/base",
  /** Firecracker and jailer, when BHATTI_FIRECRACKER_DIR names them here. */
  firecracker: "/payload/firecracker",
};

export class Lab {
  private constructor(
    private readonly child: Bun.Subprocess,
    private readonly port: number,
    private readonly claim: ReturnType<typeof claimBase>,
  ) {}

  /** Builds the disk once (minutes), boots the machine once, restores it, and answers when commands run in it. */
  static async start(): Promise<Lab> {
    mkdirSync(DIR, { recursive: true, mode: 0o700 });
    await room();
    await exclusively(`lab${DIR}`, prepareLab);
    return Lab.launch("restore");
  }

  /** Boots from the disk and keeps the booted state. */
  static async keepState(): Promise<void> {
    const fresh = await Lab.launch("boot");
    await fresh.keepBooted().finally(() => fresh.stop());
  }

  private static async launch(how: "boot" | "restore"): Promise<Lab> {
    // A number that no other test process has: also good for a port.
    const claim = claimBase();
    const port = 22_000 + claim.base;
    const lab = new Lab(await launch(port, how), port, claim);
    try {
      if (how === "restore") await lab.goOn();
      await lab.ready();
      if (how === "restore") await lab.unpack();
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

  /** Runs a shell line as root, its output on our own; answers its status. */
  async show(line: string): Promise<number> {
    const child = Bun.spawn([...this.ssh(), line], { stdin: "ignore", stdout: "inherit", stderr: "inherit" });
    return child.exited;
  }

  /** stdout of a line that must succeed, trimmed. */
  async ok(line: string): Promise<string> {
    const { status, stdout, stderr } = await this.sh(line);
    if (status !== 0) throw new Error(`in the lab: ${line}\nstatus ${status}: ${stderr}${stdout}`);
    return stdout.trim();
  }

  /** False when its QEMU is gone: nothing that failed since then says anything about the product. */
  get alive(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  /** Power off, without ceremony; what was written since the kept state is forgotten. */
  async stop(): Promise<void> {
    this.child.kill("SIGKILL");
    await this.child.exited;
    this.claim.release();
    for (const name of ["monitor", "disk", "payload"])
      rmSync(`${DIR}/root/lab/${name}-${this.port}`, { force: true });
  }

  private ssh(): string[] {
    const options = [
      "StrictHostKeyChecking=no",
      "UserKnownHostsFile=/dev/null",
      "LogLevel=ERROR",
      "ConnectTimeout=5",
      "ServerAliveInterval=30",
    ];
    const flags = options.flatMap((option) => ["-o", option]);
    return ["ssh", "-i", `${DIR}/key`, "-p", String(this.port), ...flags, "root@127.0.0.1"];
  }

  private async ready(): Promise<void> {
    const end = Date.now() + BOOT_MS;
    while ((await this.sh("true")).status !== 0) {
      if (!this.alive) throw new Error(`the lab ended while it started: see ${DIR}/qemu.log`);
      if (Date.now() > end) throw new Error(`the lab does not answer: see ${DIR}/root/lab/serial.log`);
      await Bun.sleep(500);
    }
  }

  /** The kept state is that of a stopped machine. */
  private async goOn(): Promise<void> {
    const path = `${DIR}/root/lab/monitor-${this.port}`;
    for (const end = Date.now() + BOOT_MS; ; await Bun.sleep(100)) {
      if (!this.alive) throw new Error(`the lab's QEMU ended: see ${DIR}/qemu.log`);
      if (!existsSync(path)) continue;
      const status = await monitor(path, "info status").catch(() => "");
      if (status.includes("paused") && !status.includes("inmigrate")) break;
      if (Date.now() > end) throw new Error(`the lab's state is not loaded: ${status}`);
    }
    await monitor(path, "cont");
  }

  /** The clock of today, and this checkout. */
  private async unpack(): Promise<void> {
    const overlay = "lowerdir=/payload/src,upperdir=/var/tmp/src/upper,workdir=/var/tmp/src/work";
    await this.ok(
      [
        `date -s @${Math.floor(Date.now() / 1000)}`,
        `mkdir -p /payload /var/tmp/src/upper /var/tmp/src/work ${IN_LAB.src}`,
        // What was on the drive when the state was kept may still be in the page cache.
        "blockdev --flushbufs /dev/vdb",
        "mount -o ro /dev/vdb /payload",
        `mount -t overlay overlay -o ${overlay} ${IN_LAB.src}`,
      ].join(" && "),
    );
  }

  /** Saves the running machine; its disk must not be written again. */
  private async keepBooted(): Promise<void> {
    await this.ok("systemctl is-system-running --wait || true; sync; fstrim / || true; sync");
    const part = `${DIR}/root/lab/state`;
    writeFileSync(part, "", { mode: 0o600 });
    const path = `${DIR}/root/lab/monitor-${this.port}`;
    await monitor(path, "stop");
    await monitor(path, "migrate file:/lab/state");
    const status = await monitor(path, "info migrate");
    if (!status.includes("completed")) throw new Error(`the lab's state cannot be kept: ${status}`);
    renameSync(part, `${DIR}/state`);
  }
}

/** The host's kernel ends the largest program when memory is short, and that would be the lab in the middle of its tests. */
async function room(): Promise<void> {
  for (const end = Date.now() + ROOM_MS; hostMemory().availableMb < MEMORY_MIB + 512; await Bun.sleep(2000)) {
    if (Date.now() > end)
      throw new Error(`the lab needs ${MEMORY_MIB} MiB of memory, and they do not become free`);
  }
}

/** Disk and booted state; made anew when what they are made of has changed. */
async function prepareLab(): Promise<void> {
  const sources = ["test/lab/build.sh", "packaging/programs.txt"].map((path) => `${ROOT}/${path}`);
  const stamp = (await Promise.all(sources.map(sha256))).join("-");
  const built = Bun.spawnSync([`${ROOT}/test/lab/build.sh`, DIR, stamp], {
    stdout: "inherit",
    stderr: "inherit",
  });
  if (built.exitCode !== 0) throw new Error(`the lab's disk cannot be built (status ${built.exitCode})`);
  const machine = JSON.stringify([hardware(), PAYLOAD]);
  const stateStamp = `${DIR}/state.machine`;
  const kept = existsSync(stateStamp) ? readFileSync(stateStamp, "utf8") : "";
  if (existsSync(`${DIR}/state`) && kept === machine) return;
  rmSync(`${DIR}/state`, { force: true });
  await Lab.keepState();
  writeFileSync(stateStamp, machine);
}

/** What must be the same when a state is kept and when it is loaded. */
const hardware = (): string[] => [
  ...["-nodefaults", "-no-reboot", "-display", "none", "-M", "q35"],
  ...[
    "-accel",
    "tcg,thread=multi,tb-size=512",
    "-cpu",
    "EPYC-v4,+svm,+npt",
    "-smp",
    "2",
    "-m",
    `${MEMORY_MIB}M`,
  ],
  ...["-kernel", "/lab/vmlinuz", "-initrd", "/lab/initrd.img"],
  ...["-append", "console=ttyS0 root=/dev/vda rw quiet", "-device", "virtio-rng-pci"],
];

/**
 * The lab's own QEMU runs it: nested virtualisation needs version 10. `restore`: from the kept state, writing to a scratch disk
 * of its own.
 */
async function launch(port: number, how: "boot" | "restore"): Promise<Bun.Subprocess> {
  const files = ["vmlinuz", "initrd.img", "disk.qcow2", ...(how === "restore" ? ["state"] : [])];
  const disk = how === "restore" ? `disk-${port}` : "disk.qcow2";
  const payload = `payload-${port}`;
  await makePayload(`${DIR}/root/lab/${payload}`, how === "restore");
  const qemu = [
    "qemu-system-x86_64",
    ...hardware(),
    ...["-serial", "file:/lab/serial.log"],
    ...["-drive", `file=/lab/${disk},format=qcow2,if=virtio,discard=unmap,cache=unsafe`],
    ...["-drive", `file=/lab/${payload},format=raw,if=virtio,readonly=on`],
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

/** A file system with this checkout, and with kernel, image and Firecracker where there are any; or an empty drive. */
async function makePayload(path: string, filled: boolean): Promise<void> {
  rmSync(path, { force: true });
  const firecracker = process.env.BHATTI_FIRECRACKER_DIR ?? "";
  const base = `${BASE}/mnt/base`;
  const script = `
    umask 022
    truncate -s ${PAYLOAD} "$OUT"
    [ -n "$FILLED" ] || exit 0
    mount --make-rprivate /
    at=$(mktemp -d)
    trap 'umount -R "$at"; rmdir "$at"' EXIT
    mount -t tmpfs tmpfs "$at"
    give() { mkdir -p "$at/$2"; mount --bind "$1" "$at/$2"; }
    give "$SRC" src
    if [ -e "$BASE/kernel/current/manifest.json" ]; then
      # Without the packages, which nobody needs once a kernel is built.
      version=$(readlink "$BASE/kernel/current")
      give "$BASE/kernel/$version" "base/kernel/$version"
      ln -s "$version" "$at/base/kernel/current"
      give "$BASE/images" base/images
    fi
    [ -z "$FIRECRACKER" ] || give "$FIRECRACKER" firecracker
    mke2fs -q -t ext4 -O ^has_journal -m 0 -E nodiscard -d "$at" "$OUT"`;
  const made = Bun.spawn(["unshare", "--mount", "bash", "-euc", script], {
    stdin: "ignore",
    stdout: "inherit",
    stderr: "inherit",
    env: {
      PATH: `${process.env.PATH}:/usr/sbin:/sbin`,
      OUT: path,
      FILLED: filled ? "1" : "",
      SRC: ROOT,
      BASE: base,
      FIRECRACKER: firecracker,
    },
  });
  if ((await made.exited) !== 0) throw new Error("the lab's files cannot be put onto a drive");
  if (statSync(path).size === 0) throw new Error("the lab's drive is empty");
}

/** One command for QEMU's monitor; resolves with what it printed, at the next prompt. */
async function monitor(path: string, command: string): Promise<string> {
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
  if (/^error/im.test(text)) throw new Error(`monitor: ${text}`);
  return text;
}
