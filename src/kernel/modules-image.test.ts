import { expect, test } from "bun:test";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { run } from "../lib/run.ts";
import { shareModules } from "./modules-image.ts";

const RELEASE = "6.12.1+deb13-cloud-amd64";

test("the image of a package's modules: unpacked, labelled, readable, made once and shared", async () => {
  const dir = mkdtempSync("/tmp/bhatti-modules-");
  const modules = `${dir}/tree/lib/modules/${RELEASE}`;
  const mnt = `${dir}/mnt`;
  try {
    mkdirSync(`${modules}/kernel/fs`, { recursive: true });
    for (const file of ["modules.order", "modules.builtin"]) writeFileSync(`${modules}/${file}`, "");
    writeFileSync(`${modules}/kernel/fs/plain.ko`, "one");
    writeFileSync(`${modules}/kernel/fs/packed.ko`, "two");
    await run(["xz", `${modules}/kernel/fs/packed.ko`]);
    for (const version of ["a", "b"]) {
      mkdirSync(`${dir}/${version}`);
      await shareModules(`${dir}/tree`, RELEASE, `${dir}/${version}`);
    }
    const image = statSync(`${dir}/a/modules`);
    expect([image.mode & 0o777, image.ino]).toEqual([0o644, statSync(`${dir}/b/modules`).ino]);
    // Where the agent looks for the label: 0x78 of the super block, which begins at 1024.
    const label = readFileSync(`${dir}/a/modules`).toString("latin1", 1024 + 0x78, 1024 + 0x88);
    expect(label.replaceAll("\0", "")).toBe("bhatti-modules");
    mkdirSync(mnt);
    await run(["mount", "-o", "loop,ro", `${dir}/a/modules`, mnt]);
    expect(readdirSync(`${mnt}/kernel/fs`).sort()).toEqual(["packed.ko", "plain.ko"]);
    expect(readFileSync(`${mnt}/kernel/fs/packed.ko`, "utf8")).toBe("two");
    expect(existsSync(`${mnt}/modules.dep`)).toBe(true);
    expect(statSync(mnt).mode & 0o777).toBe(0o755);
    expect(readdirSync(`${dir}/tree`).sort()).toEqual(["lib", "modules.ext4"]);
  } finally {
    await run(["umount", mnt]).catch(() => {});
    rmSync(dir, { recursive: true, force: true });
  }
}, 60_000);
