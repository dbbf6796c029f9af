import { type AppError, notFound } from "../lib/errors.ts";

/** The one way in which a sandbox is missing, also for somebody else's. */
export const sandboxNotFound = (ref: string): AppError =>
  notFound(`sandbox "${ref.slice(0, 100)}" not found`, "bhatti list shows your sandboxes");
