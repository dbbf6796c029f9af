import type { GuestWork, InitView, PatchInput, SandboxDetail, SandboxView } from "../sandboxes/service.ts";
import { type Http, path } from "./http.ts";

export type { GuestWork, InitView, SandboxDetail, SandboxView };

/** Body of POST /sandboxes. `content` of files is base64. */
export interface CreateBody {
  name?: string;
  image?: string;
  cpus?: number;
  memory_mb?: number;
  disk_size_mb?: number;
  env?: Record<string, string>;
  init?: string;
  keep_hot?: boolean;
  labels?: Record<string, string>;
  files?: { guest_path: string; content: string; mode: string }[];
  warm_after_s?: number;
  cold_after_s?: number;
  on_unresponsive?: "none" | "restart";
  secrets?: SecretInput[];
}

/** A name, or where it goes. */
export type SecretInput =
  | string
  | { name: string; env?: string; path?: string; mode?: string; owner?: string };

export type PatchBody = Omit<PatchInput, "secrets_add"> & { secrets_add?: SecretInput[] };

/** Starting a machine may mean booting it under emulation behind a queue of others. ms. */
const LIFE_MS = 600_000;

export interface GuestProcess {
  pid: number;
  ppid: number;
  uid: number;
  /** One letter of proc(5). */
  state: string;
  rss_kb: number;
  /** Arguments joined by blanks. */
  argv: string;
}

export type PortOfAll =
  | { sandbox_id: string; container_port: number; proxy_url: string }
  | { sandbox_id: string; sandbox: string; error: string; code: string; remedy?: string };

export class SandboxesClient {
  constructor(private readonly http: Http) {}

  /** `existing`: a sandbox of that name was there already and nothing was changed; `differs`: members that are not as asked. */
  async create(
    body: CreateBody,
    idempotencyKey?: string,
  ): Promise<{ sandbox: SandboxView; existing: boolean; differs: string[] }> {
    const response = await this.http.request("POST", "/sandboxes", {
      json: body,
      headers: idempotencyKey === undefined ? {} : { "idempotency-key": idempotencyKey },
      timeoutMs: LIFE_MS,
    });
    const sandbox = (await response.json()) as SandboxView & { differs?: string[] };
    const existing = response.headers.get("x-bhatti-existing") === "true";
    return { sandbox, existing, differs: sandbox.differs ?? [] };
  }

  /** `labels`: "key=value", all must match. */
  list(labels: string[] = []): Promise<(SandboxView & { urls?: string[] })[]> {
    return this.http.json("GET", "/sandboxes", { query: { label: labels } });
  }

  get(ref: string): Promise<SandboxView> {
    return this.http.json("GET", path`/sandboxes/${ref}`);
  }

  /** With figures of the host; wakes nothing. */
  detail(ref: string): Promise<SandboxDetail> {
    return this.http.json("GET", path`/sandboxes/${ref}`, { query: { detail: true } });
  }

  patch(ref: string, body: PatchBody): Promise<SandboxView> {
    return this.http.json("PATCH", path`/sandboxes/${ref}`, { json: body, timeoutMs: LIFE_MS });
  }

  destroy(ref: string): Promise<{ status: string }> {
    return this.http.json("DELETE", path`/sandboxes/${ref}`, { timeoutMs: LIFE_MS });
  }

  stop(ref: string, sync = false): Promise<SandboxView> {
    return this.http.json("POST", path`/sandboxes/${ref}/stop`, {
      json: sync ? { sync } : {},
      timeoutMs: LIFE_MS,
    });
  }

  /** `already_running`: it was hot, and nothing was done. */
  start(ref: string, force = false): Promise<SandboxView & { already_running?: boolean }> {
    return this.http.json("POST", path`/sandboxes/${ref}/start`, {
      json: force ? { force } : {},
      timeoutMs: LIFE_MS,
    });
  }

  /** Boots from the disk, in any state; `force`: without asking the guest. */
  restart(ref: string, force = false): Promise<SandboxView> {
    return this.http.json("POST", path`/sandboxes/${ref}/restart`, {
      json: force ? { force } : {},
      timeoutMs: LIFE_MS,
    });
  }

  /** Text of the guest's console since its last boot, or in the boot before. */
  async console(ref: string, previous = false): Promise<string> {
    const route = path`/sandboxes/${ref}/console`;
    return (await this.http.request("GET", route, { query: previous ? { previous } : {} })).text();
  }

  /** What runs in the guest. Wakes it. */
  processes(ref: string): Promise<GuestProcess[]> {
    return this.http.json("GET", path`/sandboxes/${ref}/processes`, { timeoutMs: LIFE_MS });
  }

  /** Of all that are hot; one that did not answer has `error` instead of a port. Wakes none. */
  allPorts(): Promise<PortOfAll[]> {
    return this.http.json("GET", "/ports", { timeoutMs: LIFE_MS });
  }

  /** Listening TCP ports of the guest. Wakes it. */
  ports(ref: string): Promise<{ container_port: number; proxy_url: string }[]> {
    return this.http.json("GET", path`/sandboxes/${ref}/ports`, { timeoutMs: LIFE_MS });
  }
}
