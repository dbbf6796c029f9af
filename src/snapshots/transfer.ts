/** A snapshot as one file: a zstd-compressed, sparse tar of manifest.json, agent.key, state, disk and mem. */
import { lstat, readFile, rm, writeFile } from "node:fs/promises";
import { z } from "zod";
import { AppError, badRequest, conflict } from "../lib/errors.ts";
import type { User } from "../users/user.ts";
import { hashFile, namesOf } from "./files.ts";
import type { SnapshotRow } from "./rows.ts";

const FORMAT = 1;
const MANIFEST_MAX = 64 * 1024;

const sha = z.string().regex(/^[0-9a-f]{64}$/);
const manifestSchema = z.object({
  format: z.literal(FORMAT),
  name: z.string(),
  kind: z.enum(["memory", "disk"]),
  image: z.string().max(200),
  cpus: z.number().min(0.1).max(64),
  memory_mb: z.number().int().min(64).max(1_048_576),
  disk_size_mb: z.number().int().min(0).max(16_777_216),
  env: z.record(z.string(), z.string()),
  labels: z.record(z.string(), z.string()),
  agent_generation: z.number().int().min(0),
  kernel: z.string().max(200),
  fingerprint: z.string().max(200),
  created_at: z.string().max(64),
  sha256: z.object({ disk: sha, mem: sha.optional(), state: sha.optional() }),
});
export type Manifest = z.infer<typeof manifestSchema>;

/** Columns of the row and hashes that an import brings. */
export type Imported = Pick<
  SnapshotRow,
  | "kind"
  | "image"
  | "cpus"
  | "memory_mb"
  | "disk_size_mb"
  | "env"
  | "labels"
  | "token"
  | "agent_generation"
  | "kernel"
  | "fingerprint"
  | "state_sha256"
> & { hashes: Record<string, string> };

/** Streams the archive. `done` runs once, when the stream ends, fails or is cancelled. */
export async function exportSnapshot(
  row: SnapshotRow,
  dir: string,
  done: () => void,
  signal?: AbortSignal,
): Promise<ReadableStream<Uint8Array>> {
  const hashes: Record<string, string> = {};
  for (const name of namesOf(row.kind)) hashes[name] = await hashFile(`${dir}/${name}`);
  const manifest: Manifest = {
    format: FORMAT,
    name: row.name,
    kind: row.kind,
    image: row.image,
    cpus: row.cpus,
    memory_mb: row.memory_mb,
    disk_size_mb: row.disk_size_mb,
    env: JSON.parse(row.env) as Record<string, string>,
    labels: JSON.parse(row.labels) as Record<string, string>,
    agent_generation: row.agent_generation,
    kernel: row.kernel,
    fingerprint: row.fingerprint,
    created_at: row.created_at,
    sha256: hashes as Manifest["sha256"],
  };
  await writeFile(`${dir}/manifest.json`, JSON.stringify(manifest, null, 2), { mode: 0o600 });
  await writeFile(`${dir}/agent.key`, row.token, { mode: 0o600 });
  const members = ["manifest.json", "agent.key", ...namesOf(row.kind)];
  const tar = Bun.spawn(
    ["tar", "--sparse", "--format=gnu", "--use-compress-program=zstd -3 -T0", "-c", "-C", dir, ...members],
    {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      ...(signal ? { signal } : {}),
    },
  );
  void tar.exited.then(async () => {
    await rm(`${dir}/manifest.json`, { force: true });
    await rm(`${dir}/agent.key`, { force: true });
    done();
  });
  const reader = tar.stdout.getReader();
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      const { value, done: ended } = await reader.read();
      if (!ended) return controller.enqueue(value);
      // An archive that was cut must not look complete to the client.
      if ((await tar.exited) === 0) controller.close();
      else controller.error(new AppError("internal", "export failed"));
    },
    cancel() {
      tar.kill();
    },
  });
}

/** Unpacks only the members we know, as plain files, and checks every hash. Throws bad_request or conflict. */
export async function importSnapshot(
  body: ReadableStream<Uint8Array>,
  dir: string,
  options: { cold: boolean; fingerprint: string; user: User },
): Promise<Imported> {
  await unpack(body, dir, options.cold);
  const manifest = await readManifest(`${dir}/manifest.json`);
  if (manifest.memory_mb > options.user.maxMemoryMbPerSandbox)
    throw badRequest(`max ${options.user.maxMemoryMbPerSandbox} MB memory per sandbox`);
  const kind = options.cold ? "disk" : manifest.kind;
  if (kind === "memory" && manifest.fingerprint !== options.fingerprint) {
    throw conflict(
      "this snapshot was taken by another VMM version, on another CPU or with another kernel: its memory cannot be restored here",
      "import it with --cold to take its disk alone",
    );
  }
  for (const name of namesOf(kind)) {
    const facts = await lstat(`${dir}/${name}`).catch(() => null);
    if (!facts?.isFile() || facts.nlink !== 1) throw badRequest(`not a snapshot export: ${name} is missing`);
    const wanted = manifest.sha256[name as keyof Manifest["sha256"]];
    if ((await hashFile(`${dir}/${name}`)) !== wanted)
      throw badRequest(`the export is damaged: checksum of ${name} does not match`);
  }
  if (kind === "memory" && (await lstat(`${dir}/mem`)).size !== manifest.memory_mb * 1048576) {
    throw badRequest("the export is damaged: size of mem does not match");
  }
  const key = await lstat(`${dir}/agent.key`).catch(() => null);
  const token =
    kind === "memory" && key?.isFile() && key.size <= 128 ? await readFile(`${dir}/agent.key`, "utf8") : "";
  for (const name of ["manifest.json", "agent.key", ...(kind === "disk" ? ["mem", "state"] : [])])
    await rm(`${dir}/${name}`, { force: true });
  return {
    kind,
    image: manifest.image,
    cpus: Math.min(manifest.cpus, options.user.maxCpusPerSandbox),
    memory_mb: manifest.memory_mb,
    disk_size_mb: manifest.disk_size_mb,
    env: JSON.stringify(manifest.env),
    labels: JSON.stringify(manifest.labels),
    token,
    agent_generation: manifest.agent_generation,
    kernel: manifest.kernel,
    fingerprint: manifest.fingerprint,
    state_sha256: manifest.sha256.state ?? "",
    hashes: manifest.sha256 as Record<string, string>,
  };
}

async function unpack(body: ReadableStream<Uint8Array>, dir: string, cold: boolean): Promise<void> {
  const members = ["manifest.json", "agent.key", "disk", ...(cold ? [] : ["mem", "state"])];
  const tar = Bun.spawn(
    [
      "tar",
      "--use-compress-program=zstd",
      "-x",
      "-C",
      dir,
      "--no-same-owner",
      "--no-same-permissions",
      "--keep-old-files",
      "--occurrence=1",
      ...members,
    ],
    { stdin: body, stdout: "ignore", stderr: "pipe" },
  );
  const errors = new Response(tar.stderr).text();
  const code = await tar.exited;
  // A disk-only export has no mem and state: tar says so and the caller's check decides.
  const text = await errors;
  if (code !== 0 && !/Not found in archive/.test(text)) {
    if (/No space left/.test(text)) throw new AppError("disk_full", "no space for this snapshot");
    throw badRequest("not a snapshot export (a zstd-compressed tar made by 'bhatti snapshot export')");
  }
}

async function readManifest(path: string): Promise<Manifest> {
  const facts = await lstat(path).catch(() => null);
  if (!facts?.isFile() || facts.size > MANIFEST_MAX)
    throw badRequest("not a snapshot export: manifest.json is missing");
  try {
    return manifestSchema.parse(JSON.parse(await readFile(path, "utf8")));
  } catch {
    throw badRequest("not a snapshot export: manifest.json cannot be read");
  }
}
