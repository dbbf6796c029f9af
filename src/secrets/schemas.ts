/** Shapes of requests about secrets. No message repeats what was sent. */
import { z } from "zod";
import { custom } from "../http/fields.ts";
import { SECRET_NAME, SECRET_NAME_RULE } from "./reference.ts";

/** `value` is text; `value_b64` any bytes. */
export const setSchema = z
  .strictObject({
    name: z.string("must be text").default(""),
    value: z.string("must be text").default(""),
    value_b64: z.base64("must be base64").optional(),
  })
  .superRefine(({ name, value, value_b64 }, context) => {
    if (value !== "" && value_b64 !== undefined)
      context.addIssue(custom("value and value_b64 exclude each other"));
    else if (name === "" || (value === "" && !value_b64)) context.addIssue(custom("name and value required"));
    else if (!SECRET_NAME.test(name)) context.addIssue(custom(`invalid secret name: ${SECRET_NAME_RULE}`));
  });
