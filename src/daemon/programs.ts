/** Our own programs in Go: embedded in the compiled executable, in `dist/` in a checkout. */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { chmod, mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { hex } from "../lib/ids.ts";
import { embedded } from "./embedded.ts";

/** The guest agent and jail launcher, where the kernel can execute it: `<data>/bin/lohar-<hash>`. */
export const loharPath = (dataDir: string): Promise<string> =>
  put(dataDir, "lohar", process.env.BHATTI_LOHAR ?? embedded.lohar);

/** What faces the clients: `<data>/bin/edge-<hash>`. */
export const edgePath = (dataDir: string): Promise<string> => put(dataDir, "edge", embedded.edge);

async function put(dataDir: string, name: string, from: string | undefined): Promise<string> {
  const source = from ?? `${import.meta.dir}/../../dist/${name}`;
  const bytes = await readFile(source).catch(() => {
    throw new Error(`the program ${name} is missing (${source}): run ${name}/build.sh`);
  });
  const hash = createHash("sha256").update(bytes).digest("hex").slice(0, 12);
  const path = `${dataDir}/bin/${name}-${hash}`;
  if (!existsSync(path)) {
    await mkdir(`${dataDir}/bin`, { recursive: true, mode: 0o700 });
    const staging = `${path}.${hex(4)}`;
    await writeFile(staging, bytes);
    await chmod(staging, 0o755);
    await rename(staging, path);
  }
  return path;
}
