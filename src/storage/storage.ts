/** Copy-on-write copies and disk accounting. The mode is chosen once, at start, and shown by `bhatti doctor`. */

export interface Reservation {
  /** Idempotent. */
  release(): void;
}

export interface Storage {
  /** "reflink": FICLONE (btrfs, XFS). "copy": sparse copy, slower, chosen when the file system cannot do better. */
  readonly mode: "reflink" | "copy";
  /** Copies `from` to the new file `to`. Removes `to` on failure. Holes stay holes. */
  clone(from: string, to: string, signal?: AbortSignal): Promise<void>;
  /** Promises `bytes` of free space to the holder; throws AppError `disk_full` when they are not there. */
  reserve(bytes: number, what: string): Reservation;
  /** The same, or null. */
  tryReserve(bytes: number): Reservation | null;
  /** Grows a file system image to `sizeMb` (grow only; the guest grows the file system: `growRoot`). */
  growFile(path: string, sizeMb: number): Promise<void>;
  /** Bytes allocated on disk to a file or tree, shared extents counted once per file, and those not shared with others. */
  usage(path: string): Promise<{ allocatedBytes: number; exclusiveBytes: number | null }>;
  /** fsync of files and their directory. */
  sync(paths: string[]): Promise<void>;
  free(): { freeBytes: number; totalBytes: number; reservedBytes: number };
}
