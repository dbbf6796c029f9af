/** The agent's binary: embedded in the compiled executable, `dist/lohar` in a checkout. */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { chmod, mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { hex } from "../lib/ids.ts";
import { embedded } from "./lohar-asset.ts";

/** Puts the binary where the kernel can execute it (`<data>/bin/lohar-<hash>`) and returns the path. */
export async function loharPath(dataDir: string): Promise<string> {
  const checkout = `${import.meta.dir}/../../dist/lohar`;
  const source = process.env.BHATTI_LOHAR ?? embedded ?? checkout;
  const bytes = await readFile(source).catch(() => {
    throw new Error(`the guest agent is missing (${source}): run lohar/build.sh`);
  });
  const hash = createHash("sha256").update(bytes).digest("hex").slice(0, 12);
  const path = `${dataDir}/bin/lohar-${hash}`;
  if (!existsSync(path)) {
    await mkdir(`${dataDir}/bin`, { recursive: true, mode: 0o700 });
    const staging = `${path}.${hex(4)}`;
    await writeFile(staging, bytes);
    await chmod(staging, 0o755);
    await rename(staging, path);
  }
  return path;
}
