/** `bhatti doctor --security`: what protects this host and its tenants, one line each, and what weakens it. docs/security.md */
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { home } from "../cli/base/config.ts";
import type { Config } from "../daemon/config.ts";
import { ageKeyFile, daemonFile } from "../daemon/files.ts";
import { loadConfig } from "../daemon/load-config.ts";
import { chooseEngine } from "../engine/choose.ts";
import { createKernels } from "../kernel/kernels.ts";
import type { AppError } from "../lib/errors.ts";
import { changedByOthers } from "../lib/root-only.ts";
import { run } from "../lib/run.ts";
import { Names } from "../network/names.ts";
import { readKeys } from "../secrets/key-file.ts";
import { openToOthers } from "../storage/permissions.ts";
import { bad, type Finding, good, type Host, type Verdict, weak } from "./security-finding.ts";
import { jailFindings } from "./security-jail.ts";

export const thisHost = (): Host => ({
  config: loadConfig(),
  configFile: process.env.BHATTI_CONFIG || "/etc/bhatti/config.yaml",
  program: existsSync("/usr/local/bin/bhatti") ? "/usr/local/bin/bhatti" : process.execPath,
  keyFile: `${home()}/.bhatti/config.yaml`,
  root: "",
});

type Probe = (host: Host) => Verdict | Promise<Verdict>;

const PROBES: [string, string, Probe][] = [
  ["program", "program", ({ program }) => onlyRootWrites(program, "the program that root runs")],
  ["data", "data on disk", ({ config }) => privateData(config.dataDir)],
  ["config", "configuration", ({ configFile }) => configuration(configFile)],
  ["key-file", "API key file", ({ keyFile }) => keyIsPrivate(keyFile)],
  ["secret-key", "key of secrets", ({ config }) => secretKey(config)],
  ["listen", "API address", ({ config }) => address(config.listen)],
  ["limits", "rate limits", ({ config }) => rates(config)],
  ["hypervisor", "hypervisor", ({ config }) => hypervisor(config)],
  ["firewall", "firewall", ({ config }) => firewall(config)],
  ["private-ranges", "private ranges", ({ config }) => ranges(config)],
  ["cpu", "CPU leaks", ({ root }) => cpu(root)],
  ["smt", "sibling threads", ({ root }) => smt(root)],
  ["merging", "memory merging", ({ root }) => merging(root)],
  ["swap", "swap", ({ root }) => swap(root)],
  ["kernel-addresses", "kernel addresses", ({ root }) => addresses(root)],
];

/** Never throws: what cannot be looked at is weak, and says why. */
export async function securityFindings(host = thisHost()): Promise<Finding[]> {
  const found: Finding[] = [];
  for (const [id, name, probe] of PROBES) {
    let verdict: Verdict;
    try {
      verdict = await probe(host);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      verdict = weak(
        `cannot be checked: ${why}`,
        process.getuid?.() === 0 ? undefined : "sudo bhatti doctor --security",
      );
    }
    found.push({ id, name, ...verdict });
  }
  return [...found, ...jailFindings(host)];
}

function onlyRootWrites(path: string, what: string): Verdict {
  const at = changedByOthers(path);
  return at === null
    ? good(`${path}: only root can change it`)
    : bad(`${what}: ${at} can be changed by others than root`, `chown root: ${at}; chmod go-w ${at}`);
}

function privateData(dataDir: string): Verdict {
  const open = [...openToOthers(dataDir)];
  if (open.length > 0)
    return bad(
      `${open.length} paths can be opened by other users, the first: ${open[0]}`,
      "restart the daemon: it closes them",
    );
  return good(`${dataDir}: root's and each VM's own user's alone`);
}

function configuration(file: string): Verdict {
  if (!existsSync(file)) return good(`no ${file}: the defaults`);
  const verdict = onlyRootWrites(file, "configuration");
  if (verdict.grade === "bad") return verdict;
  const secret = /^\s*auth_token\s*:/m.test(readFileSync(file, "utf8"));
  return secret && (statSync(file).mode & 0o004) !== 0
    ? bad(`${file} holds an API key and everybody can read it`, `chmod 640 ${file}`)
    : verdict;
}

function keyIsPrivate(file: string): Verdict {
  if (!existsSync(file)) return good(`no ${file}`);
  const mode = statSync(file).mode & 0o777;
  return (mode & 0o077) === 0
    ? good(`${file}: 0${mode.toString(8)}`)
    : bad(`${file} can be read by others (0${mode.toString(8)})`, `chmod 600 ${file}`);
}

async function secretKey(config: Config): Promise<Verdict> {
  const file = ageKeyFile(config);
  try {
    const [key] = await readKeys(file);
    return good(
      key ? `${file}: root's alone; public key ${key.recipient}` : `no ${file}: no secret was ever set`,
    );
  } catch (error) {
    const { message, remedy } = error as AppError;
    return bad(message, remedy ?? "put back its copy: docs/secrets.md");
  }
}

function address(listen: string): Verdict {
  const host = listen.slice(0, listen.lastIndexOf(":")).replace(/^\[|\]$/g, "");
  if (host === "localhost" || host === "::1" || host.startsWith("127."))
    return good(`${listen}: this host alone`);
  return bad(
    `${listen || ":"} is reached from other machines, and keys travel unencrypted`,
    "listen on 127.0.0.1 and put a reverse proxy with TLS, or an SSH or VPN tunnel, in front",
  );
}

const rates = ({ rateFactor }: Config): Verdict =>
  rateFactor > 0
    ? good(`factor ${rateFactor}`)
    : weak("rate_factor is 0: a user may call as often as it can", "rate_factor: 1");

async function hypervisor({ engine, dataDir }: Config): Promise<Verdict> {
  const { accel, why } = await chooseEngine(engine, dataDir, createKernels(dataDir).current());
  return accel === "kvm"
    ? good(`KVM (${why})`)
    : weak(
        `software emulation (${why}): QEMU's own developers do not count it as a barrier; the jail is the only one`,
        "hostile guests belong on a machine with KVM",
      );
}

async function firewall(config: Config): Promise<Verdict> {
  const { table } = new Names(config.networkPrefix, config.networkBase);
  const remedy = "bhatti host service restart: the daemon puts its rules back";
  if (!existsSync(daemonFile(config.dataDir)))
    return weak("the daemon is not running: no rules are in force");
  const rules = await Promise.all(
    ["inet", "bridge"].map((family) => run(["nft", "list", "table", family, table]).catch(() => "")),
  );
  if (rules.includes("")) return bad(`table ${table} is missing: guests are not held back`, remedy);
  const missing = [
    ["no limit of DNS queries", /dns_rate/],
    ["no limit of connections", /ct count over/],
    ["no closed ranges", /set never/],
    ["no check of sender addresses", /set ports/],
  ].filter(([, rule]) => !(rule as RegExp).test(rules.join("\n")));
  if (missing.length > 0) return bad(missing.map(([text]) => text).join(", "), remedy);
  return good(
    `table ${table}: other tenants, the host, metadata services closed; DNS and connections limited`,
  );
}

const ranges = ({ allowedPrivate }: Config): Verdict =>
  allowedPrivate.length === 0
    ? good("all closed to guests")
    : weak(`guests reach ${allowedPrivate.join(", ")}`, "allowed_private: only what they must reach");

function read(root: string, path: string): string | null {
  try {
    return readFileSync(`${root}${path}`, "utf8").trim();
  } catch {
    return null;
  }
}

function cpu(root: string): Verdict {
  const dir = `${root}/sys/devices/system/cpu/vulnerabilities`;
  if (!existsSync(dir)) return weak("the kernel does not tell");
  const open = readdirSync(dir).filter((name) => /^Vulnerable/.test(read(dir, `/${name}`) ?? ""));
  return open.length === 0
    ? good("the kernel holds back every one that it knows")
    : weak(`not held back: ${open.join(", ")}`, "boot without mitigations=off, with current microcode");
}

const smt = (root: string): Verdict =>
  read(root, "/sys/devices/system/cpu/smt/active") === "1"
    ? weak(
        "two guests can share a core at the same time and measure each other",
        "nosmt on the kernel's command line, for hostile tenants",
      )
    : good("no core is shared at the same time");

const merging = (root: string): Verdict =>
  read(root, "/sys/kernel/mm/ksm/run") === "1"
    ? weak(
        "equal pages of guests are merged: one can find out what another holds",
        "echo 2 > /sys/kernel/mm/ksm/run",
      )
    : good("off");

function swap(root: string): Verdict {
  const areas = (read(root, "/proc/swaps") ?? "")
    .split("\n")
    .slice(1)
    .map((line) => line.split(/\s+/)[0] ?? "")
    .filter((name) => name !== "" && !/zram|dm-|mapper/.test(name));
  return areas.length === 0
    ? good("no memory of guests goes to a plain disk by swapping")
    : weak(`${areas.join(", ")}: what guests had in memory may outlive them there`, "encrypt it, or swapoff");
}

const addresses = (root: string): Verdict =>
  read(root, "/proc/sys/kernel/kptr_restrict") === "0" &&
  read(root, "/proc/sys/kernel/dmesg_restrict") !== "1"
    ? weak(
        "a process that got out of its jail reads where the kernel lies",
        "sysctl kernel.kptr_restrict=1 kernel.dmesg_restrict=1",
      )
    : good("hidden");
