/**
 * Programs that the daemon started (ip, nft, shells) outlive its death for a moment and go on changing the host's network:
 * what the next daemon has just cleared would come back. Each of them inherits this lock, and the next daemon waits for it.
 */
import { closeSync, mkdirSync, openSync, rmSync } from "node:fs";
import { flock } from "../lib/flock.ts";
import { inherit } from "./run.ts";

/** Empty after an uninstall, and then removed by it: another daemon may be about to open its file here. */
export const HELPER_DIR = "/run/bhatti";
const WAIT_MS = 10_000;

export class HelperLock {
  private fd: number | null = null;

  constructor(private readonly prefix: string) {}

  /** Waits until no helper of an earlier daemon is left, 10 s at most. False: one still is, or another daemon lives. */
  async take(): Promise<boolean> {
    if (this.fd !== null) return true;
    mkdirSync(HELPER_DIR, { recursive: true, mode: 0o700 });
    this.fd = openSync(`${HELPER_DIR}/${this.prefix}.helpers`, "a", 0o600);
    inherit(this.fd);
    for (const end = Date.now() + WAIT_MS; !flock(this.fd); ) {
      if (Date.now() > end) return false;
      await Bun.sleep(20);
    }
    return true;
  }

  release(): void {
    if (this.fd === null) return;
    inherit(null);
    closeSync(this.fd);
    this.fd = null;
  }

  /** Removes its file as well: nobody of this prefix comes again. */
  forget(): void {
    this.release();
    rmSync(`${HELPER_DIR}/${this.prefix}.helpers`, { force: true });
  }
}
