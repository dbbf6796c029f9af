import { type Http, path, type RequestOptions } from "./http.ts";

export interface GuestEntry {
  name: string;
  size: number;
  /** Four octal digits. */
  mode: string;
  is_dir: boolean;
  /** Unix seconds. */
  mtime: number;
}

export interface GuestStat {
  size: number;
  mode: string;
  is_dir: boolean;
  /** Unix seconds; absent where the server does not tell. */
  mtime?: number;
}

/** A cold sandbox wakes first. ms. */
const WAKE_MS = 300_000;

export class FilesClient {
  constructor(private readonly http: Http) {}

  /** Lines (`offset` is 1-based) and bytes bound the answer; its body is the file. */
  read(
    sandbox: string,
    file: string,
    options: { offset?: number; limit?: number; max_bytes?: number } = {},
  ): Promise<Response> {
    return this.http.request("GET", path`/sandboxes/${sandbox}/files`, {
      query: { path: file, ...options },
      timeoutMs: WAKE_MS,
    });
  }

  /** `size`: bytes of `body` where it is a stream of known length. */
  async write(
    sandbox: string,
    file: string,
    body: NonNullable<RequestOptions["body"]>,
    options: { mode?: string; size?: number } = {},
  ): Promise<void> {
    const response = await this.http.request("PUT", path`/sandboxes/${sandbox}/files`, {
      query: { path: file, mode: options.mode },
      headers: {
        "content-type": "application/octet-stream",
        ...(options.size === undefined ? {} : { "content-length": String(options.size) }),
      },
      body,
      timeoutMs: 0,
    });
    await response.arrayBuffer();
  }

  list(sandbox: string, directory: string): Promise<GuestEntry[]> {
    return this.http.json("GET", path`/sandboxes/${sandbox}/files`, {
      query: { path: directory, ls: true },
      timeoutMs: WAKE_MS,
    });
  }

  async stat(sandbox: string, file: string): Promise<GuestStat> {
    const { headers } = await this.http.request("HEAD", path`/sandboxes/${sandbox}/files`, {
      query: { path: file },
      timeoutMs: WAKE_MS,
    });
    const mtime = Number(headers.get("x-file-mtime") ?? Number.NaN);
    return {
      size: Number(headers.get("x-file-size")),
      mode: headers.get("x-file-mode") ?? "",
      is_dir: headers.get("x-file-isdir") === "true",
      ...(Number.isFinite(mtime) ? { mtime } : {}),
    };
  }
}
