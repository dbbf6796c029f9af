/** Queries of the routes of files. */
import { z } from "zod";
import { custom, flagQuery, wholeQuery } from "../http/fields.ts";

const MAX_PATH = 4095;

/** An absolute path, or `base64:` and its bytes (standard alphabet) where it is not UTF-8, as `name_b64` of a listing tells it. */
const path = z.string("path is required").superRefine((value, context) => {
  const issue = (message: string) => void context.addIssue(custom(message));
  const coded = value.startsWith("base64:") ? value.slice(7) : null;
  if (coded !== null && !/^[A-Za-z0-9+/]+={0,2}$/.test(coded))
    return issue("path is not base64 behind base64:");
  const bytes = coded === null ? Buffer.from(value) : Buffer.from(coded, "base64");
  if (bytes.length === 0) issue("path is required");
  else if (bytes[0] !== 0x2f) issue("path must be an absolute path");
  else if (bytes.includes(0)) issue("path contains NUL");
  else if (bytes.length > MAX_PATH) issue(`path is too long: ${MAX_PATH} bytes at most`);
});

export const statQuery = z.strictObject({ path });

export const readQuery = z
  .strictObject({
    path,
    ls: flagQuery().optional(),
    stat: flagQuery().optional(),
    offset: wholeQuery(1).optional(),
    limit: wholeQuery(1).optional(),
    max_bytes: wholeQuery(1).optional(),
  })
  .superRefine(({ ls, stat, offset, limit, max_bytes }, context) => {
    if (offset !== undefined && limit === undefined && max_bytes === undefined)
      context.addIssue(custom("offset needs limit or max_bytes"));
    if (ls && stat) context.addIssue(custom("ls and stat exclude each other"));
    if ((ls && max_bytes !== undefined) || (ls && offset !== undefined))
      context.addIssue(custom("a listing knows limit alone"));
  });
export type ReadQuery = z.infer<typeof readQuery>;

export const writeQuery = z.strictObject({
  path,
  mode: z
    .string()
    .regex(/^0?[0-7]{1,4}$/, "must be octal, e.g. 0644")
    .optional(),
  owner: z
    .string()
    .regex(/^(?=.)[^:\s]{0,32}(:[^:\s]{0,32})?$/, "must be USER, USER:GROUP or :GROUP")
    .optional(),
});
