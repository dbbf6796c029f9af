/** The host's rule set: changes that arrive while a transaction runs go together into the next one. */
import { run } from "./run.ts";

interface Change {
  text: string | (() => string);
  resolve(): void;
  reject(error: unknown): void;
}

export class Nft {
  private pending: Change[] = [];
  private running = false;

  /**
   * Applies `text` atomically; a function is asked for it when its turn comes. Throws with nft's message; then nothing of
   * `text` is in force.
   */
  apply(text: Change["text"]): Promise<void> {
    return new Promise((resolve, reject) => {
      this.pending.push({ text, resolve, reject });
      if (!this.running) void this.drain();
    });
  }

  private async drain(): Promise<void> {
    this.running = true;
    while (this.pending.length > 0) {
      const batch = this.pending.splice(0);
      const together = await transaction(batch).then(
        () => true,
        () => false,
      );
      for (const change of batch) {
        if (together) change.resolve();
        // One bad change must not fail its neighbours: each on its own.
        else await transaction([change]).then(change.resolve, change.reject);
      }
    }
    this.running = false;
  }
}

const transaction = (batch: Change[]): Promise<string> =>
  run(["nft", "-f", "-"], batch.map(({ text }) => (typeof text === "string" ? text : text())).join(""));
