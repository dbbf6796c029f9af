import { Exit } from "../base/errors.ts";
import { clean, green, printJson, red, say, yellow } from "../base/output.ts";
import { define, options } from "../base/program.ts";
import { withSpinner } from "../base/progress.ts";

export const command = () =>
  define(
    "doctor",
    "Check whether this host can run sandboxes, and say how to repair what is wrong. Status 1 when something fails.",
    ["sudo bhatti doctor", "sudo bhatti doctor --json", "sudo bhatti doctor --security"],
  )
    .option(
      "--security",
      "what protects this host and its tenants: ok, weak or bad; status 1 when something is bad",
    )
    .action(async (_flags, self) => {
      if (options<{ security?: boolean }>(self).security) return security();
      const { runDoctor } = await import("../../host/doctor.ts");
      const checks = await withSpinner("checking", () => runDoctor());
      const failed = checks.some((check) => check.status === "fail");
      if (!printJson({ ok: !failed, checks })) {
        const width = Math.max(...checks.map((check) => check.name.length));
        for (const check of checks) {
          const word = { ok: green("ok  "), warn: yellow("warn"), fail: red("FAIL") }[check.status];
          say(`${word}  ${clean(check.name).padEnd(width)}  ${clean(check.detail)}`);
          if (check.remedy && check.status !== "ok")
            say(`      ${" ".repeat(width)}  ${clean(check.remedy)}`);
        }
      }
      if (failed) throw new Exit(1);
    });

/** Each protection in one line, as `systemd-analyze security` does for services. */
async function security(): Promise<void> {
  const { securityFindings } = await import("../../host/security.ts");
  const findings = await withSpinner("checking", () => securityFindings());
  const count = (grade: string) => findings.filter((finding) => finding.grade === grade).length;
  const summary = { ok: count("ok"), weak: count("weak"), bad: count("bad") };
  if (!printJson({ summary, findings })) {
    const width = Math.max(...findings.map(({ name }) => name.length));
    for (const { grade, name, detail, remedy } of findings) {
      const word = { ok: green("ok  "), weak: yellow("weak"), bad: red("BAD ") }[grade];
      say(`${word}  ${clean(name).padEnd(width)}  ${clean(detail)}`);
      if (remedy && grade !== "ok") say(`      ${" ".repeat(width)}  ${clean(remedy)}`);
    }
    say(
      `\n${summary.ok} ok, ${summary.weak} weak, ${summary.bad} bad. What each one stops: docs/security.md`,
    );
  }
  if (summary.bad > 0) throw new Exit(1);
}
