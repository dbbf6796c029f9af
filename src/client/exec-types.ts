/** A command and what comes of it. */

export interface ExecBody {
  cmd: string[];
  /** Seconds, 1…86400; the server's default is 300. The command is killed when they have passed. */
  timeout_sec?: number;
  env?: Record<string, string>;
  cwd?: string;
  user?: "lohar" | "root";
}

/** Called in order; may block, which holds the guest back. */
export interface ExecSink {
  stdout(chunk: Uint8Array): void;
  stderr(chunk: Uint8Array): void;
}

export interface ExecOutcome {
  exitCode: number;
  timedOut: boolean;
}
