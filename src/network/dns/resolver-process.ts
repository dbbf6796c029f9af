/** The daemon's side of the resolver's process: starts it, gives it orders, and starts it again when it ends. */
import type { Logger } from "pino";
import { lines } from "../../lib/lines.ts";
import { TOOL_PATH } from "../run.ts";
import type { Order, Outcome, ResolverSetup } from "./protocol.ts";

/** What one owner's responder needs. */
export type View = Omit<Order & { do: "listen" }, "do" | "id">;

/** Longer than the resolver itself tries to bind. */
const ANSWER_MS = 6000;
const STOP_MS = 2000;
const FIRST_PAUSE_MS = 100;
const MAX_PAUSE_MS = 10_000;
/** Who lives that long starts over with the short pause. */
const HEALTHY_MS = 60_000;
const MAX_STDERR = 2000;

interface Waiting {
  resolve(): void;
  reject(error: Error): void;
}

export class ResolverProcess {
  private child: Bun.Subprocess<"pipe", "pipe", "pipe"> | null = null;
  private readonly waiting = new Map<number, Waiting>();
  private lastId = 0;
  private stopped = false;
  private pauseMs = FIRST_PAUSE_MS;
  private again: Timer | null = null;

  /** @param views what a new process has to answer for */
  constructor(
    private readonly setup: ResolverSetup,
    private readonly log: Logger,
    private readonly views: () => View[],
  ) {}

  get pid(): number | null {
    return this.child?.pid ?? null;
  }

  /** Starts the process unless it runs. */
  start(except?: number): void {
    if (this.child || this.stopped) return;
    if (this.again) clearTimeout(this.again);
    const child = Bun.spawn([...CONFINED, ...PROGRAM, JSON.stringify(this.setup)], {
      stdin: "pipe",
      stdout: "pipe",
      stderr: "pipe",
      cwd: "/",
      env: { PATH: TOOL_PATH },
    });
    child.unref();
    this.child = child;
    void this.read(child);
    void this.watch(child);
    for (const view of this.views()) {
      if (view.index === except) continue;
      this.ask(view).catch((err) => this.log.error({ err, address: view.address }, "DNS does not answer"));
    }
  }

  /** Resolves when `view` is answered for. Throws when it cannot be. */
  listen(view: View): Promise<void> {
    if (this.stopped) return Promise.reject(new Error("the network is stopped"));
    this.start(view.index);
    return this.ask(view);
  }

  /** Lost when the process is just not there: the next one begins with `views`. */
  order(order: Order): void {
    const stdin = this.child?.stdin;
    if (!stdin) return;
    try {
      stdin.write(`${JSON.stringify(order)}\n`);
      stdin.flush();
    } catch {
      // Ending; `watch` sees it.
    }
  }

  /** Ends the process, for good. */
  async stop(): Promise<void> {
    this.stopped = true;
    if (this.again) clearTimeout(this.again);
    const child = this.child;
    if (!child) return;
    child.stdin.end();
    const late = setTimeout(() => child.kill("SIGKILL"), STOP_MS);
    await child.exited.finally(() => clearTimeout(late));
  }

  private ask(view: View): Promise<void> {
    const id = ++this.lastId;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    // Who does not answer is stuck: a new one is better.
    const late = setTimeout(() => this.child?.kill("SIGKILL"), ANSWER_MS);
    this.waiting.set(id, { resolve, reject });
    this.order({ do: "listen", id, ...view });
    return promise.finally(() => {
      clearTimeout(late);
      this.waiting.delete(id);
    });
  }

  private async read(child: Bun.Subprocess<"pipe", "pipe", "pipe">): Promise<void> {
    try {
      for await (const line of lines(child.stdout)) {
        const { id, error } = JSON.parse(line) as Outcome;
        if (error === undefined) this.waiting.get(id)?.resolve();
        else this.waiting.get(id)?.reject(new Error(String(error)));
      }
    } catch {
      // Nonsense from it: it is no longer ours.
      child.kill("SIGKILL");
    }
  }

  private async watch(child: Bun.Subprocess<"pipe", "pipe", "pipe">): Promise<void> {
    const began = performance.now();
    let said = "";
    const decoder = new TextDecoder();
    for await (const chunk of child.stderr) said = (said + decoder.decode(chunk)).slice(-MAX_STDERR);
    await child.exited;
    this.child = null;
    for (const { reject } of this.waiting.values())
      reject(new Error(`the DNS resolver ended: ${said.trim()}`));
    if (this.stopped) return;
    if (performance.now() - began > HEALTHY_MS) this.pauseMs = FIRST_PAUSE_MS;
    this.log.error(
      { code: child.exitCode, signal: child.signalCode, stderr: said.trim(), pauseMs: this.pauseMs },
      "the DNS resolver ended and is started again",
    );
    this.again = setTimeout(() => this.start(), this.pauseMs);
    this.again.unref();
    this.pauseMs = Math.min(MAX_PAUSE_MS, this.pauseMs * 2);
  }
}

/** No new privileges by any program, no file written, no core. The user is changed by the process itself (process.ts). */
const CONFINED = ["prlimit", "--fsize=0", "--core=0", "setpriv", "--no-new-privs"];

/** The compiled program holds the resolver; otherwise it is a file beside this one. */
const PROGRAM = Bun.main.startsWith("/$bunfs/")
  ? [process.execPath, "dns-resolver"]
  : [process.execPath, `${import.meta.dir}/process.ts`];
