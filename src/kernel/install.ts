/** Fetches the distribution's cloud kernel through apt (which verifies the signatures) and makes it bootable for guests. */
import { existsSync, readlinkSync } from "node:fs";
import { mkdir, readdir, readFile, rename, rm, symlink, writeFile } from "node:fs/promises";
import { sha256 } from "../lib/hash.ts";
import { hex } from "../lib/ids.ts";
import { run } from "../lib/run.ts";
import { buildInitramfs } from "./initramfs.ts";
import { unifyModules } from "./modules.ts";
import { shareModules } from "./modules-image.ts";
import { unpackKernel } from "./unpack.ts";

export interface InstallKernel {
  dataDir: string;
  /** The agent's binary. */
  lohar: string;
  progress(text: string): void;
  /** Package to use; default: the newest that apt knows. */
  package?: string;
}

/**
 * For the start of the daemon: the installed kernel with this agent. Asks apt for nothing, so that a server starts without
 * network and package lists. Throws when no kernel is installed.
 */
export async function refreshAgent(options: InstallKernel): Promise<string> {
  const manifest = `${options.dataDir}/kernel/current/manifest.json`;
  const { package: name } = await readFile(manifest, "utf8").then(
    (text) => JSON.parse(text) as { package: string },
    () => {
      throw new Error("no guest kernel is installed: run 'sudo bhatti host kernel'");
    },
  );
  return installKernel({ ...options, package: name });
}

/**
 * Idempotent: the same kernel with the same agent is not built again. Version: `<release>-<8 hex of the agent>`. Older
 * versions stay while a sandbox or snapshot needs them (collect.ts).
 */
export async function installKernel({
  dataDir,
  lohar,
  progress,
  package: wanted,
}: InstallKernel): Promise<string> {
  const root = `${dataDir}/kernel`;
  await mkdir(root, { recursive: true, mode: 0o700 });
  const agent = (await sha256(lohar)).slice(0, 8);
  const name = wanted ?? (await newestPackage());
  const release = name.replace(/^linux-image-/, "");
  const version = `${release}-${agent}`;
  if (!existsSync(`${root}/${version}/manifest.json`)) {
    const staging = `${root}/.${hex(4)}.tmp`;
    try {
      const tree = await unpacked(root, name, release, progress);
      await mkdir(staging, { recursive: true, mode: 0o700 });
      progress(`unpacking kernel ${release}`);
      await unpackKernel(`${tree}/boot/vmlinuz-${release}`, `${staging}/vmlinux`);
      progress("building initramfs");
      await buildInitramfs(staging, `${tree}/lib/modules/${release}`, lohar);
      progress("building the image of modules");
      await shareModules(tree, release, staging);
      const manifest = {
        version,
        package: name,
        release,
        agent,
        vmlinux: await sha256(`${staging}/vmlinux`),
        initramfs: await sha256(`${staging}/initramfs`),
      };
      await writeFile(`${staging}/manifest.json`, JSON.stringify(manifest, null, 2));
      await run(["chmod", "-R", "a+rX", staging]);
      await rename(staging, `${root}/${version}`);
    } finally {
      await rm(staging, { recursive: true, force: true });
    }
  }
  if (currentOf(root) !== version) {
    const link = `${root}/.current-${hex(4)}`;
    await symlink(version, link);
    await rename(link, `${root}/current`);
  }
  return version;
}

function currentOf(root: string): string {
  try {
    return readlinkSync(`${root}/current`);
  } catch {
    return "";
  }
}

/** Newest signed 6.12 cloud kernel that apt knows; 6.1 hangs on newer QEMU. */
async function newestPackage(): Promise<string> {
  const names = (await run(["apt-cache", "pkgnames", "linux-image-6.12"]))
    .split("\n")
    .filter((name) => /^linux-image-6\.12\.\d+\+deb\d+-cloud-amd64$/.test(name));
  const serial = (name: string) => Number(name.match(/6\.12\.(\d+)/)?.[1] ?? 0);
  names.sort((a, b) => serial(b) - serial(a));
  for (const name of names) {
    const policy = await run(["apt-cache", "policy", name]);
    if (!/Candidate: \(none\)/.test(policy) && /Candidate:/.test(policy)) return name;
  }
  throw new Error(
    "apt knows no Linux 6.12 cloud kernel (Debian 12 with security updates or Debian 13 has one): run apt-get update",
  );
}

/** The package's content, unpacked once and kept (modules for guests). */
async function unpacked(
  root: string,
  name: string,
  release: string,
  progress: (text: string) => void,
): Promise<string> {
  const tree = `${root}/packages/${release}`;
  if (existsSync(`${tree}/boot/vmlinuz-${release}`)) return tree;
  const staging = `${root}/packages/.${hex(4)}.tmp`;
  await mkdir(`${staging}/tree`, { recursive: true });
  try {
    progress(`downloading ${name}`);
    await run(["apt-get", "download", name], { cwd: staging });
    const file = (await readdir(staging)).find((entry) => entry.endsWith(".deb"));
    if (!file) throw new Error(`apt-get download ${name} brought nothing`);
    await run(["dpkg-deb", "-x", `${staging}/${file}`, `${staging}/tree`]);
    await unifyModules(`${staging}/tree`);
    if (!existsSync(`${staging}/tree/lib/modules/${release}/modules.dep`)) {
      await run(["depmod", "-b", `${staging}/tree`, release]);
    }
    await rm(tree, { recursive: true, force: true });
    await rename(`${staging}/tree`, tree);
    return tree;
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}
