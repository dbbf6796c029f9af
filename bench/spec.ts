/** Writes the figures of a run into SPECIFICATION.md, between its two markers. */

import { readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import type { Judgement } from "./promises.ts";
import { root } from "./stage.ts";

const BEGIN = "<!-- bench: begin -->";
const END = "<!-- bench: end -->";

/** `engine`: name and accelerator of the daemon that was measured. */
export function writeSpecification(judgements: Judgement[], engine: string): void {
  const path = `${root}/SPECIFICATION.md`;
  const text = readFileSync(path, "utf8");
  const [at, end] = [text.indexOf(BEGIN), text.indexOf(END)];
  if (at < 0 || end < at) throw new Error("SPECIFICATION.md has lost the markers of its table");
  const cell = (value: number, unit: string) =>
    unit === "×" ? `${value.toFixed(2)} ×` : `${value.toFixed(1)} ${unit}`;
  const lines = judgements.map(
    ({ text: promise, limit, unit, seen, n, kept, atLeast }) =>
      `| ${promise} | ${atLeast ? "at least " : ""}${limit} ${unit} | ${cell(seen, unit)}${kept ? "" : " **missed**"} | ${n} |`,
  );
  const machine = `${cpus().length} × ${cpus()[0]?.model.trim() ?? "unknown CPU"}`;
  const table = [
    BEGIN,
    `Measured ${new Date().toISOString().slice(0, 10)} with ${engine} on ${machine}; medians.`,
    "",
    "| promise | limit | seen | n |",
    "|---|---|---|---|",
    ...lines,
    "",
  ].join("\n");
  writeFileSync(path, text.slice(0, at) + table + text.slice(end));
}
