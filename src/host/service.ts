/** The daemon as a service: a systemd unit where systemd is PID 1, a supervised background process anywhere else. */
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import unit from "../../packaging/bhatti.service" with { type: "text" };
import { releaseSignals } from "../cli/base/signals.ts";
import { Http } from "../client/http.ts";
import { daemonFile } from "../daemon/files.ts";
import { loadConfig } from "../daemon/load-config.ts";
import { run } from "../lib/run.ts";
import { makePrivate, mendPermissions } from "../storage/permissions.ts";
import { rotate } from "./rotate.ts";
import { mountStorage, storageDir } from "./storage.ts";

const BINARY = "/usr/local/bin/bhatti";
const UNIT = "/etc/systemd/system/bhatti.service";
const PID_FILE = "/run/bhatti-supervisor.pid";
const LOG_DIR = "/var/log/bhatti";
const LOG = `${LOG_DIR}/bhatti.log`;
const MAX_LOG = 20 * 1024 * 1024;
const ROTATE_EVERY_MS = 30_000;
const START_MS = 120_000;

const systemd = (): boolean => existsSync("/run/systemd/system");

/** Starts, or restarts when `restart`; returns when the API answers. */
export async function startService(restart = false): Promise<void> {
  if (systemd()) {
    writeFileSync(UNIT, unit);
    await run(["systemctl", "daemon-reload"]);
    await run(["systemctl", "enable", "--quiet", "bhatti"]);
    await run(["systemctl", restart ? "restart" : "start", "bhatti"]);
  } else {
    if (restart) await stopService("SIGTERM");
    if (!supervisor()) {
      await stopOrphan("SIGTERM");
      mkdirSync(LOG_DIR, { recursive: true, mode: 0o700 });
      const log = openSync(LOG, "a", 0o600);
      const child = Bun.spawn([BINARY, "host", "supervise"], {
        stdin: "ignore",
        stdout: log,
        stderr: log,
        cwd: "/",
        detached: true,
      });
      child.unref();
      closeSync(log);
    }
  }
  await answering();
}

/** SIGTERM leaves VMs running; SIGUSR2 saves them first. */
export async function stopService(signal: "SIGTERM" | "SIGUSR2"): Promise<void> {
  if (systemd() && existsSync(UNIT)) {
    if (signal === "SIGUSR2")
      await run(["systemctl", "kill", "--kill-whom=main", "-s", "SIGUSR2", "bhatti"]).catch(() => {});
    await run(["systemctl", "stop", "bhatti"]).catch(() => {});
    return;
  }
  const pid = supervisor();
  if (pid) {
    process.kill(pid, signal);
    for (let i = 0; i < 1500 && supervisor(); i++) await Bun.sleep(100);
  }
  await stopOrphan(signal);
}

/** A daemon whose supervisor was killed: nobody else ends it, and a second one cannot have the data. */
async function stopOrphan(signal: "SIGTERM" | "SIGUSR2"): Promise<void> {
  const pid = orphan();
  if (!pid) return;
  process.kill(pid, signal);
  for (let i = 0; i < 1500 && orphan(); i++) await Bun.sleep(100);
}

/** Pid of the daemon that runs, or 0; asked where no supervisor is. */
function orphan(): number {
  try {
    const { pid } = JSON.parse(readFileSync(daemonFile(loadConfig().dataDir), "utf8")) as { pid: number };
    const [program, word] = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
    return program?.endsWith("/bhatti") && word === "serve" ? pid : 0;
  } catch {
    return 0;
  }
}

export async function removeService(): Promise<void> {
  if (existsSync(UNIT)) {
    await run(["systemctl", "disable", "--quiet", "bhatti"]).catch(() => {});
    await rm(UNIT, { force: true });
    await run(["systemctl", "daemon-reload"]).catch(() => {});
  }
  await rm(PID_FILE, { force: true });
}

/** "running", with the supervisor's pid where there is one, or "stopped". */
export function serviceStatus(): string {
  const pid = supervisor();
  if (pid) return `running (supervisor ${pid})`;
  if (!systemd() && orphan())
    return `running (daemon ${orphan()}, without a supervisor: bhatti host service restart)`;
  if (systemd() && existsSync(UNIT))
    return Bun.spawnSync(["systemctl", "is-active", "bhatti"]).stdout.toString().trim();
  return "stopped";
}

/** Pid of the live supervisor, or 0. */
function supervisor(): number {
  try {
    const pid = Number(readFileSync(PID_FILE, "utf8"));
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("supervise") ? pid : 0;
  } catch {
    return 0;
  }
}

async function answering(): Promise<void> {
  const { dataDir } = loadConfig();
  const end = Date.now() + START_MS;
  while (Date.now() < end) {
    try {
      const { url } = JSON.parse(readFileSync(daemonFile(dataDir), "utf8")) as { url: string };
      // Through the client: a proxy of the environment has nothing to say about this host.
      await new Http({ url }).request("GET", "/health", { timeoutMs: 1000 });
      return;
    } catch {}
    await Bun.sleep(50);
  }
  throw new Error(`the daemon does not answer; see ${systemd() ? "journalctl -u bhatti" : LOG}`);
}

/** A disk without room for a new file is no reason not to run. */
function logFile(): number | "ignore" {
  try {
    rotate(LOG, MAX_LOG);
    return openSync(LOG, "a", 0o600);
  } catch {
    return "ignore";
  }
}

/** Runs the daemon again whenever it dies, with a growing pause; passes signals on; keeps the log bounded. */
export async function supervise(): Promise<number> {
  // The command line ends at a signal; a supervisor passes it on and waits for its daemon.
  releaseSignals();
  makePrivate();
  mendPermissions(LOG_DIR);
  if (supervisor() && supervisor() !== process.pid) throw new Error("a supervisor runs already");
  writeFileSync(PID_FILE, String(process.pid));
  let stopping = false;
  let child: Bun.Subprocess | null = null;
  for (const signal of ["SIGTERM", "SIGINT", "SIGUSR2"] as const) {
    process.on(signal, () => {
      stopping = true;
      child?.kill(signal === "SIGINT" ? "SIGTERM" : signal);
    });
  }
  const watching = setInterval(() => rotate(LOG, MAX_LOG), ROTATE_EVERY_MS);
  for (let pause = 500; !stopping; pause = Math.min(pause * 2, 30_000)) {
    const began = Date.now();
    await mountStorage({ dataDir: loadConfig().dataDir, storage: storageDir() });
    const log = logFile();
    child = Bun.spawn([process.execPath, "serve"], { stdin: "ignore", stdout: log, stderr: log, cwd: "/" });
    if (log !== "ignore") closeSync(log);
    await child.exited;
    if (Date.now() - began > 60_000) pause = 250;
    if (!stopping) await Bun.sleep(pause);
  }
  clearInterval(watching);
  await rm(PID_FILE, { force: true });
  return 0;
}
