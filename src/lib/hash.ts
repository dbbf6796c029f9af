import { createHash } from "node:crypto";
import { open } from "node:fs/promises";

const MAX_BYTES = 256 << 20;

/**
 * SHA-256 of a file that fits memory (device states, kernels), hex; read in pieces, so that the thread goes on in between.
 * For files of any size: snapshots/files.ts. @throws Error when it cannot be read or is larger than 256 MiB.
 */
export async function sha256(path: string): Promise<string> {
  const file = await open(path, "r");
  try {
    const { size } = await file.stat();
    if (size > MAX_BYTES) throw new Error(`${path} is too large to be hashed here: ${size} bytes`);
    const hash = createHash("sha256");
    const buffer = Buffer.alloc(Math.min(size, 1 << 20) || 1);
    for (let at = 0; at <= MAX_BYTES; ) {
      const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
      if (bytesRead === 0) break;
      hash.update(buffer.subarray(0, bytesRead));
      at += bytesRead;
    }
    return hash.digest("hex");
  } finally {
    await file.close();
  }
}
