/** Every protection is seen when it is there, and missed when it is not: each case breaks one thing. */
import { afterAll, beforeEach, expect, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname } from "node:path";
import { DEFAULTS } from "../daemon/config.ts";
import { securityFindings } from "./security.ts";
import type { Host } from "./security-finding.ts";

const top = mkdtempSync("/var/tmp/bhatti-security-");
let host: Host;
let dir: string;
afterAll(() => rmSync(top, { recursive: true, force: true }));

beforeEach(() => {
  dir = mkdtempSync(`${top}/host-`);
  for (const folder of [
    "data",
    "etc",
    "bin",
    "home",
    "proc/self/ns",
    "proc/sys/kernel",
    "sys/devices/system/cpu/vulnerabilities",
  ])
    mkdirSync(`${dir}/${folder}`, { recursive: true, mode: 0o755 });
  chmodSync(`${dir}/data`, 0o700);
  put("data/state.db", "", 0o600);
  put("etc/config.yaml", "listen: 127.0.0.1:8080\n", 0o644);
  put("bin/bhatti", "", 0o755);
  put("home/key", "auth_token: x\n", 0o600);
  put("proc/swaps", "Filename Type\n");
  put("proc/sys/kernel/kptr_restrict", "1\n");
  put("sys/devices/system/cpu/vulnerabilities/spectre", "Mitigation: all\n");
  for (const kind of ["pid", "mnt", "net", "ipc"]) symlinkSync(`${kind}:[1]`, `${dir}/proc/self/ns/${kind}`);
  host = {
    config: { ...DEFAULTS, dataDir: `${dir}/data` },
    configFile: `${dir}/etc/config.yaml`,
    program: `${dir}/bin/bhatti`,
    keyFile: `${dir}/home/key`,
    root: dir,
  };
});

function put(path: string, text: string, mode = 0o644): void {
  mkdirSync(dirname(`${dir}/${path}`), { recursive: true });
  writeFileSync(`${dir}/${path}`, text);
  chmodSync(`${dir}/${path}`, mode);
}

const grade = async (id: string) =>
  (await securityFindings(host)).find((finding) => finding.id === id)?.grade;

/** What is ok before and what it becomes. (/var/tmp has the sticky bit, as the probe knows.) */
const BREAKS: [string, "weak" | "bad", () => void][] = [
  ["program", "bad", () => chmodSync(`${dir}/bin`, 0o777)],
  ["program", "bad", () => chownSync(`${dir}/bin/bhatti`, 1000, 1000)],
  ["data", "bad", () => chmodSync(`${dir}/data/state.db`, 0o644)],
  ["config", "bad", () => chmodSync(`${dir}/etc/config.yaml`, 0o666)],
  ["config", "bad", () => put("etc/config.yaml", "auth_token: x\n")],
  ["key-file", "bad", () => chmodSync(`${dir}/home/key`, 0o644)],
  ["listen", "bad", () => Object.assign(host.config, { listen: ":8080" })],
  ["listen", "bad", () => Object.assign(host.config, { listen: "192.0.2.1:8080" })],
  ["limits", "weak", () => Object.assign(host.config, { rateFactor: 0 })],
  ["private-ranges", "weak", () => Object.assign(host.config, { allowedPrivate: ["10.0.0.0/8"] })],
  ["cpu", "weak", () => put("sys/devices/system/cpu/vulnerabilities/mds", "Vulnerable\n")],
  ["smt", "weak", () => put("sys/devices/system/cpu/smt/active", "1\n")],
  ["merging", "weak", () => put("sys/kernel/mm/ksm/run", "1\n")],
  ["swap", "weak", () => put("proc/swaps", "Filename Type\n/dev/sda2 partition\n")],
  ["kernel-addresses", "weak", () => put("proc/sys/kernel/kptr_restrict", "0\n")],
  ["secret-key", "bad", () => put("data/age.key", "not a key\n", 0o600)],
];

test.if(process.getuid?.() === 0)("each protection, there and away", async () => {
  for (const [id, wanted, damage] of BREAKS) {
    const whole = host.config;
    host.config = { ...whole };
    expect([id, await grade(id)]).toEqual([id, "ok"]);
    damage();
    expect([id, await grade(id)]).toEqual([id, wanted]);
    // As before, for the next one.
    host.config = whole;
    chmodSync(`${dir}/bin`, 0o755);
    chownSync(`${dir}/bin/bhatti`, 0, 0);
    chmodSync(`${dir}/data/state.db`, 0o600);
    chmodSync(`${dir}/home/key`, 0o600);
    put("etc/config.yaml", "listen: 127.0.0.1:8080\n", 0o644);
  }
});

function vmm(pid: number, change: { status?: string; ns?: string; core?: string } = {}): void {
  mkdirSync(`${dir}/proc/${pid}/ns`, { recursive: true });
  const caps = ["Inh", "Prm", "Eff", "Bnd", "Amb"].map((set) => `Cap${set}:\t0000000000000000`).join("\n");
  put(
    `proc/${pid}/status`,
    `State:\tS\nUid:\t200001\t200001\n${caps}\nNoNewPrivs:\t1\nSeccomp:\t2\n${change.status ?? ""}`,
  );
  for (const kind of ["pid", "mnt", "net", "ipc"]) {
    rmSync(`${dir}/proc/${pid}/ns/${kind}`, { force: true });
    symlinkSync(change.ns === kind ? `${kind}:[1]` : `${kind}:[2]`, `${dir}/proc/${pid}/ns/${kind}`);
  }
  put(
    `proc/${pid}/limits`,
    `Max core file size        0   ${change.core ?? "0"}  bytes\nMax open files   1024  1024 files\nMax processes  256 256 processes\n`,
  );
  put(`proc/${pid}/cgroup`, "0::/bhatti/x\n");
}

test("a VMM that lacks a layer is named", async () => {
  vmm(41);
  vmm(42);
  for (const id of [
    "jail-user",
    "jail-seccomp",
    "jail-processes",
    "jail-files",
    "jail-network",
    "jail-ipc",
    "jail-limits",
  ])
    expect([id, await grade(id)]).toEqual([id, "ok"]);
  const without = async (
    id: string,
    change: Parameters<typeof vmm>[1],
    edit?: (status: string) => string,
  ) => {
    vmm(42, change);
    if (edit) put("proc/42/status", edit(readFileSync(`${dir}/proc/42/status`, "utf8")));
    expect([id, await grade(id)]).toEqual([id, "bad"]);
    vmm(42);
  };
  await without("jail-user", {}, (text) => text.replace("CapEff:\t0", "CapEff:\t1"));
  await without("jail-user", {}, (text) => text.replace("NoNewPrivs:\t1", "NoNewPrivs:\t0"));
  await without("jail-seccomp", {}, (text) => text.replace("Seccomp:\t2", "Seccomp:\t0"));
  for (const [id, ns] of [
    ["jail-processes", "pid"],
    ["jail-files", "mnt"],
    ["jail-network", "net"],
    ["jail-ipc", "ipc"],
  ] as const)
    await without(id, { ns });
  await without("jail-limits", { core: "unlimited" });
});
