/** How a sandbox names a secret that it is given: as a variable, as a file, or both. */
import { z } from "zod";
import { custom, guestPath } from "../http/fields.ts";

export interface SecretRef {
  name: string;
  /** Variable. */
  env?: string;
  path?: string;
  /** Four octal digits; with `path` only, like `owner`. */
  mode?: string;
  /** USER, USER:GROUP, :GROUP or "" for the sandbox's user. */
  owner?: string;
}

/** Names are names of environment variables. */
export const SECRET_NAME = /^[A-Za-z_][A-Za-z0-9_]{0,127}$/;
export const SECRET_NAME_RULE = "1 to 128 letters, digits and '_', the first no digit";

export const MAX_REFS = 64;
/** Where files of secrets lie in the guest, in a tmpfs of the agent. */
export const SECRETS_DIR = "/run/secrets";
const REFUSED = ["/proc", "/sys", "/dev", "/run/bhatti"];

/** What is wrong with a path for a secret's file, or null. */
export function pathProblem(path: string): string | null {
  const parts = path.split("/").slice(1);
  if (parts.some((part) => part === "" || part === "." || part === ".."))
    return "must be a plain path: no '//', '.', '..' and no '/' at its end";
  if (REFUSED.some((dir) => path === dir || path.startsWith(`${dir}/`)))
    return `must not lie below ${REFUSED.join(", ")}`;
  if (path === SECRETS_DIR || path === "/run") return "must be a file, not a folder of the system";
  if (path.startsWith(`${SECRETS_DIR}/`) && (parts.length > 3 || parts[2]!.startsWith(".")))
    return `must lie directly in ${SECRETS_DIR}, or elsewhere`;
  return null;
}

const name = z.string("must be text").superRefine((text, context) => {
  if (!SECRET_NAME.test(text)) context.addIssue(custom(`invalid secret name: ${SECRET_NAME_RULE}`));
});

const entry = z
  .strictObject({
    name,
    env: z.string("must be text").regex(SECRET_NAME, "must be a name of an environment variable").optional(),
    path: guestPath("path")
      .superRefine((path, context) => {
        const problem = pathProblem(path);
        if (problem) context.addIssue(custom(`path ${problem}`));
      })
      .optional(),
    mode: z
      .string("must be text")
      .regex(/^0?[0-7]{3}$/, "must be octal, e.g. 0400")
      .optional(),
    owner: z
      .string("must be text")
      .regex(/^[\w.-]{0,64}(:[\w.-]{1,64})?$/, "must be USER, USER:GROUP or :GROUP")
      .optional(),
  })
  .superRefine(({ path, mode, owner }, context) => {
    if (path === undefined && (mode !== undefined || owner !== undefined))
      context.addIssue(custom("mode and owner of a secret belong to a path"));
  })
  .transform(
    ({ name, env, path, mode, owner }): SecretRef => ({
      name,
      ...(env !== undefined || path === undefined ? { env: env ?? name } : {}),
      ...(path === undefined ? {} : { path, mode: (mode ?? "0400").padStart(4, "0"), owner: owner ?? "" }),
    }),
  );

/** What is in the document; `entry` says what is wrong with one. */
const written = z.union(
  [
    z.string(),
    z.strictObject({
      name: z.string(),
      env: z.string().optional(),
      path: z.string().optional(),
      mode: z.string().optional(),
      owner: z.string().optional(),
    }),
  ],
  "must be a name, or an object with name, env, path, mode, owner",
);

/** The member `secrets` of a create: names (v1), or where each goes. */
export const secretRefs = z
  .array(written, "must be a list of names, or of objects with name, env, path, mode, owner")
  .max(MAX_REFS, `must be at most ${MAX_REFS}`)
  .transform((list, context): SecretRef[] => {
    const refs: SecretRef[] = [];
    for (const [i, one] of list.entries()) {
      const parsed = entry.safeParse(typeof one === "string" ? { name: one } : one);
      if (parsed.success) refs.push(parsed.data);
      else {
        const [{ message, path }] = parsed.error.issues as [z.core.$ZodIssue];
        context.addIssue({ ...custom(message), path: [i, ...path] });
      }
    }
    const problem = twice(refs);
    if (problem) context.addIssue(custom(problem));
    return refs;
  });

function twice(refs: readonly SecretRef[]): string | null {
  const seen = new Set<string>();
  for (const target of refs.flatMap(({ env, path }) => [env, path])) {
    if (target === undefined) continue;
    if (seen.has(target)) return `two secrets for ${target}`;
    seen.add(target);
  }
  return null;
}

/** What is added takes the place of what goes to the same variable or path; `remove` names secrets. */
export function changedRefs(
  have: readonly SecretRef[],
  add: readonly SecretRef[],
  remove: readonly string[],
): SecretRef[] {
  const taken = (ref: SecretRef, member: "env" | "path") =>
    ref[member] !== undefined && add.some((one) => one[member] === ref[member]);
  const left = have
    .filter(({ name }) => !remove.includes(name))
    .map((ref): SecretRef => {
      const { name, env, ...file } = ref;
      return {
        name,
        ...(env === undefined || taken(ref, "env") ? {} : { env }),
        ...(taken(ref, "path") ? {} : file),
      };
    })
    .filter(({ env, path }) => env !== undefined || path !== undefined);
  return [...left, ...add];
}

export const refsOf = (column: string): SecretRef[] => JSON.parse(column) as SecretRef[];
