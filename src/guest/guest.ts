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
  growRoot: boolean;
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

export interface FileStat {
  size: number;
  /** 4 octal digits, e.g. "0644". */
  mode: string;
  isDir: boolean;
  /** Unix seconds. */
  mtime: number;
}

export interface FileEntry extends FileStat {
  name: string;
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

/** A byte tunnel to a TCP port of the guest. */
export interface Tunnel {
  readable: ReadableStream<Uint8Array>;
  writable: WritableStream<Uint8Array>;
  close(): void;
}

/** All calls take an optional signal; aborting closes the connection, which cancels the work in the guest. */
export interface Guest {
  /** Waits until the agent answers `ping`; rejects at the deadline (ms) or when `signal` fires (VMM died). */
  ready(
    deadlineMs: number,
    signal?: AbortSignal,
  ): Promise<{ agent: string; configured: boolean; generation: number }>;
  /** Rejects with `configure_failed` and the `step` that failed; `warnings`: what the guest can live with. */
  configure(request: ConfigureRequest, signal?: AbortSignal): Promise<{ bootMs: number; warnings: string[] }>;
  exec(request: ExecRequest, sink: ExecSink, signal?: AbortSignal): Promise<ExecResult>;
  execDetached(request: ExecRequest & { outputFile: string }): Promise<{ pid: number }>;
  readFile(
    path: string,
    options: ReadOptions,
    signal?: AbortSignal,
  ): Promise<{ size: number; mode: string; length: number; body: ReadableStream<Uint8Array> }>;
  writeFile(
    path: string,
    body: ReadableStream<Uint8Array>,
    options: { mode: string; size: number; maxBytes: number },
    signal?: AbortSignal,
  ): Promise<void>;
  stat(path: string): Promise<FileStat>;
  list(path: string): Promise<FileEntry[]>;
  activity(timeoutMs: number): Promise<Activity>;
  ports(): Promise<{ port: number; address: string }[]>;
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
