/**
 * Disk that an owner's things hold together: blocks of their files, memory that lies in files included. Blocks that are shared
 * (with an image, a fork, a snapshot) count for each who has them: they stay when the others go. What guests write into
 * their own disks is bounded by the sizes of these; who is above the limit gets nothing new.
 */
import { AppError } from "../lib/errors.ts";
import type { Reservation } from "../storage/storage.ts";

export class StorageQuota {
  private readonly sources: ((userId: string) => number)[] = [];
  /** Bytes of what is being made, by owner: not counted by any source yet. */
  private readonly coming = new Map<string, number>();

  /** `limitMb` is asked each time, so that a change counts at once; 0 = none. */
  constructor(private readonly limitMb: (userId: string) => number) {}

  /** Adds a kind of things: bytes that those hold which are complete. */
  counts(source: (userId: string) => number): void {
    this.sources.push(source);
  }

  /** Bytes, what is being made included. */
  held(userId: string): number {
    return this.sources.reduce((sum, source) => sum + source(userId), this.coming.get(userId) ?? 0);
  }

  /** Throws limit_reached unless `bytes` more fit. They count until they are released: when their source counts them. */
  take(user: { id: string; name: string }, bytes: number, what: string): Reservation {
    const maxMb = this.limitMb(user.id);
    if (maxMb > 0) {
      const held = this.held(user.id);
      if (held + bytes > maxMb * 1048576) {
        const mb = (n: number) => Math.ceil(n / 1048576);
        throw new AppError(
          "limit_reached",
          `storage limit reached: your sandboxes and snapshots hold ${mb(held)} of ${maxMb} MB, ${what} needs ${mb(bytes)} MB`,
          {
            remedy: `bhatti snapshot delete and bhatti destroy make room; or ask the operator: bhatti user limits ${user.name} --max-storage <size>`,
          },
        );
      }
    }
    const add = (n: number) => {
      const left = (this.coming.get(user.id) ?? 0) + n;
      if (left > 0) this.coming.set(user.id, left);
      else this.coming.delete(user.id);
    };
    add(bytes);
    let open = true;
    return {
      release() {
        if (open) add(-bytes);
        open = false;
      },
    };
  }
}
