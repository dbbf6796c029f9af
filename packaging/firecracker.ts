/**
 * Installs Firecracker and its jailer below /usr/local/lib/bhatti/firecracker, each version in a folder of its own:
 *
 *   bun packaging/firecracker.ts          the release that is pinned here, from its project
 *   bun packaging/firecracker.ts DIR      those in DIR: firecracker and jailer, or named as the release names them
 *
 * What is installed starts, is linked statically, and is of one release; a download has the hash that is written here. Says in
 * one line what it did. Ends with 1, and nothing changed, when it could not.
 */
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
} from "node:fs";
import { findBinaries } from "../src/engine/firecracker/binaries.ts";

const VERSION = "1.16.1";
/** SHA-256 of the release's archives, as the project published them on its release page. */
const RELEASE: Record<string, { name: string; sha256: string }> = {
  x64: { name: "x86_64", sha256: "382a02a869e4d6d5cb14c40577f9545e8458021ea8b0b2d3fc10ec14d9c242e6" },
  arm64: { name: "aarch64", sha256: "8d0e69f6d6f9a1724551f607f18504052c16c1828ee3d4d7b6e6c73380871e0e" },
};
const TARGET = process.env.BHATTI_FIRECRACKER_TARGET ?? "/usr/local/lib/bhatti/firecracker";
const DOWNLOAD_MS = 60_000;
const MAX_ARCHIVE = 64 << 20;

const release = RELEASE[process.arch];
if (!release) throw new Error(`there is no Firecracker for ${process.arch}`);

mkdirSync(TARGET, { recursive: true, mode: 0o755 });
const staging = mkdtempSync(`${TARGET}/.new-`);
try {
  const given = process.argv[2];
  take(given ?? (await download(staging)), staging);
  const { version } = findBinaries(staging);
  const place = `${TARGET}/${version}`;
  rmSync(`${staging}/archive`, { recursive: true, force: true });
  const before = existsSync(place) ? findBinaries(place).digest : "";
  if (before !== findBinaries(staging).digest) {
    rmSync(place, { recursive: true, force: true });
    renameSync(staging, place);
  }
  const link = `${TARGET}/.current-${process.pid}`;
  symlinkSync(version, link);
  renameSync(link, `${TARGET}/current`);
  console.log(`Firecracker ${version} in ${place}${before ? " (it was there)" : ""}`);
} catch (error) {
  console.error(`Firecracker was not installed: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
} finally {
  rmSync(staging, { recursive: true, force: true });
}

/** Copies both programs out of `from`, whatever the release calls them. */
function take(from: string, into: string): void {
  const names = readdirSync(from);
  for (const program of ["firecracker", "jailer"]) {
    const name = names.find((n) => n === program || n === `${program}-v${VERSION}-${release!.name}`);
    if (!name) throw new Error(`${from} has no ${program}`);
    copyFileSync(`${from}/${name}`, `${into}/${program}`);
    Bun.spawnSync(["chmod", "0755", `${into}/${program}`, into]);
  }
}

/** The pinned release, unpacked; nothing of it is touched before its hash is right. */
async function download(into: string): Promise<string> {
  const { name, sha256 } = release!;
  const file = `firecracker-v${VERSION}-${name}.tgz`;
  const url = `https://github.com/firecracker-microvm/firecracker/releases/download/v${VERSION}/${file}`;
  const response = await fetch(url, { signal: AbortSignal.timeout(DOWNLOAD_MS) }).catch((error: Error) => {
    throw new Error(`${url} cannot be reached (${error.message}); --firecracker DIR takes it from a folder`);
  });
  if (!response.ok) throw new Error(`${url}: status ${response.status}`);
  const bytes = await response.bytes();
  const found = new Bun.CryptoHasher("sha256").update(bytes).digest("hex");
  if (bytes.length > MAX_ARCHIVE || found !== sha256)
    throw new Error(`${file} is not the one that was published: ${found}`);
  mkdirSync(`${into}/archive`);
  const tar = Bun.spawn(
    ["tar", "-C", `${into}/archive`, "--no-same-owner", "--strip-components=1", "-xzf", "-"],
    {
      stdin: bytes,
      stderr: "pipe",
    },
  );
  if ((await tar.exited) !== 0) throw new Error(`tar: ${await new Response(tar.stderr).text()}`);
  return `${into}/archive`;
}
