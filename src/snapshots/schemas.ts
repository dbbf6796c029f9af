/** Shapes of requests about snapshots, forks and rollback. */
import { z } from "zod";
import { custom, flag, flagQuery, orEmpty, whole } from "../http/fields.ts";
import { NAME, NAME_RULE, nameSchema } from "../sandboxes/schemas.ts";
import { MAX_FORKS } from "./service.ts";

/** Names of snapshots; absent and "" have the message that existing clients know. */
const snapshotName = z.string("valid name required").superRefine((name, context) => {
  if (name === "") context.addIssue(custom("valid name required"));
  else if (!NAME.test(name))
    context.addIssue(custom(`invalid snapshot name "${name.slice(0, 100)}": ${NAME_RULE}`));
});

/** `label` is another word for `name`. */
export const checkpointSchema = z
  .strictObject({ name: snapshotName.optional(), label: snapshotName.optional() })
  .superRefine(({ name, label }, context) => {
    if (name === undefined && label === undefined)
      context.addIssue(custom(`valid name required: ${NAME_RULE}`));
    if (name !== undefined && label !== undefined && name !== label)
      context.addIssue(custom("name and label differ"));
  });

export const resumeSchema = z.strictObject({ name: orEmpty(nameSchema, "") });

export const forkSchema = z
  .strictObject({ count: whole(1, MAX_FORKS).optional(), names: z.array(nameSchema).optional() })
  .superRefine(({ count, names = [] }, context) => {
    if (names.length > MAX_FORKS) context.addIssue(custom(`names must be at most ${MAX_FORKS}`));
    const wanted = count ?? names.length;
    if (names.length > 0 && (names.length !== wanted || new Set(names).size !== wanted))
      context.addIssue(custom(`names must be ${wanted} different names`));
  });

export const restoreSchema = z.strictObject({
  snapshot: z.string("must be the name of a snapshot"),
  /** False: the present state is thrown away. */
  safety: flag().optional(),
});

export const importQuery = z.strictObject({
  name: snapshotName,
  cold: flagQuery().optional(),
  /** Operators alone: the device state in the archive is run although this host did not make it. */
  trust_state: flagQuery().optional(),
});

/** `progress`: the answer is a stream of lines. */
export const verifyQuery = z.strictObject({ progress: flagQuery().optional() });
