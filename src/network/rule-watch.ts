/** Notices that firewall rules of ours were removed: `nft flush ruleset`, the reload of another firewall. */
import type { Logger } from "pino";
import { lines } from "../lib/lines.ts";
import { TOOL_PATH } from "./run.ts";

/** In case an event was lost, or the monitor. */
const CHECK_MS = 60_000;
const RETRY_MS = 1000;

export class RuleWatch {
  private monitor: Bun.Subprocess<"ignore", "pipe", "ignore"> | null = null;
  private timer: Timer | null = null;
  private stopped = false;
  private checking = false;
  private again = false;

  /** @param removed called after every removal that concerns `table`, never twice at a time */
  constructor(
    private readonly table: string,
    private readonly log: Logger,
    private readonly removed: () => Promise<unknown>,
  ) {}

  start(): void {
    if (this.stopped) return;
    // All events: with `destroy`, which would show removals alone, nft 1.1 reads a command and ends.
    const monitor = Bun.spawn(["setpriv", "--pdeathsig=KILL", "nft", "monitor"], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "ignore",
      env: { PATH: TOOL_PATH, LC_ALL: "C" },
    });
    monitor.unref();
    this.monitor = monitor;
    void this.read(monitor);
    this.wait(CHECK_MS, () => this.periodically());
  }

  stop(): void {
    this.stopped = true;
    if (this.timer) clearTimeout(this.timer);
    this.monitor?.kill("SIGKILL");
  }

  private async read(monitor: Bun.Subprocess<"ignore", "pipe", "ignore">): Promise<void> {
    const ours = new RegExp(`^delete (?:table|chain|rule|set) (?:inet|bridge) ${this.table}(?: |$)`);
    for await (const line of lines(monitor.stdout)) if (ours.test(line)) void this.check();
    await monitor.exited;
    if (this.stopped) return;
    this.wait(RETRY_MS, () => {
      this.start();
      void this.check();
    });
  }

  private periodically(): void {
    void this.check();
    this.wait(CHECK_MS, () => this.periodically());
  }

  private async check(): Promise<void> {
    this.again = true;
    if (this.checking) return;
    this.checking = true;
    try {
      while (this.again && !this.stopped) {
        this.again = false;
        await this.removed();
      }
    } catch (err) {
      this.log.error({ err }, "firewall rules of bhatti are gone and could not be put back");
      this.wait(RETRY_MS, () => this.periodically());
    } finally {
      this.checking = false;
    }
  }

  /** One timer at a time: the latest wish counts. */
  private wait(ms: number, then: () => void): void {
    if (this.timer) clearTimeout(this.timer);
    if (this.stopped) return;
    this.timer = setTimeout(then, ms);
    this.timer.unref();
  }
}
