import { Exit } from "../base/errors.ts";
import { clean, green, printJson, red, say, yellow } from "../base/output.ts";
import { define, options } from "../base/program.ts";
import { withSpinner } from "../base/progress.ts";

export const command = () =>
  define(
    "doctor",
    "Check whether this host can run sandboxes, and say how to repair what is wrong. Status 1 when something fails.",
    ["sudo bhatti doctor", "sudo bhatti doctor --json"],
  ).action(async (_flags, self) => {
    options(self);
    const { runDoctor } = await import("../../host/doctor.ts");
    const checks = await withSpinner("checking", () => runDoctor());
    const failed = checks.some((check) => check.status === "fail");
    if (!printJson({ ok: !failed, checks })) {
      const width = Math.max(...checks.map((check) => check.name.length));
      for (const check of checks) {
        const word = { ok: green("ok  "), warn: yellow("warn"), fail: red("FAIL") }[check.status];
        say(`${word}  ${clean(check.name).padEnd(width)}  ${clean(check.detail)}`);
        if (check.remedy && check.status !== "ok") say(`      ${" ".repeat(width)}  ${clean(check.remedy)}`);
      }
    }
    if (failed) throw new Exit(1);
  });
