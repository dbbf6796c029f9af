/**
 * Device state of a Firecracker machine: the VMM's own file behind a head of ours, which says what the VMM does not check. Given
 * a disk of another size, for instance, it restores without a word and the guest reads a wrong disk.
 */
import { constants } from "node:fs";
import { type FileHandle, open, rm, stat, writeFile } from "node:fs/promises";
import { EngineError, type VmSpec } from "../engine.ts";

/** Bytes: `lohar jail` leaves them out when it gives the rest to the VMM. */
export const HEAD = 4096;
/** A device state is some 10 KB; more than this is not one, bytes. */
const MAX_STATE = 64 << 20;

interface Head {
  firecracker: string;
  vcpus: number;
  memoryMib: number;
  /** Bytes, in the order of the devices. */
  drives: number[];
}

const MIB = 1024 * 1024;

const describe = async (spec: VmSpec, version: string): Promise<Head> => ({
  firecracker: version,
  vcpus: spec.shape.vcpus,
  memoryMib: spec.shape.memoryMib,
  drives: await Promise.all(spec.drives.map(async ({ path }) => (await stat(path)).size)),
});

/** The VM's memory file must be as large as its memory: the VMM would cut off anything else first of all. */
export async function assertMemoryFile({ memoryPath, shape }: VmSpec): Promise<void> {
  const { size } = await stat(memoryPath);
  if (size !== shape.memoryMib * MIB)
    throw new EngineError("the memory file has another size than the memory");
}

/** Makes `path` (new file) of what the VMM wrote to `from`, a name in a folder of root. Nothing is left on failure. */
export async function keepState(spec: VmSpec, version: string, from: string, path: string): Promise<void> {
  const head = Buffer.alloc(HEAD, " ");
  head.write(`${JSON.stringify(await describe(spec, version))}\n`);
  const state = await readBounded(from);
  if (state.length === 0) throw new EngineError("the VMM wrote no device state");
  try {
    await writeFile(path, Buffer.concat([head, state]), { flag: "wx", mode: 0o600 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") await rm(path, { force: true });
    throw error;
  }
}

async function readBounded(path: string): Promise<Buffer> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    const { size } = await file.stat();
    if (size > MAX_STATE) throw new EngineError("the VMM wrote too much device state");
    return await readAt(file, 0, size);
  } finally {
    await file.close();
  }
}

async function readAt(file: FileHandle, at: number, length: number): Promise<Buffer> {
  const buffer = Buffer.alloc(length);
  const { bytesRead } = await file.read(buffer, 0, length, at);
  return buffer.subarray(0, bytesRead);
}

/** Throws EngineError when this state is not one of this machine, as it is now, and this version. */
export async function assertFits(spec: VmSpec, version: string, path: string): Promise<void> {
  const file = await open(path, "r");
  let text: string;
  try {
    text = (await readAt(file, 0, HEAD)).toString("latin1");
  } finally {
    await file.close();
  }
  let head: Partial<Head>;
  try {
    head = JSON.parse(text.split("\n")[0]!) as Partial<Head>;
  } catch (cause) {
    throw new EngineError("the device state is not one of Firecracker's", "", { cause });
  }
  await assertMemoryFile(spec);
  const now = await describe(spec, version);
  for (const key of ["firecracker", "vcpus", "memoryMib", "drives"] as const) {
    const [was, is] = [head[key], now[key]].map((value) => JSON.stringify(value));
    if (was !== is) throw new EngineError(`the device state does not fit: ${key} was ${was}, is ${is}`);
  }
}
