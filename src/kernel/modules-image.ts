/**
 * The kernel's modules for guests: a read-only ext4 image that every sandbox of this kernel has as its last drive. The agent
 * finds it by its label and mounts it where modprobe looks. Only what is read costs anybody memory: the host's page cache has
 * it once for all.
 */
import { existsSync } from "node:fs";
import { chmod, copyFile, link, mkdir, readdir, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { hex } from "../lib/ids.ts";
import { run } from "../lib/run.ts";
import { unifyModules } from "./modules.ts";

/** What the agent looks for: lohar/internal/boot/modules_image.go. At most 16 bytes. */
const LABEL = "bhatti-modules";

const PACKED: Record<string, string[]> = {
  ".xz": ["xz", "-d"],
  ".zst": ["zstd", "-dq", "--rm"],
  ".gz": ["gzip", "-d"],
};

/**
 * Writes the image `target` from the module tree `modules` (lib/modules/<release>), uncompressed: a guest may have a modprobe
 * that knows no compression, and an emulated one unpacks slowly. Complete or not there at all.
 */
export async function buildModulesImage(target: string, modules: string): Promise<void> {
  const release = basename(modules);
  const staging = join(dirname(target), `.modules-${hex(4)}.tmp`);
  const tree = `${staging}/lib/modules/${release}`;
  try {
    await mkdir(dirname(tree), { recursive: true, mode: 0o755 });
    await run(["cp", "-a", modules, tree]);
    await unpackAll(tree);
    await unifyModules(staging);
    await run(["depmod", "-b", staging, release]);
    // Guests are somebody else: readable by all of them, and root's.
    await run(["chmod", "-R", "a+rX,go-w", tree]);
    await run(["find", tree, "-exec", "touch", "-h", "-d", "@0", "{}", "+"]);
    const image = `${staging}/image`;
    await makeImage(image, tree);
    await chmod(image, 0o644);
    await rename(image, target);
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

async function unpackAll(tree: string): Promise<void> {
  const files = await readdir(tree, { recursive: true });
  for (const [suffix, program] of Object.entries(PACKED)) {
    const packed = files.filter((file) => file.endsWith(`.ko${suffix}`)).map((file) => join(tree, file));
    for (let at = 0; at < packed.length; at += 500) await run([...program, ...packed.slice(at, at + 500)]);
  }
}

async function makeImage(image: string, tree: string): Promise<void> {
  const files = await readdir(tree, { recursive: true });
  let bytes = 0;
  for (const file of files) bytes += Math.ceil((await stat(join(tree, file))).size / 4096) * 4096 + 512;
  const mib = Math.ceil((bytes * 1.02) / 2 ** 20) + 4;
  // No journal, no reserve, no room to grow: nobody ever writes to it.
  const features = "^has_journal,^resize_inode,^metadata_csum_seed";
  const command = ["mke2fs", "-q", "-t", "ext4", "-L", LABEL, "-b", "4096", "-m", "0", "-O", features];
  command.push("-N", String(files.length + 64), "-E", "root_owner=0:0,lazy_itable_init=0");
  await run([...command, "-d", tree, image, `${mib}M`]);
}

/** The image of `release`, made once and then shared by all versions of the agent: `<dir>/modules` is one more name of it. */
export async function shareModules(tree: string, release: string, dir: string): Promise<void> {
  const shared = `${tree}/modules.ext4`;
  if (!existsSync(shared)) await buildModulesImage(shared, `${tree}/lib/modules/${release}`);
  await link(shared, `${dir}/modules`).catch(() => copyFile(shared, `${dir}/modules`));
}
