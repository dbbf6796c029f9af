/** Shape of an exec request: spec/http-api §8. */
import { z } from "zod";
import { envSchema } from "../http/fields.ts";

export const execSchema = z.object({
  cmd: z.array(z.string()).optional(),
  timeout_sec: z.number().optional(),
  detach: z.boolean().optional(),
  output_file: z.string().max(4095).optional(),
  env: envSchema.optional(),
  cwd: z.string().max(4095).optional(),
  user: z.enum(["lohar", "root"]).optional(),
  stdin: z.string().optional(),
  stdin_b64: z.string().optional(),
});
export type ExecBody = z.infer<typeof execSchema>;
