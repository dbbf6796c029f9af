/** Members of request bodies that several nouns share. */
import { z } from "zod";

/** An issue whose message goes to the client as it is. */
export const custom = (message: string) => ({ code: "custom" as const, message });

export const envSchema = z.record(z.string(), z.string()).superRefine((env, context) => {
  for (const [key, value] of Object.entries(env)) {
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(key))
      context.addIssue(custom(`invalid environment variable name "${key}"`));
    else if (value.includes("\0")) context.addIssue(custom(`environment variable "${key}" contains NUL`));
  }
});
