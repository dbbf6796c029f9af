import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";

/** SHA-256 of a file that fits memory (device states, kernels), hex. Throws when it cannot be read. */
export async function sha256(path: string): Promise<string> {
  return createHash("sha256")
    .update(await readFile(path))
    .digest("hex");
}
