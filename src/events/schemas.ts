/** Query of GET /events. */
import { z } from "zod";
import { flagQuery, wholeQuery } from "../http/fields.ts";

export const eventQuery = z.strictObject({
  type: z.string().max(100).optional(),
  /** Operators see everybody's. */
  user: z.string().max(100).optional(),
  sandbox: z.string().max(100).optional(),
  since: wholeQuery(0).optional(),
  limit: wholeQuery(1, 10_000).optional(),
  follow: flagQuery().optional(),
});
