import type { SandboxView } from "../sandboxes/service.ts";
import { MAX_FORKS, type SnapshotView, type Verification } from "../snapshots/service.ts";
import { type Http, path, type RequestOptions } from "./http.ts";

export { MAX_FORKS, type SnapshotView, type Verification };

/** Copying a big disk without reflinks takes minutes. ms. */
const COPY_MS = 1_800_000;

export class SnapshotsClient {
  constructor(private readonly http: Http) {}

  create(sandbox: string, name: string): Promise<SnapshotView> {
    return this.http.json("POST", path`/sandboxes/${sandbox}/checkpoint`, {
      json: { name },
      timeoutMs: COPY_MS,
    });
  }

  list(): Promise<SnapshotView[]> {
    return this.http.json("GET", "/snapshots");
  }

  get(name: string): Promise<SnapshotView> {
    return this.http.json("GET", path`/snapshots/${name}`);
  }

  delete(name: string): Promise<{ status: string }> {
    return this.http.json("DELETE", path`/snapshots/${name}`, { timeoutMs: COPY_MS });
  }

  /** A new sandbox from the snapshot. */
  resume(snapshot: string, name?: string): Promise<SandboxView> {
    return this.http.json("POST", path`/snapshots/${snapshot}/resume`, {
      json: name === undefined ? {} : { name },
      timeoutMs: COPY_MS,
    });
  }

  /** Running copies of a sandbox. All or nothing. */
  fork(
    sandbox: string,
    body: { count: number; names?: string[] },
  ): Promise<{ sandboxes: SandboxView[]; pause_ms: number }> {
    return this.http.json("POST", path`/sandboxes/${sandbox}/fork`, { json: body, timeoutMs: COPY_MS });
  }

  /** Puts a sandbox back; its present state is kept as the snapshot named in the answer, unless `safety` is false. */
  restore(
    sandbox: string,
    snapshot: string,
    safety = true,
  ): Promise<{ sandbox: SandboxView; safety_snapshot?: string; replaced?: string[] }> {
    return this.http.json("POST", path`/sandboxes/${sandbox}/restore`, {
      json: safety ? { snapshot } : { snapshot, safety },
      timeoutMs: COPY_MS,
    });
  }

  /** Has every byte read and compared; `progress`: bytes. Damage is in the answer, not an error. */
  verify(name: string, progress: (read: number, of: number) => void): Promise<Verification> {
    return this.http.progress("POST", path`/snapshots/${name}/verify`, progress);
  }

  /** The archive as a stream: tar, compressed. */
  export(name: string): Promise<Response> {
    return this.http.request("GET", path`/snapshots/${name}/export`, { timeoutMs: COPY_MS });
  }

  import(
    name: string,
    body: NonNullable<RequestOptions["body"]>,
    options: { cold: boolean; trustState: boolean; size?: number },
  ): Promise<SnapshotView & { notice?: string }> {
    return this.http.json("POST", "/snapshots/import", {
      query: { name, cold: options.cold || undefined, trust_state: options.trustState || undefined },
      headers: {
        "content-type": "application/octet-stream",
        ...(options.size === undefined ? {} : { "content-length": String(options.size) }),
      },
      body,
      timeoutMs: 0,
    });
  }
}
