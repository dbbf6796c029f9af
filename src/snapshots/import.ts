/** A stranger's archive becomes a snapshot. The manifest is judged, and disk reserved, before anything else is unpacked. */
import { closeSync, writeSync } from "node:fs";
import { AppError, badRequest, conflict } from "../lib/errors.ts";
import { sha256 } from "../lib/hash.ts";
import type { Storage } from "../storage/storage.ts";
import type { User } from "../users/user.ts";
import { type FileFacts, namesOf } from "./files.ts";
import { type Manifest, readManifest } from "./manifest.ts";
import type { SnapshotRow } from "./rows.ts";

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
> & {
  digests: Record<string, NonNullable<FileFacts["digest"]>>;
  /** What the importer should know. */
  notice?: string;
};

export interface ImportOptions {
  /** Empty directory that the files are put into; what is there after an error is the caller's to remove. */
  dir: string;
  /** Take the disk alone. */
  cold: boolean;
  /** An operator vouches for a device state that this host did not make. */
  trustState: boolean;
  fingerprint: string;
  user: User;
  /** As for a create. */
  maxDiskMb: number;
  lohar: string;
  key: Buffer;
  storage: Pick<Storage, "reserve">;
  signal: AbortSignal;
}

/** A device state is about 100 KB, bytes. */
const MAX_STATE = 64 << 20;
/** Slower than this is an upload that holds disk space for ever: bytes a second, and ms for the start. */
const SLOWEST = 1 << 20;
const PATIENCE_MS = 600_000;

/** @throws AppError bad_request, conflict, forbidden, disk_full; the signal's reason. */
export async function importSnapshot(
  body: ReadableStream<Uint8Array>,
  options: ImportOptions,
): Promise<Imported> {
  const { dir, signal } = options;
  const late = new AbortController();
  const giveUp = () => late.abort(new AppError("timeout", "the upload is too slow"));
  let timer = setTimeout(giveUp, PATIENCE_MS);
  const child = Bun.spawn([options.lohar, "archive", "unpack", dir], {
    stdio: [body, "pipe", "pipe", "pipe"],
    signal: AbortSignal.any([signal, late.signal]),
    killSignal: "SIGKILL",
  });
  const errors = new Response(child.stderr as ReadableStream).text();
  const limits = child.stdio[3] as unknown as number;
  const answers = lines(child.stdout as ReadableStream<Uint8Array>);
  try {
    const first = (await answers.next()).value;
    if (first === undefined) throw await refusal(child, errors, signal, late.signal);
    const { manifest, ours } = readManifest(first, options.key);
    const { kind, notice } = judge(manifest, ours, options);
    const wanted = namesOf(kind).map((name) => [name, manifest.files[name]!] as const);
    const bytes = wanted.reduce((sum, [, facts]) => sum + facts.data, 0);
    const reservation = options.storage.reserve(bytes, "this snapshot");
    try {
      clearTimeout(timer);
      timer = setTimeout(giveUp, PATIENCE_MS + (bytes / SLOWEST) * 1000);
      const expected = Object.entries(manifest.files)
        // The disk comes first: what follows it is not looked at by those who want it alone.
        .filter(([name]) => kind === "memory" || name === "disk")
        .map(([name, { size, data }]) => [name, { size, data }] as const);
      try {
        writeSync(limits, `${JSON.stringify(Object.fromEntries(expected))}\n`);
      } catch {
        // It died meanwhile: what it left tells why.
      }
      const last = (await answers.next()).value;
      if (last === undefined || (await child.exited) !== 0)
        throw await refusal(child, errors, signal, late.signal);
      const got = JSON.parse(last) as Record<string, { sha256: string }>;
      for (const [name, { sha256: hash }] of wanted)
        if (got[name]?.sha256 !== hash)
          throw badRequest(`the export is damaged: checksum of ${name} does not match`);
    } finally {
      reservation.release();
    }
    if (kind === "memory" && (await sha256(`${dir}/state`)) !== manifest.state_sha256)
      throw badRequest("the export is damaged: checksum of the device state does not match");
    return {
      kind,
      image: manifest.image,
      cpus: Math.min(manifest.cpus, options.user.maxCpusPerSandbox),
      memory_mb: manifest.memory_mb,
      disk_size_mb: manifest.disk_size_mb,
      env: JSON.stringify(manifest.env),
      labels: JSON.stringify(manifest.labels),
      token: kind === "memory" ? manifest.token : "",
      agent_generation: manifest.agent_generation,
      kernel: manifest.kernel,
      fingerprint: manifest.fingerprint,
      state_sha256: kind === "memory" ? manifest.state_sha256 : "",
      digests: Object.fromEntries(wanted.map(([name, facts]) => [name, facts.sha256])),
      notice,
    };
  } finally {
    clearTimeout(timer);
    closeSync(limits);
    child.kill("SIGKILL");
    await child.exited;
  }
}

/** Whether the user may have this, and what of it. */
function judge(
  manifest: Manifest,
  ours: boolean,
  { user, cold, trustState, fingerprint, maxDiskMb }: ImportOptions,
): { kind: "memory" | "disk"; notice?: string } {
  const { disk, mem, state } = manifest.files;
  if (manifest.memory_mb > user.maxMemoryMbPerSandbox)
    throw badRequest(`max ${user.maxMemoryMbPerSandbox} MB memory per sandbox`);
  if (disk.size > maxDiskMb * 1048576)
    throw badRequest(
      `its disk of ${Math.ceil(disk.size / 1048576)} MB is more than this server gives (${maxDiskMb} MB)`,
      "have the server's operator raise max_disk_mb",
    );
  if (manifest.disk_size_mb > 0 && disk.size > manifest.disk_size_mb * 1048576)
    throw badRequest("the export is damaged: its disk is larger than it says");
  if (manifest.kind === "disk" || cold) return { kind: "disk" };
  if (!ours && !trustState)
    return {
      kind: "disk",
      notice:
        "this host did not make the device state in this export, and a device state is code for the VMM: only the disk was taken; an operator can take it whole with --trust-state",
    };
  if (manifest.cpus > user.maxCpusPerSandbox)
    throw badRequest(`max ${user.maxCpusPerSandbox} CPUs per sandbox`);
  if (manifest.fingerprint !== fingerprint)
    throw conflict(
      "this snapshot was taken by another VMM version, on another CPU or with another kernel: its memory cannot be restored here",
      "import it with --cold to take its disk alone",
    );
  if (!mem || !state) throw badRequest("not a snapshot export: its memory is missing");
  if (mem.size !== manifest.memory_mb * 1048576)
    throw badRequest("the export is damaged: size of mem does not match");
  if (state.size > MAX_STATE) throw badRequest("the export is damaged: its device state is too large");
  return { kind: "memory" };
}

/** Why the child gave up, for the client. */
async function refusal(
  child: Bun.Subprocess,
  errors: Promise<string>,
  ...signals: AbortSignal[]
): Promise<Error> {
  const code = await child.exited;
  for (const signal of signals) signal.throwIfAborted();
  if (code === 3) return new AppError("disk_full", "no space for this snapshot");
  const why = (await errors).trim().split("\n").at(-1)?.slice(0, 300);
  return badRequest(
    `the export cannot be read: ${why || "it is damaged"}`,
    "use an archive made by 'bhatti snapshot export'",
  );
}

/** Lines of at most 128 KiB: the child passes on what a stranger wrote. */
async function* lines(stream: ReadableStream<Uint8Array>): AsyncGenerator<string, undefined> {
  let rest = Buffer.alloc(0);
  for await (const chunk of stream as unknown as AsyncIterable<Uint8Array>) {
    rest = Buffer.concat([rest, chunk]);
    for (let at = rest.indexOf(10); at >= 0; at = rest.indexOf(10)) {
      yield rest.toString("utf8", 0, at);
      rest = rest.subarray(at + 1);
    }
    if (rest.length > 131_072) return undefined;
  }
  return undefined;
}
