import type { Context } from "hono";
import type { AppEnv } from "../users/app-env.ts";
import type { GuestLease } from "./service.ts";

/** Ends with the client or with the sandbox, whichever goes first. */
export const signalOf = (c: Context<AppEnv>, lease: GuestLease): AbortSignal =>
  AbortSignal.any([c.req.raw.signal, lease.revoked]);
