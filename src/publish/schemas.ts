/** Shapes of requests about published ports. */
import { z } from "zod";
import { flagQuery, orEmpty, text, whole } from "../http/fields.ts";

const port = z.int("port must be 1-65535").min(1, "port must be 1-65535").max(65535, "port must be 1-65535");

export const publishSchema = z.strictObject({
  port,
  alias: orEmpty(text(100), ""),
  visibility: z.enum(["public", "password", "link"], "must be public, password or link").optional(),
  password: text(1024).optional(),
});

/** A link lives a minute at least, a year at most. */
export const shareSchema = z.strictObject({ expires_in_s: whole(60, 31_536_000).optional() });

export const listQuery = z.strictObject({ stats: flagQuery().optional() });
