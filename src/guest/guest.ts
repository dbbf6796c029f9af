/** The host's view of one guest's agent. Protocol: docs/guest-protocol.md. */

export interface ConfigureRequest {
  kind: "boot" | "wake" | "clone";
  generation: number;
  /** Base64 of 64 fresh random bytes; the client fills it in when absent. */
  entropy?: string;
  token: string;
  hostname: string;
  machineId?: string;
  resolver: string[];
  search: string[];
  env?: Record<string, string>;
  files?: { path: string; content: string; mode: string }[];
  volumes?: { device: string; mount: string; fs: string; readOnly: boolean }[];
  init?: string;
  /** Of the init script alone; the agent keeps none of it. */
  initEnv?: Record<string, string>;
  /** The whole set, before any user process runs; absent = as it is. */
  secretFiles?: SecretFile[];
  growRoot: boolean;
}

/** A file that lies in the guest's memory only. */
export interface SecretFile {
  path: string;
  /** Base64. */
  content: string;
  mode: string;
  /** "" = the sandbox's user. */
  owner: string;
}

export interface ExecRequest {
  argv: string[];
  env?: Record<string, string>;
  cwd?: string;
  /** Default 1000. */
  uid?: number;
  /** ms; 0 or absent = none. The guest kills the process group when it passes. */
  timeoutMs?: number;
  /** Bytes for stdin; absent = empty stdin with EOF at once. */
  stdin?: ReadableStream<Uint8Array>;
}

export interface ExecResult {
  exitCode: number;
  signal?: string;
  timedOut: boolean;
}

export interface ExecSink {
  started?(pid: number): void;
  /** Returning a promise applies back-pressure to the guest. */
  stdout(chunk: Uint8Array): void | Promise<void>;
  stderr(chunk: Uint8Array): void | Promise<void>;
}

export type FileKind =
  | "file"
  | "dir"
  | "symlink"
  | "char_device"
  | "block_device"
  | "fifo"
  | "socket"
  | "unknown";

/** What a name itself stands for: links are not followed. */
export interface FileEntry {
  /** With U+FFFD where it is not UTF-8; then `nameB64` has its bytes. */
  name: string;
  nameB64?: string;
  kind: FileKind;
  /** Of a symlink. */
  target?: string;
  targetB64?: string;
  size: number;
  /** 4 octal digits, e.g. "0644". */
  mode: string;
  uid: number;
  gid: number;
  /** Hard links. */
  links: number;
  /** "major:minor" of a device. */
  device?: string;
  isDir: boolean;
  /** Unix seconds. */
  mtime: number;
}

export interface WriteOptions {
  /** Octal; absent = keep that of an existing file, 0644 for a new one. */
  mode?: string;
  /** USER, USER:GROUP or :GROUP, names or numbers of the guest; absent = keep, uid 1000 for a new file. */
  owner?: string;
  /** Bytes that will come; absent = up to the end of the stream. */
  size?: number;
}

export interface ReadOptions {
  offset?: number;
  length?: number;
  lineOffset?: number;
  lineLimit?: number;
  maxBytes?: number;
}

/** What became of the script that a sandbox was created with. */
export interface InitStatus {
  /** `failed`: it did not start, see `error`. */
  state: "running" | "exited" | "failed";
  exitCode?: number;
  /** Name without SIG of the signal that ended it. */
  signal?: string;
  error?: string;
  /** Path of its output in the guest. */
  log?: string;
  /** Unix ms. */
  startedAt?: number;
  endedAt?: number;
}

export interface Activity {
  /** ms since the last work of the agent ended, on the guest's monotonic clock. */
  idleMs: number;
  execs: number;
  detached: number;
  initRunning: boolean;
  /** Absent when the sandbox has no init script (or was booted before it had one). */
  init?: InitStatus;
  connections: number;
  busyMs: number;
  uptimeMs: number;
}

export interface Process {
  pid: number;
  ppid: number;
  uid: number;
  /** One letter of proc(5): R, S, D, Z, T… */
  state: string;
  rssKb: number;
  /** Arguments joined by blanks, cut at 4096 bytes; the name in brackets where there are none. */
  argv: string;
}

/** A byte tunnel to a TCP port of the guest. */
export interface Tunnel {
  readable: ReadableStream<Uint8Array>;
  writable: WritableStream<Uint8Array>;
  close(): void;
}

/** An absolute path, or `base64:` and the bytes of one that is not UTF-8. */
export type GuestPath = string;

/** All calls take an optional signal; aborting closes the connection, which cancels the work in the guest. */
export interface Guest {
  /** Waits until the agent answers `ping`; rejects at the deadline (ms) or when `signal` fires (VMM died). */
  ready(
    deadlineMs: number,
    signal?: AbortSignal,
  ): Promise<{ agent: string; configured: boolean; generation: number }>;
  /** Rejects with `configure_failed` and the `step` that failed; `warnings`: what the guest can live with. */
  configure(
    request: ConfigureRequest,
    signal?: AbortSignal,
  ): Promise<{ bootMs: number; warnings: string[]; secretProblems: string[] }>;
  /** Replaces the files of secrets by these; resolves to what could not be done. `generation`: of the last configure. */
  secrets(generation: number, files: SecretFile[]): Promise<string[]>;
  exec(request: ExecRequest, sink: ExecSink, signal?: AbortSignal): Promise<ExecResult>;
  execDetached(request: ExecRequest & { outputFile: string }): Promise<{ pid: number }>;
  readFile(
    path: GuestPath,
    options: ReadOptions,
    signal?: AbortSignal,
  ): Promise<{ size: number; mode: string; length: number; body: ReadableStream<Uint8Array> }>;
  writeFile(
    path: GuestPath,
    body: ReadableStream<Uint8Array>,
    options: WriteOptions,
    signal?: AbortSignal,
  ): Promise<void>;
  stat(path: GuestPath): Promise<FileEntry>;
  /**
   * Entries as they come, sorted by name up to 10 000 of them. Rejects before the first one when there is no such
   * directory. A listing that is not read to its end is cancelled by `return` or `signal`.
   */
  list(
    path: GuestPath,
    options?: { limit?: number },
    signal?: AbortSignal,
  ): Promise<AsyncGenerator<FileEntry[], void>>;
  activity(timeoutMs: number): Promise<Activity>;
  ports(): Promise<{ port: number; address: string }[]>;
  /** What runs in the guest, at most 10 000 processes; needs none of its own. */
  processes(signal?: AbortSignal): Promise<Process[]>;
  sync(timeoutMs: number): Promise<void>;
  prepareClone(timeoutMs: number): Promise<void>;
  resumeSource(): Promise<void>;
  forward(port: number, signal?: AbortSignal): Promise<Tunnel>;
  poweroff(timeoutMs: number): Promise<void>;
  /** While the host has stopped the machine for a copy, the silence of running requests is not held against it. */
  standsStill(still: boolean): void;
  /** How long nothing was heard of it on any connection, heartbeats included, ms. */
  quietMs(): number;
  /** Drops pooled connections (the guest was paused for long, restored or is gone). */
  disconnect(): void;
}

/**
 * Error frame of the agent, or a failure of the connection itself: `code` "lost" (nobody answers, closed, nonsense),
 * "guest_unresponsive" (connected, but not even a heartbeat), "impostor" (something else answers on the agent's port).
 */
export class GuestError extends Error {
  /** The step of `configure` that failed. */
  readonly step?: string;

  constructor(
    readonly code: string,
    message: string,
    options?: ErrorOptions & { step?: string },
  ) {
    super(message, options);
    this.name = "GuestError";
    if (options?.step) this.step = options.step;
  }
}
