/** `bhatti host setup`: what install.sh leaves to the program. Safe to run again. */
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { ApiError } from "../client/error.ts";
import { Http } from "../client/http.ts";
import { callAdmin } from "../daemon/admin-socket.ts";
import { DEFAULTS } from "../daemon/config.ts";
import { adminSocket, daemonFile } from "../daemon/files.ts";
import { configPath, loadConfig } from "../daemon/load-config.ts";
import { loharPath } from "../daemon/programs.ts";
import { reserveChoice } from "../daemon/reserve.ts";
import { buildImage, type Distro } from "../images/build.ts";
import { installKernel } from "../kernel/install.ts";
import { account, invoker } from "../lib/user-files.ts";
import { hostMemory } from "../sandboxes/memory.ts";
import { defaultReserveMb, mountReserve } from "../storage/reserve.ts";
import type { LocalCommand, LocalResult } from "../users/local-commands.ts";
import { keyOf, saveConfig } from "./person-config.ts";
import { startService } from "./service.ts";
import { Steps } from "./step.ts";
import { prepareStorage } from "./storage.ts";

export interface SetupOptions {
  storage: string;
  loopback: boolean;
  distro: Distro;
  listen: string;
  /** Size of the reserve, MiB; 0 = by the host's memory and disk. */
  memoryPoolMb: number;
}

export async function setup(options: SetupOptions): Promise<void> {
  const steps = new Steps(6);
  const { dataDir } = existsSync(configPath()) ? loadConfig() : DEFAULTS;
  await steps.run("storage", async (note) => {
    mkdirSync("/etc/bhatti", { recursive: true });
    chmodSync("/etc/bhatti", 0o755);
    writeFileSync("/etc/bhatti/storage", `${options.storage}\n`);
    const config = { ...(existsSync(configPath()) ? loadConfig() : DEFAULTS) };
    const image = `${options.storage}/bhatti-memory.img`;
    const reserveMb =
      options.memoryPoolMb || config.memoryPoolMb || defaultReserveMb(image, hostMemory().totalMb);
    await prepareStorage({ dataDir, ...options, reserveMb }, note);
    const choice = reserveChoice(config);
    await mountReserve({ ...choice, sizeMb: existsSync(choice.image) ? 0 : reserveMb }, note);
    note(`${choice.image} is the reserve for guest memory and the database`);
  });
  await steps.run("configuration", async (note) => {
    if (!existsSync("/etc/bhatti/config.yaml")) {
      writeFileSync(
        "/etc/bhatti/config.yaml",
        `# bhatti daemon; every key is explained in docs/configuration.md\nlisten: "${options.listen}"\ndata_dir: ${dataDir}\n`,
      );
      // The client's part of it (listen) is for every user of the machine; a file that is there keeps its mode.
      chmodSync("/etc/bhatti/config.yaml", 0o644);
    }
    note("/etc/bhatti/config.yaml");
  });
  await steps.run("guest kernel", async (note) => {
    note(await installKernel({ dataDir, lohar: await loharPath(dataDir), progress: note }));
  });
  await steps.run("image minimal", (note) =>
    buildImage({ dataDir, name: "minimal", distro: options.distro, progress: note }),
  );
  await steps.run("service", async (note) => {
    await startService(true);
    note("the daemon answers");
  });
  const endpoint = await steps.run("admin user", async (note) => adminUser(dataDir, note));
  await firstSandbox(endpoint);
}

interface Endpoint {
  url: string;
  token: string;
}

/** The key is shown once, and kept in the configuration of root and of the invoking user. */
async function adminUser(dataDir: string, note: (text: string) => void): Promise<Endpoint> {
  const { url } = JSON.parse(readFileSync(daemonFile(dataDir), "utf8")) as { url: string };
  const people = [account("root"), invoker()].filter((person) => person !== null);
  const keys = await Promise.all(people.map((person) => keyOf(person)));
  const known = keys.find(Boolean);
  if (known) {
    // Through the client: a proxy of the environment is no place for the key.
    const valid = await new Http({ url, token: known }).request("GET", "/me").catch((error: unknown) => {
      if (error instanceof ApiError) return null;
      throw error;
    });
    if (valid) {
      for (const person of people) await saveConfig(person, url, known, note);
      note("the key in ~/.bhatti/config.yaml is valid: kept");
      return { url, token: known };
    }
  }
  const local = async (command: LocalCommand) => {
    const result = await callAdmin<LocalResult>(adminSocket(dataDir), command);
    if (!result) throw new Error("the daemon does not answer on its local socket");
    return result;
  };
  const { users } = await local({ op: "list" });
  const { key: token } = await local(
    users.some(({ user }) => user.name === "admin")
      ? { op: "rotate-key", name: "admin" }
      : { op: "create", name: "admin", admin: true, limits: { maxSandboxes: 50, maxSnapshots: 50 } },
  );
  for (const person of people) await saveConfig(person, url, token!, note);
  note(`API key of 'admin' (shown once; saved in ~/.bhatti/config.yaml): ${token}`);
  return { url, token: token! };
}

/** The proof: a real microVM says what it is. */
async function firstSandbox({ url, token }: Endpoint): Promise<void> {
  const http = new Http({ url, token });
  const call = (method: string, path: string, json?: unknown) =>
    http.json<Record<string, unknown>>(method, path, { json, timeoutMs: 0 });
  const timed = async <T>(work: () => Promise<T>): Promise<[T, string]> => {
    const began = performance.now();
    const value = await work();
    return [value, `${((performance.now() - began) / 1000).toFixed(2)} s`];
  };
  console.log("\nFirst sandbox");
  const [sandbox, first] = await timed(() => call("POST", "/sandboxes", {}));
  try {
    const [uname, exec] = await timed(() =>
      call("POST", `/sandboxes/${sandbox.id}/exec`, { cmd: ["uname", "-a"] }),
    );
    const [second, again] = await timed(() => call("POST", "/sandboxes", {}));
    await call("DELETE", `/sandboxes/${second.id}`);
    console.log(`      ${String(uname.stdout).trim()}`);
    console.log(`      first create (boots the template) ${first}, next create ${again}, exec ${exec}`);
  } finally {
    await call("DELETE", `/sandboxes/${sandbox.id}`);
  }
  console.log(`
bhatti is ready at ${url}. Try:
  bhatti create dev
  bhatti exec dev -- uname -a
  bhatti fork dev --count 3
  bhatti stop dev          # memory and disk are kept; the next exec wakes it
  bhatti list
  bhatti doctor`);
}
