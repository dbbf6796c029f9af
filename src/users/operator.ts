import { AppError } from "../lib/errors.ts";
import type { User } from "./user.ts";

/** Throws forbidden for users who are not operators. */
export function mustBeAdmin(user: User): void {
  if (!user.admin)
    throw new AppError("forbidden", "this needs an operator's key", {
      remedy: "use the key of a user that was created with --admin",
    });
}
