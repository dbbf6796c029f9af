/** A VMM that was taken over: any program, in the jail that a VMM gets, with what a VMM holds. */
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import type { VmmProcess, VmSpec } from "../../src/engine/engine.ts";
import { isAlive, procStat } from "../../src/engine/host/proc.ts";

/** Beyond the users of every network of tests. */
const UID = 3_999_999_000;

export interface FakeVmm extends AsyncDisposable {
  dir: string;
  spec: VmSpec;
  process: VmmProcess;
  /** The keeper's end: its exit code, null after a signal. */
  ended: Promise<number | null>;
}

/** Perl that listens on the control socket it inherited and does `talk` with each client ($c). */
export const qmpServer = (talk: string): string => `
  use Socket; $| = 1;
  open(my $s, "+<&=3") or die; listen($s, 5) or die;
  while (accept(my $c, $s)) { select((select($c), $| = 1)[0]); ${talk} }`;

/** Answers as QEMU does until `query-status`, then with `answer`. */
export const greets = `print $c qq({"QMP":{}}\\n); my $l = <$c>; my ($id) = $l =~ /"id":(\\d+)/; print $c qq({"return":{},"id":$id}\\n);`;

/** Runs `script` in place of QEMU. `dir`, `uid`: of a sandbox that exists; else new ones. */
export async function fakeVmm(
  lohar: string,
  script: string,
  options: { dir?: string; uid?: number; fsize?: number } = {},
): Promise<FakeVmm> {
  const dir = options.dir ?? mkdtempSync("/tmp/bhatti-fake-vmm-");
  const uid = options.uid ?? UID;
  for (const name of ["vm", "out"]) mkdirSync(`${dir}/${name}`, { recursive: true });
  chmodSync(`${dir}/out`, 0o755);
  const memory = `${dir}/fake-mem`;
  writeFileSync(memory, "");
  truncateSync(memory, 1 << 20);
  chownSync(memory, uid, uid);
  const keeper = Bun.spawn(
    [
      ...[lohar, "jail", "--root", `${dir}/vm`, "--uid", `${uid}`, "--gid", `${uid}`, "--out", `${dir}/out`],
      ...["--log", `${dir}/vmm.log`, "--console", `${dir}/console.log`, "--qmp", `${dir}/qmp.sock`],
      ...[
        "--bind",
        `${memory}:/mem`,
        "--fsize",
        `${options.fsize ?? 0}`,
        "--",
        "/usr/bin/perl",
        "-e",
        script,
      ],
    ],
    { stdin: "ignore", stdout: "pipe", stderr: "inherit", env: {} },
  );
  const pid = Number((await new Response(keeper.stdout).text()).trim());
  // Until then it is still the jail that is being built.
  const dropped = () => readFileSync(`/proc/${pid}/cmdline`, "latin1").startsWith("/usr/bin/perl");
  try {
    while (!dropped()) await Bun.sleep(2);
  } catch {}
  const startTime = procStat(pid)?.startTime ?? 0;
  return {
    dir,
    spec: {
      id: "fake",
      dir,
      uid,
      shape: { vcpus: 1, memoryMib: 1 },
      drives: [],
      memoryPath: memory,
    } as unknown as VmSpec,
    process: { pid, startTime },
    ended: keeper.exited.then((code) => (keeper.signalCode ? null : code)),
    async [Symbol.asyncDispose]() {
      keeper.kill("SIGKILL");
      await keeper.exited;
      for (let i = 0; i < 500 && isAlive(pid, startTime); i++) await Bun.sleep(10);
      const outlived = isAlive(pid, startTime);
      if (outlived) globalThis.process.kill(pid, "SIGKILL");
      if (!options.dir) rmSync(dir, { recursive: true, force: true });
      if (outlived) throw new Error("the VMM outlived its keeper");
    },
  };
}
