/**
 * Members of bodies and queries that several nouns share. A message that begins with "must" is told behind the member's name;
 * one of `custom` goes to the client as it is.
 */
import { z } from "zod";

export const custom = (message: string) => ({ code: "custom" as const, message });

/** A whole number of a JSON body. */
export function whole(min: number, max: number) {
  const error = `must be a whole number from ${min} to ${max}`;
  return z.int({ error }).min(min, error).max(max, error);
}

/** A number of a JSON body that may have a fraction, more than 0. */
export function positive(max: number) {
  const error = `must be more than 0 and at most ${max}`;
  return z.number({ error }).gt(0, error).max(max, error);
}

/** Existing clients send "" and 0 for members that were not given. */
export const orEmpty = <S extends z.ZodType>(schema: S, empty: "" | 0) =>
  z.preprocess((value) => (value === empty ? undefined : value), schema.optional());

export const text = (max: number) => z.string("must be text").max(max, `must be at most ${max} characters`);
export const flag = () => z.boolean("must be true or false");

/** A whole number of a query. */
export function wholeQuery(min: number, max = 1e15) {
  const error =
    max < 1e15 ? `must be a whole number from ${min} to ${max}` : `must be a whole number from ${min}`;
  return z
    .string()
    .regex(/^\d{1,15}$/, error)
    .transform(Number)
    .refine((value) => value >= min && value <= max, error)
    .meta({ type: "integer", minimum: min, ...(max < 1e15 ? { maximum: max } : {}) });
}

/** A switch of a query: true, 1, false, 0. */
export const flagQuery = () =>
  z
    .enum(["true", "1", "false", "0"], "must be true or false")
    .transform((value) => value === "true" || value === "1")
    .meta({ type: "boolean" });

/** An absolute path in the guest, as a member or a query parameter called `name`. */
export const guestPath = (name: string) =>
  z.string(`${name} is required`).superRefine((path, context) => {
    if (path === "") context.addIssue(custom(`${name} is required`));
    else if (!path.startsWith("/")) context.addIssue(custom(`${name} must be an absolute path`));
    else if (path.includes("\0")) context.addIssue(custom(`${name} contains NUL`));
    else if (Buffer.byteLength(path) > 4095)
      context.addIssue(custom(`${name} is too long: 4095 bytes at most`));
  });

export const envSchema = z.record(z.string(), z.string("must be text")).superRefine((env, context) => {
  for (const [key, value] of Object.entries(env)) {
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(key))
      context.addIssue(custom(`invalid environment variable name "${key}"`));
    else if (value.includes("\0")) context.addIssue(custom(`environment variable "${key}" contains NUL`));
  }
});
