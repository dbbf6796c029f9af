import { type Http, path, type RequestOptions } from "./http.ts";

/** What a name itself stands for: links are not followed. */
export interface GuestEntry {
  /** With U+FFFD where it is not UTF-8; then `name_b64` has its bytes, and `base64:<path>` names it. */
  name: string;
  name_b64?: string;
  /** file, dir, symlink, char_device, block_device, fifo, socket */
  kind: string;
  /** Of a symlink. */
  target?: string;
  target_b64?: string;
  size: number;
  /** Four octal digits. */
  mode: string;
  uid: number;
  gid: number;
  /** Hard links. */
  links: number;
  /** "major:minor" */
  device?: string;
  is_dir: boolean;
  /** Unix seconds. */
  mtime: number;
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

  /**
   * `size`: bytes of `body` where it is a stream of known length. Without `mode` and `owner` an existing file keeps its own.
   */
  async write(
    sandbox: string,
    file: string,
    body: NonNullable<RequestOptions["body"]>,
    options: { mode?: string; owner?: string; size?: number } = {},
  ): Promise<void> {
    const response = await this.http.request("PUT", path`/sandboxes/${sandbox}/files`, {
      query: { path: file, mode: options.mode, owner: options.owner },
      headers: {
        "content-type": "application/octet-stream",
        ...(options.size === undefined ? {} : { "content-length": String(options.size) }),
      },
      body,
      timeoutMs: 0,
    });
    await response.arrayBuffer();
  }

  /** Sorted by name as long as there are at most 10 000; `limit`: at most so many entries. */
  list(sandbox: string, directory: string, limit?: number): Promise<GuestEntry[]> {
    return this.http.json("GET", path`/sandboxes/${sandbox}/files`, {
      query: { path: directory, ls: true, limit },
      timeoutMs: WAKE_MS,
    });
  }

  stat(sandbox: string, file: string): Promise<GuestEntry> {
    return this.http.json("GET", path`/sandboxes/${sandbox}/files`, {
      query: { path: file, stat: true },
      timeoutMs: WAKE_MS,
    });
  }
}
