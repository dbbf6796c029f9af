/** Refusals about sandboxes that several files need, each with its remedy. */
import { AppError, conflict, notFound } from "../lib/errors.ts";

/** The one way in which a sandbox is missing, also for somebody else's. */
export const sandboxNotFound = (ref: string): AppError =>
  notFound(`sandbox "${ref.slice(0, 100)}" not found`, "bhatti list shows your sandboxes");

export const nameInUse = (name: string): AppError =>
  conflict(`name "${name}" is already in use`, `choose another name, or 'bhatti destroy ${name}'`);

/** What helps when the server's disk is nearly full. */
export const makeSpace =
  "it goes on by itself when there is room: destroy sandboxes or snapshots you no longer need, or give the server more disk";

export const stoppedForDisk = (name: string, since: string): AppError =>
  new AppError(
    "disk_full",
    `sandbox "${name}" stands still since ${since}: the server's disk is full or nearly so`,
    { remedy: makeSpace, retryAfter: 5 },
  );

/** Remedy for memory that cannot be restored. */
export const forceStart = (name: string): string =>
  `bhatti start --force ${name}   (memory since the last boot is given up, the disk is kept)`;

/** What helps a sandbox that does not answer or cannot come up. */
export const restartIt = (name: string): string =>
  `bhatti restart ${name}   (boots it from its disk; what was only in memory is given up)`;
