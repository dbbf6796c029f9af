/** Installed guest kernels: `<data>/kernel/<version>/{vmlinux,initramfs,modules,manifest.json}` and the link `current`. */
import { existsSync, readlinkSync } from "node:fs";
import type { KernelFiles } from "../engine/engine.ts";
import { AppError } from "../lib/errors.ts";

export function createKernels(dataDir: string) {
  /** Also where the kernel is missing: then there is none. */
  const modules = (version: string): string | undefined => {
    const path = `${dataDir}/kernel/${version}/modules`;
    return /^[\w.+~-]+$/.test(version) && existsSync(path) ? path : undefined;
  };
  const files = (version: string): KernelFiles => {
    const dir = `${dataDir}/kernel/${version}`;
    if (!/^[\w.+~-]+$/.test(version) || !existsSync(`${dir}/manifest.json`)) {
      throw new AppError("unavailable", `guest kernel ${version || "(none)"} is not installed`, {
        remedy: "run 'bhatti host kernel' on the server",
      });
    }
    return {
      version,
      vmlinux: `${dir}/vmlinux`,
      initramfs: `${dir}/initramfs`,
      modules: modules(version),
    };
  };
  return {
    get: files,
    modules,
    current(): KernelFiles {
      let version = "";
      try {
        version = readlinkSync(`${dataDir}/kernel/current`);
      } catch {}
      return files(version);
    },
  };
}
