/** Shapes of requests about sandboxes. Everything that can be known from the request alone is checked here. */
import { z } from "zod";
import { custom, envSchema, flag, flagQuery, orEmpty, positive, text, whole } from "../http/fields.ts";
import { secretRefs } from "../secrets/reference.ts";

export const NAME = /^[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}$/;
export const NAME_RULE = "1 to 63 letters, digits, '.', '_' or '-', the first a letter or digit";

const SEGMENT = /^[a-zA-Z0-9]([a-zA-Z0-9._-]{0,61}[a-zA-Z0-9])?$/;

/** What is wrong with a label, or null. */
export function labelProblem(key: string, value?: string): string | null {
  if (key.startsWith("bhatti.sh/")) return `label key "${key}" uses reserved prefix "bhatti.sh/"`;
  const parts = key.split("/");
  if (parts.length > 2 || !parts.every((part) => SEGMENT.test(part)))
    return `invalid label key "${key}": segments are 1-63 characters, alphanumeric at both ends`;
  if (value === undefined) return null;
  if (Buffer.byteLength(value) > 256)
    return `label "${key}" value too long: ${Buffer.byteLength(value)} > 256`;
  if (!/^[a-zA-Z0-9._-]*$/.test(value))
    return `invalid label value "${value}" for key "${key}": only letters, digits, '.', '_' and '-'`;
  return null;
}

export const MAX_LABELS = 16;

export const labelsSchema = z.record(z.string(), z.string("must be text")).superRefine((labels, context) => {
  const count = Object.keys(labels).length;
  if (count > MAX_LABELS) context.addIssue(custom(`too many labels: ${count} > ${MAX_LABELS}`));
  for (const [key, value] of Object.entries(labels)) {
    const problem = labelProblem(key, value);
    if (problem) context.addIssue(custom(problem));
  }
});

const labelKeys = z.array(z.string("must be text")).superRefine((keys, context) => {
  if (keys.length > MAX_LABELS)
    context.addIssue(custom(`too many label keys to remove: ${keys.length} > ${MAX_LABELS}`));
  for (const key of keys) {
    const problem = labelProblem(key);
    if (problem) context.addIssue(custom(problem));
  }
});

export const nameSchema = z.string("must be text").superRefine((name, context) => {
  if (!NAME.test(name)) context.addIssue(custom(`invalid sandbox name: ${NAME_RULE}`));
});

const fileSchema = z
  .strictObject({
    guest_path: z.string("must be text").default(""),
    content: z.string("must be text").default(""),
    mode: z.string("must be text").default("0644"),
  })
  .superRefine((file, context) => {
    if (file.guest_path === "") context.addIssue(custom("file guest_path required"));
    else if (
      !file.guest_path.startsWith("/") ||
      file.guest_path.includes("\0") ||
      file.guest_path.length > 4095
    ) {
      context.addIssue(
        custom(`file "${file.guest_path.slice(0, 100)}": guest_path must be an absolute path`),
      );
    } else if (!/^[A-Za-z0-9+/]*={0,2}$/.test(file.content) || file.content.length % 4 !== 0) {
      context.addIssue(custom(`file "${file.guest_path}": invalid base64 content`));
    } else if (!/^0?[0-7]{3,4}$/.test(file.mode)) {
      context.addIssue(custom(`file "${file.guest_path}": mode must be octal, e.g. 0644`));
    }
  });

const onUnresponsive = z.enum(["none", "restart"], "must be none or restart");
const idle = whole(0, 31_536_000);

/** Members of v1 that need parts of the product which do not exist yet: accepted when empty, else refused by name. */
export const LATER = ["template_id", "new_volumes", "volumes", "persistent_volumes", "hugepages"] as const;
const laterList = z.array(z.unknown()).optional();

export const createSchema = z.strictObject({
  name: orEmpty(nameSchema, ""),
  template_id: z.string().optional(),
  image: orEmpty(text(200), ""),
  cpus: orEmpty(positive(256), 0),
  memory_mb: orEmpty(whole(128, 1_048_576), 0),
  disk_size_mb: whole(0, 16_777_216).optional(),
  env: envSchema.optional(),
  init: text(65_536).optional(),
  keep_hot: flag().optional(),
  hugepages: flag().optional(),
  labels: labelsSchema.optional(),
  files: z.array(fileSchema).max(256, "must be at most 256 files").optional(),
  new_volumes: laterList,
  volumes: laterList,
  persistent_volumes: laterList,
  secrets: secretRefs.optional(),
  warm_after_s: idle.optional(),
  cold_after_s: idle.optional(),
  on_unresponsive: onUnresponsive.optional(),
});

/** Characters that every HTTP client can send. */
const KEY = /^[\x21-\x7e]{1,255}$/;

export const createHeaders = z.object({
  "idempotency-key": z
    .string()
    .regex(KEY, "must be 1 to 255 printable characters without blanks")
    .optional()
    .describe("The same key within 24 hours means the same sandbox"),
});

export const listQuery = z.strictObject({ label: z.array(z.string()).optional() });
export const getQuery = z.strictObject({ detail: flagQuery().optional() });
export const consoleQuery = z.strictObject({ previous: flagQuery().optional() });
export const noQuery = z.strictObject({});

export const patchSchema = z.strictObject({
  name: nameSchema.optional(),
  labels_add: labelsSchema.optional(),
  labels_remove: labelKeys.optional(),
  keep_hot: flag().optional(),
  warm_after_s: idle.optional(),
  cold_after_s: idle.optional(),
  on_unresponsive: onUnresponsive.optional(),
  secrets_add: secretRefs.optional(),
  secrets_remove: z.array(z.string("must be text")).max(64, "must be at most 64").optional(),
});

export const stopSchema = z.strictObject({ sync: flag().optional() });
export const startSchema = z.strictObject({ force: flag().optional() });
export const restartSchema = z.strictObject({ force: flag().optional() });
