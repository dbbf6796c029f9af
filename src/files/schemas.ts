/** Queries of the routes of files. */
import { z } from "zod";
import { custom, flagQuery, guestPath, wholeQuery } from "../http/fields.ts";

const path = guestPath("path");

export const statQuery = z.strictObject({ path });

export const readQuery = z
  .strictObject({
    path,
    ls: flagQuery().optional(),
    offset: wholeQuery(1).optional(),
    limit: wholeQuery(1).optional(),
    max_bytes: wholeQuery(1).optional(),
  })
  .superRefine(({ offset, limit, max_bytes }, context) => {
    if (offset !== undefined && limit === undefined && max_bytes === undefined)
      context.addIssue(custom("offset needs limit or max_bytes"));
  });
export type ReadQuery = z.infer<typeof readQuery>;

export const writeQuery = z.strictObject({
  path,
  mode: z
    .string()
    .regex(/^[0-7]{1,5}$/, "must be octal, e.g. 0644")
    .optional(),
});
