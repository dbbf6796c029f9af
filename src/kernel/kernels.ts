/** Installed guest kernels: `<data>/kernel/<version>/{vmlinux,initramfs,manifest.json}` and the link `current`. */
import { existsSync, readlinkSync } from "node:fs";
import type { KernelFiles } from "../engine/engine.ts";
import { AppError } from "../lib/errors.ts";

export function createKernels(dataDir: string) {
  const files = (version: string): KernelFiles => {
    const dir = `${dataDir}/kernel/${version}`;
    if (!/^[\w.+~-]+$/.test(version) || !existsSync(`${dir}/manifest.json`)) {
      throw new AppError("unavailable", `guest kernel ${version || "(none)"} is not installed`, {
        remedy: "run 'bhatti host kernel' on the server",
      });
    }
    return { version, vmlinux: `${dir}/vmlinux`, initramfs: `${dir}/initramfs` };
  };
  return {
    get: files,
    current(): KernelFiles {
      let version = "";
      try {
        version = readlinkSync(`${dataDir}/kernel/current`);
      } catch {}
      return files(version);
    },
  };
}
