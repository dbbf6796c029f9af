/** What an archive says about itself. Comes from strangers: everything has a bound and the API's own rules. */
import { createHmac, timingSafeEqual } from "node:crypto";
import { z } from "zod";
import { envSchema } from "../http/fields.ts";
import { badRequest } from "../lib/errors.ts";
import { labelsSchema, NAME } from "../sandboxes/schemas.ts";

export const FORMAT = 2;

/** `data`: bytes stored, the rest are holes. `sha256`: lohar/internal/archive/digest.go. */
const facts = z
  .strictObject({
    size: z
      .int()
      .min(1)
      .max(2 ** 44),
    data: z
      .int()
      .min(0)
      .max(2 ** 44),
    sha256: z.string().regex(/^[0-9a-f]{64}$/),
  })
  .refine(({ size, data }) => data <= size + 1048576);

const manifestSchema = z.strictObject({
  format: z.literal(FORMAT),
  name: z.string().max(100),
  kind: z.enum(["memory", "disk"]),
  image: z.string().regex(NAME),
  cpus: z.number().min(0.1).max(64),
  memory_mb: z.int().min(64).max(1_048_576),
  disk_size_mb: z.int().min(0).max(16_777_216),
  env: envSchema,
  labels: labelsSchema,
  agent_generation: z.int().min(0),
  kernel: z.string().regex(/^[\w+~-][\w.+~-]{0,199}$/),
  fingerprint: z.string().max(200),
  state_sha256: z.string().max(64),
  /** What the agent in the memory accepts; "" for a disk. */
  token: z.string().max(128),
  created_at: z.string().max(64),
  files: z.strictObject({ disk: facts, mem: facts.optional(), state: facts.optional() }),
});
export type Manifest = z.infer<typeof manifestSchema>;

const signedSchema = manifestSchema.extend({ mac: z.string().max(64).optional() });

/** Over the manifest in the schema's order, files' hashes included. */
const macOf = (manifest: Manifest, key: Buffer): Buffer =>
  createHmac("sha256", key)
    .update(JSON.stringify(manifestSchema.parse(manifest)))
    .digest();

/** The manifest's text, signed by this host. */
export const signManifest = (manifest: Manifest, key: Buffer): string =>
  JSON.stringify({ ...manifest, mac: macOf(manifest, key).toString("hex") }, null, 2);

/** `ours`: this host signed exactly this. @throws AppError bad_request. */
export function readManifest(text: string, key: Buffer): { manifest: Manifest; ours: boolean } {
  let raw: unknown;
  try {
    raw = JSON.parse(text);
  } catch {
    throw badRequest("not a snapshot export: its manifest cannot be read");
  }
  if ((raw as { format?: unknown } | null)?.format === 1)
    throw badRequest("this export was made by an older bhatti", "export the snapshot again");
  const parsed = signedSchema.safeParse(raw);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw badRequest(`the export's manifest is not valid: ${issue?.path.join(".")}: ${issue?.message}`);
  }
  const { mac = "", ...manifest } = parsed.data;
  const given = Buffer.from(mac, "hex");
  const wanted = macOf(manifest, key);
  return { manifest, ours: given.length === wanted.length && timingSafeEqual(given, wanted) };
}
