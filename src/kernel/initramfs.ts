/** The initramfs: the agent as /init and the modules a microVM needs before its root disk is there. */
import { chmod, copyFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { basename } from "node:path";
import { run } from "../lib/run.ts";

/** Loaded in this order (dependencies are put before). Built-in ones are skipped. */
const WANTED = ["virtio_mmio", "virtio_blk", "virtio_net", "virtio-rng", "virtio_balloon"];

/** Writes `<dir>/initramfs` from the module tree `modules` (lib/modules/<release>). */
export async function buildInitramfs(dir: string, modules: string, agent: string): Promise<void> {
  const root = `${dir}/initramfs.d`;
  await mkdir(`${root}/modules`, { recursive: true });
  await copyFile(agent, `${root}/init`);
  await chmod(`${root}/init`, 0o755);
  const order: string[] = [];
  for (const path of await withDependencies(modules)) {
    const name = basename(path).replace(/\.(xz|zst|gz)$/, "");
    const target = `${root}/modules/${name}`;
    if (path.endsWith(".xz")) await Bun.write(target, await bytes(["xz", "-dc", `${modules}/${path}`]));
    else if (path.endsWith(".zst"))
      await Bun.write(target, await bytes(["zstd", "-dcq", `${modules}/${path}`]));
    else if (path.endsWith(".gz"))
      await Bun.write(target, await bytes(["gzip", "-dc", `${modules}/${path}`]));
    else await copyFile(`${modules}/${path}`, target);
    order.push(name);
  }
  await writeFile(`${root}/modules/order`, `${order.join("\n")}\n`);
  const list = (await run(["find", ".", "-mindepth", "1"], { cwd: root }))
    .trim()
    .split("\n")
    .sort()
    .join("\n");
  // Owner and times are fixed, so that the same inputs give the same image.
  await run(["find", root, "-exec", "touch", "-h", "-d", "@0", "{}", "+"]);
  const archive = await bytes(
    ["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0", "--reproducible"],
    list,
    root,
  );
  await Bun.write(`${dir}/initramfs`, padded(archive));
  await run(["rm", "-rf", root]);
}

const PAGE = 4096;

/**
 * QEMU's microvm puts an initramfs into the last pages of memory, and its firmware the ACPI tables (1 to 2 KB) at the very end of
 * the last one, neither knowing of the other. An image that fills that page overwrites them: the kernel then adds up gigabytes of
 * a table with a senseless length, for minutes or for ever. One that uses only the first bytes of it leaves them alone; what is
 * after the archive is zeros, which the kernel skips.
 */
export function padded(archive: Uint8Array): Uint8Array {
  const image = new Uint8Array(Math.ceil(archive.length / PAGE) * PAGE + 4);
  image.set(archive);
  return image;
}

async function withDependencies(modules: string): Promise<string[]> {
  const needs = new Map<string, string[]>();
  for (const line of (await readFile(`${modules}/modules.dep`, "utf8")).split("\n")) {
    const [path, rest] = line.split(":");
    if (path) needs.set(path, (rest ?? "").trim().split(/\s+/).filter(Boolean));
  }
  const plain = (path: string) =>
    basename(path)
      .replace(/\.ko(\.\w+)?$/, "")
      .replaceAll("-", "_");
  const result: string[] = [];
  const add = (path: string) => {
    if (result.includes(path)) return;
    for (const dependency of [...(needs.get(path) ?? [])].reverse()) add(dependency);
    result.push(path);
  };
  for (const name of WANTED) {
    const path = [...needs.keys()].find((candidate) => plain(candidate) === name.replaceAll("-", "_"));
    if (path) add(path);
  }
  return result;
}

async function bytes(command: string[], stdin?: string, cwd?: string): Promise<Uint8Array> {
  const child = Bun.spawn(command, {
    stdin: stdin === undefined ? "ignore" : new TextEncoder().encode(stdin),
    stdout: "pipe",
    stderr: "pipe",
    ...(cwd ? { cwd } : {}),
  });
  const [out, code] = await Promise.all([new Response(child.stdout).bytes(), child.exited]);
  if (code !== 0) throw new Error(`${command[0]} failed: ${await new Response(child.stderr).text()}`);
  return out;
}
