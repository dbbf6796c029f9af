/** For tests: the real command line as a child process, and a fake daemon that stands in for the server. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface Seen {
  method: string;
  path: string;
  query: URLSearchParams;
  headers: Headers;
  body: string;
}

type Handler = (request: Seen, raw: Request) => Response | undefined | Promise<Response | undefined>;

/** A fake daemon on a free loopback port. Records what was asked; what `handler` does not answer is a 404. */
export class FakeDaemon {
  readonly seen: Seen[] = [];
  private readonly server: Bun.Server<undefined>;

  /** `sockets`: what happens on the exec stream; without it handshakes get the answer of `handler`. */
  constructor(handler: Handler, sockets?: Bun.WebSocketHandler<undefined>) {
    this.server = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      idleTimeout: 0,
      websocket: sockets ?? { message() {} },
      fetch: async (raw) => {
        const url = new URL(raw.url);
        const request: Seen = {
          method: raw.method,
          path: url.pathname,
          query: url.searchParams,
          headers: raw.headers,
          body: Buffer.from(await raw.arrayBuffer()).toString("latin1"),
        };
        this.seen.push(request);
        if (sockets && raw.headers.has("upgrade")) {
          this.server.upgrade(raw);
          return undefined as unknown as Response;
        }
        return (
          (await handler(request, raw)) ??
          Response.json({ error: "not found", code: "not_found" }, { status: 404 })
        );
      },
    });
  }

  get url(): string {
    return `http://127.0.0.1:${this.server.port}`;
  }

  last(): Seen {
    return this.seen.at(-1)!;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server.stop(true);
  }
}

/** A home directory of its own, so that no test sees or changes the configuration of this machine. */
export class Home {
  readonly dir = mkdtempSync(join(tmpdir(), "bhatti-cli-test-"));

  [Symbol.dispose](): void {
    rmSync(this.dir, { recursive: true, force: true });
  }
}

export interface RunOptions {
  home?: Home;
  url?: string;
  env?: Record<string, string>;
  /** Bytes for stdin (a file), or a stream (a pipe); absent = /dev/null. */
  stdin?: string | Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array>;
}

const MAIN = join(import.meta.dir, "..", "main.ts");

/** Starts the command line; the caller waits for it. */
export function start(args: string[], options: RunOptions = {}) {
  return Bun.spawn([process.execPath, MAIN, ...args], {
    stdin:
      options.stdin === undefined
        ? "ignore"
        : options.stdin instanceof ReadableStream
          ? options.stdin
          : Buffer.from(options.stdin),
    stdout: "pipe",
    stderr: "pipe",
    env: {
      PATH: process.env.PATH ?? "",
      HOME: options.home?.dir ?? "/nonexistent",
      XDG_CACHE_HOME: join(options.home?.dir ?? "/nonexistent", "cache"),
      TERM: "xterm",
      ...(options.url ? { BHATTI_URL: options.url, BHATTI_TOKEN: "bht_test" } : {}),
      ...options.env,
    },
  });
}

/** Runs the command line to its end. */
export async function bhatti(args: string[], options: RunOptions = {}) {
  const child = start(args, options);
  const [stdout, stderr, code] = await Promise.all([
    new Response(child.stdout).bytes(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { stdout: Buffer.from(stdout).toString("utf8"), bytes: stdout, stderr, code };
}

/** A sandbox as the server shows it. */
export const sandbox = (name: string, more: Record<string, unknown> = {}) => ({
  id: "3f0c9a4be17d2256",
  name,
  template_id: "",
  engine_id: "b1d7730e5a9c44f2",
  status: "running",
  ip: "10.0.1.2",
  engine_meta: {},
  created_by: "usr_9a31c0de",
  created_at: new Date(Date.now() - 60_000).toISOString(),
  keep_hot: false,
  cpus: 1,
  memory_mb: 512,
  disk_size_mb: 0,
  image: "minimal",
  thermal: "hot",
  reason: "created",
  last_activity_at: new Date().toISOString(),
  warm_after_s: 30,
  cold_after_s: 1800,
  durable: false,
  created_from: "template",
  ...more,
});
