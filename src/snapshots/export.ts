/** A snapshot as one file: a zstd-compressed, sparse tar of manifest.json, disk, state and mem. */
import { mkdir, rm, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { AppError } from "../lib/errors.ts";
import { hex } from "../lib/ids.ts";
import { namesOf, type PathOf } from "./files.ts";
import { FORMAT, type Manifest, signManifest } from "./manifest.ts";
import type { SnapshotRow } from "./rows.ts";

export interface ExportOptions {
  row: SnapshotRow;
  /** Where the snapshot's files are. */
  at: PathOf;
  /** A directory of this export alone is made here, and removed. */
  scratch: string;
  /** Facts of the files as they are now; see content.ts. */
  files: Partial<Manifest["files"]>;
  key: Buffer;
  signal: AbortSignal;
  /** Runs once, when the stream ends, fails or is cancelled. */
  done(): void;
}

/** Streams the archive. Packing is a child, which ends with `signal`. */
export async function exportSnapshot(options: ExportOptions): Promise<ReadableStream<Uint8Array>> {
  const { row, at, files, key, signal } = options;
  const own = `${options.scratch}/.export-${hex(8)}`;
  const finish = async () => {
    await rm(own, { recursive: true, force: true });
    options.done();
  };
  try {
    const names = namesOf(row.kind);
    await mkdir(own, { mode: 0o700 });
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
      state_sha256: row.state_sha256,
      token: row.token,
      created_at: row.created_at,
      files: files as Manifest["files"],
    };
    await writeFile(`${own}/manifest.json`, signManifest(manifest, key), { mode: 0o600 });
    const tar = Bun.spawn(
      [
        ...["tar", "--sparse", "--format=gnu", "--use-compress-program=zstd -3 -T0", "-c"],
        ...["-C", own, "manifest.json"],
        ...names.flatMap((name) => ["-C", dirname(at(name)), name]),
      ],
      { stdin: "ignore", stdout: "pipe", stderr: "ignore", signal, killSignal: "SIGKILL" },
    );
    void tar.exited.then(finish);
    return streamOf(tar);
  } catch (error) {
    await rm(own, { recursive: true, force: true });
    throw error;
  }
}

function streamOf(tar: Bun.Subprocess<"ignore", "pipe", "ignore">): ReadableStream<Uint8Array> {
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
      tar.kill("SIGKILL");
    },
  });
}
