/** The uncompressed kernel (ELF, PVH entry) inside a distribution's bzImage. */
import { readFile, rm, writeFile } from "node:fs/promises";
import { run } from "../lib/run.ts";

const MAGIC: { hex: string; program: string[]; suffix: string }[] = [
  { hex: "28b52ffd", program: ["zstd", "-dqf"], suffix: ".zst" },
  { hex: "02214c18", program: ["lz4", "-dqf"], suffix: ".lz4" },
  { hex: "fd377a58", program: ["xz", "-dqf", "-k"], suffix: ".xz" },
  { hex: "1f8b0800", program: ["gzip", "-dqf", "-k"], suffix: ".gz" },
];

/**
 * Boot protocol: `payload_offset` at 0x248 and `payload_length` at 0x24c count from the protected-mode code, which follows
 * setup_sects + 1 sectors. The payload ends with its size (4 bytes), which is not part of the compressed data.
 */
export async function unpackKernel(bzImage: string, vmlinux: string): Promise<void> {
  const image = await readFile(bzImage);
  if (image.toString("latin1", 0x202, 0x206) !== "HdrS") throw new Error(`${bzImage} is not a bzImage`);
  const start = ((image[0x1f1] || 4) + 1) * 512 + image.readUInt32LE(0x248);
  const payload = image.subarray(start, start + image.readUInt32LE(0x24c));
  const kind = MAGIC.find(({ hex }) => payload.subarray(0, 4).toString("hex") === hex);
  if (!kind) throw new Error(`${bzImage}: unknown kernel compression`);
  const packed = `${vmlinux}${kind.suffix}`;
  await writeFile(packed, payload.subarray(0, -4));
  try {
    if (kind.suffix === ".zst") await run([...kind.program, packed, "-o", vmlinux]);
    else if (kind.suffix === ".lz4") await run([...kind.program, packed, vmlinux]);
    else await run([...kind.program, packed]);
  } finally {
    await rm(packed, { force: true });
  }
  const head = (await readFile(vmlinux)).subarray(0, 4).toString("hex");
  if (head !== "7f454c46") throw new Error(`${bzImage}: the payload is not an ELF kernel`);
}
