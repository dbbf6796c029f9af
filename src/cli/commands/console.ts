import { connect } from "../base/context.ts";
import { notice, printJson, visible, write } from "../base/output.ts";
import { define, options } from "../base/program.ts";

export const command = () =>
  define(
    "console <sandbox>",
    `Show what the guest's kernel and agent printed since its last boot (the last 128 KiB), also of a sandbox that is stopped
or does not answer. Wakes nothing. The guest writes this text: control characters are made visible.`,
    ["bhatti console dev", "bhatti console dev --previous", "bhatti console dev | grep -i panic"],
  )
    .option("--previous", "of the boot before the last one")
    .action(async (sandbox: string, _flags, self) => {
      const flags = options<{ previous?: boolean }>(self);
      const text = await connect(flags).sandboxes.console(sandbox, flags.previous);
      if (printJson({ console: text })) return;
      if (text === "") notice("nothing was printed");
      else write(1, visible(text));
    });
