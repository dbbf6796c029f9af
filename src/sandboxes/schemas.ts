/** Shapes of requests about sandboxes: spec/http-api §7. Messages of our own rules are `custom` issues. */
import { z } from "zod";
import { custom, envSchema } from "../http/fields.ts";

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

export const labelsSchema = z.record(z.string(), z.string()).superRefine((labels, context) => {
  const count = Object.keys(labels).length;
  if (count > 16) context.addIssue(custom(`too many labels: ${count} > 16`));
  for (const [key, value] of Object.entries(labels)) {
    const problem = labelProblem(key, value);
    if (problem) context.addIssue(custom(problem));
  }
});

export const nameSchema = z.string().superRefine((name, context) => {
  if (!NAME.test(name)) context.addIssue(custom(`invalid sandbox name: ${NAME_RULE}`));
});

const fileSchema = z
  .object({
    guest_path: z.string().default(""),
    content: z.string().default(""),
    mode: z.string().default("0644"),
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

const idle = z.int().min(0).max(31_536_000);

/** Members of v1 that need parts of the product which do not exist yet: refused, not ignored. */
const later = z.array(z.unknown()).optional();

export const createSchema = z.object({
  name: nameSchema.optional(),
  template_id: z.string().optional(),
  image: z.string().max(200).optional(),
  cpus: z.number().optional(),
  memory_mb: z.int().optional(),
  disk_size_mb: z.int().min(0).max(16_777_216).optional(),
  env: envSchema.optional(),
  init: z.string().max(65_536).optional(),
  keep_hot: z.boolean().optional(),
  hugepages: z.boolean().optional(),
  labels: labelsSchema.optional(),
  files: z.array(fileSchema).max(256).optional(),
  new_volumes: later,
  volumes: later,
  persistent_volumes: later,
  secrets: later,
  warm_after_s: idle.optional(),
  cold_after_s: idle.optional(),
});

export const patchSchema = z.object({
  name: nameSchema.optional(),
  labels_add: labelsSchema.optional(),
  labels_remove: z.array(z.string()).optional(),
  keep_hot: z.boolean().optional(),
  warm_after_s: idle.optional(),
  cold_after_s: idle.optional(),
});

export const stopSchema = z.object({ sync: z.boolean().optional() });
export const startSchema = z.object({ force: z.boolean().optional() });
