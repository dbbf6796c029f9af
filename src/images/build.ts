/** Builds the `minimal` image with mmdebstrap, from the distribution's signed archive. */
import { createHash } from "node:crypto";
import { createReadStream, existsSync, readdirSync } from "node:fs";
import { mkdir, rename, stat, truncate, writeFile } from "node:fs/promises";
import hook from "../../tiers/minimal.sh" with { type: "text" };
import { hex } from "../lib/ids.ts";
import { run } from "../lib/run.ts";
import type { ImageManifest } from "./images.ts";

export type Distro = "debian" | "ubuntu";

export interface BuildImage {
  dataDir: string;
  name: string;
  distro: Distro;
  progress(text: string): void;
  force?: boolean;
}

const SUITES: Record<Distro, string> = { debian: "trixie", ubuntu: "noble" };
const PACKAGES = "iproute2,ca-certificates,sudo,curl,locales,fuse3,kmod,procps,uuid-runtime,openssl";
const SIZE_MB = 2048;
const UNSYNCED = "/etc/dpkg/dpkg.cfg.d/image-build";

/** Idempotent unless `force`. The finished image replaces an older one in one rename. */
export async function buildImage({ dataDir, name, distro, progress, force }: BuildImage): Promise<void> {
  const dir = `${dataDir}/images`;
  await mkdir(dir, { recursive: true, mode: 0o700 });
  if (!force && existsSync(`${dir}/${name}.json`) && existsSync(`${dir}/${name}.ext4`)) return;
  const keyring = "/usr/share/keyrings/ubuntu-archive-keyring.gpg";
  if (distro === "ubuntu" && !existsSync(keyring)) {
    throw new Error(
      `${keyring} is missing: install the package ubuntu-keyring (or ubuntu-archive-keyring), or use --distro debian`,
    );
  }
  await removeLeftovers(dir);
  const work = `${dir}/.${hex(4)}.tmp`;
  try {
    await mkdir(work, { recursive: true, mode: 0o700 });
    await writeFile(`${work}/hook.sh`, hook, { mode: 0o700 });
    progress(`installing packages of ${distro} ${SUITES[distro]}`);
    // What mmdebstrap mounts in the root goes with it, however it ends.
    await run([
      "unshare",
      "--mount",
      "mmdebstrap",
      "--variant=minbase",
      `--include=${PACKAGES}`,
      "--aptopt=Acquire::Languages none",
      "--dpkgopt=path-exclude=/usr/share/man/*",
      "--dpkgopt=path-exclude=/usr/share/doc/*",
      ...(distro === "ubuntu" ? ["--components=main,universe"] : []),
      // A root that is thrown away when anything fails needs no sync of every file: minutes, where the data is a loopback file.
      `--setup-hook=mkdir -p "$1"/etc/dpkg/dpkg.cfg.d && echo force-unsafe-io >"$1"${UNSYNCED}`,
      `--customize-hook=rm "$1"${UNSYNCED}`,
      `--customize-hook=${work}/hook.sh "$1"`,
      SUITES[distro],
      `${work}/root`,
    ]);
    progress("writing the file system");
    const file = `${work}/disk.ext4`;
    await writeFile(file, "");
    await truncate(file, SIZE_MB * 1024 * 1024);
    await run([
      "mke2fs",
      "-q",
      "-F",
      "-t",
      "ext4",
      "-L",
      "root",
      "-m",
      "1",
      "-E",
      "lazy_itable_init=0,lazy_journal_init=0,nodiscard",
      "-d",
      `${work}/root`,
      file,
    ]);
    progress("checksum");
    const manifest: ImageManifest = {
      name,
      distro: `${distro} ${SUITES[distro]}`,
      size: (await stat(file)).size,
      sha256: await hashOf(file),
      built_at: new Date().toISOString(),
    };
    await rename(file, `${dir}/${name}.ext4`);
    await writeFile(`${work}/manifest`, JSON.stringify(manifest, null, 2));
    await rename(`${work}/manifest`, `${dir}/${name}.json`);
  } finally {
    await run(["rm", "-rf", "--one-file-system", work]).catch(() => {});
  }
}

/** A build that was killed leaves its root; one that still runs was begun within the hour. */
async function removeLeftovers(dir: string): Promise<void> {
  for (const name of readdirSync(dir)) {
    if (!/^\.[0-9a-f]{8}\.tmp$/.test(name)) continue;
    const { mtimeMs } = await stat(`${dir}/${name}`);
    if (Date.now() - mtimeMs > 3_600_000)
      await run(["rm", "-rf", "--one-file-system", `${dir}/${name}`]).catch(() => {});
  }
}

async function hashOf(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  return hash.digest("hex");
}
