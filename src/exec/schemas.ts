/** Shape of an exec request. */
import { z } from "zod";
import { custom, envSchema, flag, guestPath, orEmpty, whole } from "../http/fields.ts";

export const MAX_TIMEOUT_S = 86_400;

const cmd = z
  .array(z.string("must be text"), {
    error: ({ input }) => (input === undefined ? "cmd required" : "must be a list of words"),
  })
  .superRefine((words, context) => {
    if (words.length === 0) context.addIssue(custom("cmd required"));
    if (words.some((word) => word.includes("\0"))) context.addIssue(custom("cmd contains NUL"));
  });

export const execSchema = z.strictObject({
  cmd,
  timeout_sec: whole(1, MAX_TIMEOUT_S).optional(),
  detach: flag().optional(),
  output_file: orEmpty(guestPath("output_file"), ""),
  env: envSchema.optional(),
  cwd: orEmpty(guestPath("cwd"), ""),
  user: z.enum(["lohar", "root"], "must be lohar or root").optional(),
  stdin: z.string("must be text").optional(),
  stdin_b64: z.base64("must be base64").optional(),
});
export type ExecBody = z.infer<typeof execSchema>;
