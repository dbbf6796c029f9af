/** Starts the edge's process, talks with it, and starts it again when it ends. */
import type { Logger } from "pino";
import { lines } from "../lib/lines.ts";
import type { EdgeSetup, FromEdge, ToEdge } from "./protocol.ts";

const READY_MS = 15_000;
const STOP_MS = 2000;
const FIRST_PAUSE_MS = 50;
const MAX_PAUSE_MS = 10_000;
/** Who lives that long starts over with the short pause. */
const HEALTHY_MS = 60_000;
const MAX_STDERR = 2000;

type Child = Bun.Subprocess<"pipe", "pipe", "pipe">;

export interface EdgeOwner {
  setup(listen: string[]): EdgeSetup;
  heard(message: Exclude<FromEdge, { do: "ready" }>): void;
  /** It is gone, and with it every request. */
  ended(): void;
}

export class EdgeProcess {
  private child: Child | null = null;
  private stopped = false;
  private pauseMs = FIRST_PAUSE_MS;
  private listen: string[] = [];

  constructor(
    private readonly program: string,
    private readonly log: Logger,
    private readonly owner: EdgeOwner,
  ) {}

  get pid(): number | null {
    return this.child?.pid ?? null;
  }

  /** Resolves with the addresses that it listens on; a later process takes the same. Throws when it cannot. */
  async start(listen: string[]): Promise<string[]> {
    const { child, ready, said } = this.spawn(listen);
    this.listen = await ready;
    this.child = child;
    void this.watch(child, said);
    return this.listen;
  }

  say(message: ToEdge): void {
    const stdin = this.child?.stdin;
    if (!stdin) return;
    try {
      stdin.write(`${JSON.stringify(message)}\n`);
      stdin.flush();
    } catch {
      // Ending; `watch` sees it.
    }
  }

  async stop(drainMs: number): Promise<void> {
    this.stopped = true;
    const child = this.child;
    if (!child) return;
    this.say({ do: "drain", ms: drainMs });
    const late = setTimeout(() => child.kill("SIGKILL"), drainMs + STOP_MS);
    await child.exited.finally(() => clearTimeout(late));
  }

  private spawn(listen: string[]): { child: Child; ready: Promise<string[]>; said: Promise<string> } {
    const setup = JSON.stringify(this.owner.setup(listen));
    const child = Bun.spawn([...CONFINED, this.program, setup], {
      stdin: "pipe",
      stdout: "pipe",
      stderr: "pipe",
      cwd: "/",
      env: {},
    });
    const said = tail(child.stderr);
    const { promise: ready, resolve, reject } = Promise.withResolvers<string[]>();
    const late = setTimeout(() => child.kill("SIGKILL"), READY_MS);
    void (async () => {
      try {
        for await (const line of lines(child.stdout)) {
          const message = JSON.parse(line) as FromEdge;
          if (message.do === "ready") resolve(message.addresses);
          else this.owner.heard(message);
        }
      } catch (err) {
        // Nonsense from it: it is no longer ours.
        this.log.error({ err }, "the edge broke the protocol");
        child.kill("SIGKILL");
      }
      const code = await child.exited;
      reject(new Error(`the server's edge ended (${child.signalCode ?? code}): ${(await said).trim()}`));
    })();
    return { child, ready: ready.finally(() => clearTimeout(late)), said };
  }

  private async watch(child: Child, said: Promise<string>): Promise<void> {
    const began = performance.now();
    await child.exited;
    this.child = null;
    this.owner.ended();
    if (this.stopped) return;
    if (performance.now() - began > HEALTHY_MS) this.pauseMs = FIRST_PAUSE_MS;
    this.log.error(
      { code: child.exitCode, signal: child.signalCode, stderr: (await said).trim(), pauseMs: this.pauseMs },
      "the server's edge ended and is started again",
    );
    while (!this.stopped) {
      await Bun.sleep(this.pauseMs);
      this.pauseMs = Math.min(MAX_PAUSE_MS, this.pauseMs * 2);
      if (this.stopped) return;
      try {
        await this.start(this.listen);
        return;
      } catch (err) {
        this.log.error({ err, pauseMs: this.pauseMs }, "the server's edge does not start");
      }
    }
  }
}

/** No core (it holds what passes through it), no large file. */
const CONFINED = ["/usr/bin/prlimit", "--core=0", "--fsize=16777216"];

async function tail(stream: ReadableStream<Uint8Array>): Promise<string> {
  let said = "";
  const decoder = new TextDecoder();
  for await (const chunk of stream) said = (said + decoder.decode(chunk)).slice(-MAX_STDERR);
  return said;
}
