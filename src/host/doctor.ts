/** `bhatti doctor`: every prerequisite in one line each, with what to do about it. */
import { accessSync, constants, existsSync, readFileSync, statfsSync } from "node:fs";
import { ApiError } from "../client/error.ts";
import { Http } from "../client/http.ts";
import type { Config } from "../daemon/config.ts";
import { daemonFile } from "../daemon/files.ts";
import { loadConfig } from "../daemon/load-config.ts";
import { chooseEngine, FIRECRACKER_DIR } from "../engine/choose.ts";
import { findBinaries, supportedUntil } from "../engine/firecracker/binaries.ts";
import { Cgroups } from "../engine/host/cgroup.ts";
import { createKernels } from "../kernel/kernels.ts";
import { run } from "../lib/run.ts";
import { detectForeignDrop } from "../network/create.ts";
import { createStorage } from "../storage/create.ts";
import { openToOthers } from "../storage/permissions.ts";
import { imageOf, isAllocated, reserveDir } from "../storage/reserve.ts";
import { levelsOf } from "../storage/watermark.ts";
import { missingPrograms, PROGRAMS } from "./programs.ts";
import { loopFile, storageDir } from "./storage.ts";

export interface Check {
  id: string;
  name: string;
  status: "ok" | "warn" | "fail";
  detail: string;
  remedy?: string;
}

/** A check that throws is a failed one. */
type Probe = () => Promise<Omit<Check, "id" | "name">>;

const ok = (detail: string) => ({ status: "ok" as const, detail });
const warn = (detail: string, remedy: string) => ({ status: "warn" as const, detail, remedy });
const fail = (detail: string, remedy: string) => ({ status: "fail" as const, detail, remedy });

export async function runDoctor(): Promise<Check[]> {
  const config = loadConfig();
  const probes: [string, string, Probe][] = [
    [
      "root",
      "privileges",
      async () =>
        process.getuid?.() === 0
          ? ok("running as root")
          : warn("not root: some checks are limited", "sudo bhatti doctor"),
    ],
    ["programs", "programs", programs],
    ["kernel", "guest kernel", async () => ok(createKernels(config.dataDir).current().version)],
    ["image", "minimal image", async () => image(config.dataDir)],
    ["engine", "engine", async () => engine(config)],
    ["firecracker", "Firecracker", async () => firecracker(config)],
    ["storage", "storage", async () => storage(config.dataDir)],
    ["space", "disk space", async () => space(config.dataDir)],
    ["reserve", "memory reserve", async () => reserve(config.dataDir)],
    ["private", "files are private", async () => isPrivate(config.dataDir)],
    [
      "cgroups",
      "cgroup limits",
      async () =>
        new Cgroups().available()
          ? ok("cgroup v2 with cpu, memory and pids")
          : warn(
              "no cgroup v2 controllers: VMs have no CPU and memory limits of the host",
              "boot the host with the unified cgroup hierarchy (systemd's default)",
            ),
    ],
    ["firewall", "firewall", firewall],
    [
      "tun",
      "TAP device",
      async () =>
        existsSync("/dev/net/tun") ? ok("/dev/net/tun") : fail("/dev/net/tun is missing", "modprobe tun"),
    ],
    ["daemon", "daemon", async () => daemon(config.dataDir)],
    ["key", "API key", key],
  ];
  const checks: Check[] = [];
  for (const [id, name, probe] of probes) {
    const result = await probe().catch((error: unknown) =>
      fail(error instanceof Error ? error.message : String(error), "sudo ./install.sh"),
    );
    checks.push({ id, name, ...result });
  }
  return checks;
}

async function programs() {
  const missing = missingPrograms();
  if (missing.length === 0) return ok(`all ${PROGRAMS.filter((p) => p.for === "product").length} found`);
  const packages = [...new Set(missing.map((program) => program.package))];
  return fail(
    `missing: ${missing.map((program) => program.name).join(", ")}`,
    `apt-get install ${packages.join(" ")}`,
  );
}

async function image(dataDir: string) {
  return existsSync(`${dataDir}/images/minimal.ext4`)
    ? ok(`${dataDir}/images/minimal.ext4`)
    : fail("not installed", "sudo bhatti host image minimal");
}

async function engine({ engine: wanted, dataDir }: Config) {
  const { engine, accel, why } = await chooseEngine(wanted, dataDir, createKernels(dataDir).current());
  return accel === "kvm"
    ? ok(`${engine} with KVM, ${isNested() ? "nested" : "the machine's own"} (${why})`)
    : warn(
        `${engine} with emulation (${why})`,
        "for native speed use a machine with working KVM (bare metal or nested virtualisation)",
      );
}

/** Whether it is there, and whether its project still repairs this release. */
async function firecracker({ engine: wanted }: Config) {
  const remedy =
    "sudo ./install.sh --firecracker release, or --firecracker DIR on a machine without a network";
  if (!existsSync(FIRECRACKER_DIR))
    return wanted === "firecracker" ? fail("not installed", remedy) : ok("not installed");
  const { version } = findBinaries(FIRECRACKER_DIR);
  const until = supportedUntil(version);
  if (!until)
    return warn(`${version}: this version of bhatti does not know how long it is supported`, remedy);
  return until >= new Date().toISOString().slice(0, 10)
    ? ok(`${version}, supported by its project until ${until} at least`)
    : warn(
        `${version}: its project promised repairs until ${until}`,
        "install a newer release of bhatti and Firecracker",
      );
}

/** This host is a virtual machine itself: its KVM works at the pleasure of another one's. */
const isNested = (): boolean => /^flags\b.*\bhypervisor\b/m.test(readFileSync("/proc/cpuinfo", "utf8"));

async function storage(dataDir: string) {
  const { mode } = await createStorage(dataDir);
  return mode === "reflink"
    ? ok(`${dataDir} copies by reflink`)
    : warn(
        `${dataDir} has no reflink: copies are full copies`,
        "install with a loopback file (the default), or put the data on btrfs or XFS",
      );
}

async function space(dataDir: string) {
  const { freeBytes, totalBytes } = (await createStorage(dataDir)).free();
  const { low, high } = levelsOf(totalBytes);
  const gib = (n: number) => `${(n / 2 ** 30).toFixed(1)} GiB`;
  const detail = `${gib(freeBytes)} of ${gib(totalBytes)} free in ${dataDir}`;
  const remedy = "destroy sandboxes and snapshots, or give the server more disk";
  if (freeBytes < high)
    return fail(`${detail}: below ${gib(low)} the sandbox that grows most is stopped`, remedy);
  return freeBytes < 4 * low ? warn(`${detail}: little is left`, remedy) : ok(detail);
}

async function reserve(dataDir: string) {
  const dir = reserveDir(dataDir);
  const image = imageOf(dir);
  if (!image) return fail(`${dir} is not mounted`, "sudo bhatti host service start");
  if (!isAllocated(image))
    return fail(
      `${image} has holes: guest memory is not covered when the host's disk fills up`,
      "free some space and restart the daemon: sudo bhatti host service restart",
    );
  const fs = statfsSync(dir);
  const gib = (n: number) => `${(n / 2 ** 30).toFixed(1)} GiB`;
  const detail = `${gib(fs.bavail * fs.bsize)} of ${gib(fs.blocks * fs.bsize)} free, all of it allocated`;
  const data = imageOf(dataDir);
  return data && !isAllocated(data)
    ? warn(
        `${detail}; but ${data} is sparse: guests' disks share the fate of the host's`,
        "sudo ./install.sh, with enough free space on the host's disk",
      )
    : ok(detail);
}

/** Nobody but root and a sandbox's own user may open what holds a tenant's data, a key or a token. */
async function isPrivate(dataDir: string) {
  if (process.getuid?.() !== 0) return warn("only root can look", "sudo bhatti doctor");
  const places = [dataDir, loopFile(storageDir()), "/var/log/bhatti", "/root/.bhatti"];
  const open = places.flatMap((place) => [...openToOthers(place)]);
  return open.length === 0
    ? ok("data, logs and keys are root's and the sandboxes' own users' alone")
    : fail(
        `${open.length} open to other users, the first: ${open[0]}`,
        "restart the daemon, which closes its own: sudo bhatti host service restart",
      );
}

async function firewall() {
  await run(["nft", "list", "tables"]);
  const foreign = await detectForeignDrop();
  if (foreign) return warn(foreign, "see docs/network.md, Other firewalls");
  return ok("nftables works; nobody else drops forwarded packets");
}

async function daemon(dataDir: string) {
  const start = "sudo bhatti host service start";
  const file = daemonFile(dataDir);
  // Neither is its folder while nothing mounted it.
  if (!existsSync(file)) return fail("does not run", start);
  const { url } = JSON.parse(readFileSync(file, "utf8")) as { url: string };
  const answers = await new Http({ url }).request("GET", "/health", { timeoutMs: 3000 }).then(
    () => true,
    () => false,
  );
  return answers ? ok(`answers at ${url}`) : fail("does not answer", start);
}

async function key() {
  const { endpoint, home } = await import("../cli/base/config.ts");
  const file = `${home()}/.bhatti/config.yaml`;
  try {
    accessSync(file, constants.R_OK);
  } catch {
    return warn(`no ${file}`, "bhatti setup");
  }
  const { url, token } = endpoint({});
  if (!token) return fail("no key is configured", "bhatti setup");
  try {
    const me = await new Http({ url, token }).json<{ name: string }>("GET", "/me", { timeoutMs: 3000 });
    return ok(`valid: user ${me.name}`);
  } catch (error) {
    if (error instanceof ApiError) return fail("the server refuses it", "bhatti setup");
    return fail(`${url} does not answer`, "sudo bhatti host service start");
  }
}
