import { connect } from "../base/context.ts";
import { EXIT, Exit } from "../base/errors.ts";
import { bytes } from "../base/format.ts";
import { clean, notice, printJson, say, table } from "../base/output.ts";
import { define, options } from "../base/program.ts";
import { meter } from "../base/progress.ts";

/** `snapshot verify`. */
export const verifyCommand = () =>
  define(
    "verify <snapshot>",
    "Read every byte of a snapshot and compare it with the checksums of its making. Status 1 when it is damaged.",
    ["bhatti snapshot verify before-upgrade", "bhatti snapshot verify before-upgrade --json"],
  ).action(async (name: string, _flags, self) => {
    const client = connect(options(self));
    const progress = meter(`verifying ${clean(name)}`);
    const result = await client.snapshots
      .verify(name, (read, of) => progress.set(read, of))
      .finally(() => progress.end());
    if (!printJson(result)) {
      table(
        ["FILE", "SIZE", "CONTENT"],
        result.files.map((file) => [file.name, bytes(file.size), file.damage ?? "ok"]),
      );
      say(result.ok ? `snapshot "${clean(name)}" is whole` : `snapshot "${clean(name)}" is damaged`);
    }
    if (!result.compared)
      notice(
        "its checksums were not known yet and were taken now: sizes and times are those of its making, contents will be compared from now on",
      );
    if (!result.ok) throw new Exit(EXIT.failure);
  });
