import { expect, test } from "bun:test";
import { CliError } from "./base/errors.ts";
import { bytes, labels, span } from "./base/format.ts";
import { clean } from "./base/output.ts";
import {
  envFile,
  environment,
  fileMapping,
  integer,
  mebibytes,
  pairs,
  seconds,
  since,
} from "./base/parse.ts";
import { parseMetrics } from "./commands/admin.ts";
import { prepare } from "./commands/exec.ts";
import { commandIndex } from "./dispatch.ts";
import { distance, similar } from "./help.ts";

test("the command word is found behind global flags and their values", () => {
  expect(commandIndex(["--url", "create", "list"])).toBe(2);
  expect(commandIndex(["--json", "list"])).toBe(1);
  expect(commandIndex(["--url=x", "ls", "--json"])).toBe(1);
  expect(commandIndex(["--json"])).toBe(-1);
  expect(commandIndex(["--", "ls"])).toBe(-1);
});

test("exec: what follows the sandbox is the remote command, flags and all", () => {
  expect(prepare(["dev", "ls", "-la"])).toEqual(["dev", "--", "ls", "-la"]);
  expect(prepare(["--timeout", "5", "dev", "--json", "ls", "--json"])).toEqual([
    "--timeout",
    "5",
    "dev",
    "--json",
    "--",
    "ls",
    "--json",
  ]);
  expect(prepare(["dev", "--", "a", "--", "b"])).toEqual(["dev", "--", "a", "--", "b"]);
  expect(prepare(["dev", "git", "log", "--", "x"])).toEqual(["dev", "--", "git", "log", "--", "x"]);
  expect(prepare(["dev"])).toEqual(["dev"]);
});

test("sizes, durations, numbers", () => {
  const size = mebibytes("--memory");
  expect([size("512"), size("512M"), size("2G"), size("1.5g"), size("1T")]).toEqual([
    512, 512, 2048, 1536, 1048576,
  ]);
  for (const bad of ["", "0", "-1", "2X", "1.5", "G"]) expect(() => size(bad)).toThrow(CliError);
  const time = seconds("--timeout");
  expect([time("30"), time("90s"), time("10m"), time("2h"), time("1d"), time("never")]).toEqual([
    30, 90, 600, 7200, 86400, 0,
  ]);
  for (const bad of ["", "x", "1.5m", "-3", "5 w"]) expect(() => time(bad)).toThrow(CliError);
  expect(integer("--count", 1, 10)("7")).toBe(7);
  for (const bad of ["0", "11", "1e3", "x", "", "1.0"])
    expect(() => integer("--count", 1, 10)(bad)).toThrow(CliError);
});

test("--since takes ages, dates and times, and refuses the rest", () => {
  const parse = since("--since", Date.parse("2026-05-02T12:00:00Z"));
  expect(parse("2h")).toBe("2026-05-02T10:00:00.000Z");
  expect(parse("2026-05-01")).toBe("2026-05-01T00:00:00.000Z");
  expect(parse("2026-05-01T10:00:00")).toBe("2026-05-01T10:00:00.000Z");
  expect(parse("2026-05-01T10:00:00+02:00")).toBe("2026-05-01T08:00:00.000Z");
  for (const bad of ["", "yesterday", "12", "2026-13-01", "2026-05-01T"])
    expect(() => parse(bad)).toThrow(CliError);
});

test("pairs and environments", () => {
  expect(pairs("--label", ["a=1", "b=", "a=x=y"])).toEqual({ a: "x=y", b: "" });
  for (const bad of ["a", "=1", ""]) expect(() => pairs("--label", [bad])).toThrow(CliError);
  expect(environment("--env", ["A=1,2,B=3", "C=x,y"])).toEqual({ A: "1,2", B: "3", C: "x,y" });
  expect(() => environment("--env", ["1A=x"])).toThrow(CliError);
  expect(envFile("--env-file", "# note\nA=1\r\n\nB=a b, c=d\n")).toEqual({ A: "1", B: "a b, c=d" });
  expect(() => envFile("--env-file", "A=1\nnonsense\n")).toThrow("line 2");
});

test("file mappings", () => {
  expect(fileMapping("./a:/b")).toEqual({ local: "./a", guest: "/b", mode: "0644" });
  expect(fileMapping("a:/b:755").mode).toBe("0755");
  for (const bad of ["a", "a:b", ":/b", "a:/b:rwx", "a:/b:9999"])
    expect(() => fileMapping(bad)).toThrow(CliError);
});

test("formats", () => {
  expect([bytes(0), bytes(1536), bytes(200 * 1024 ** 2), bytes(3 * 1024 ** 4)]).toEqual([
    "0 B",
    "1.5 KiB",
    "200 MiB",
    "3.0 TiB",
  ]);
  expect([span(5), span(125), span(7200), span(200000)]).toEqual(["5s", "2m", "2h", "2d"]);
  expect([labels(undefined), labels({ b: "2", a: "1" })]).toEqual(["-", "a=1,b=2"]);
});

test("text of others cannot control the terminal", () => {
  expect(clean("a\x1b[31mb\nc\x9b1m\u202edone")).toBe("a\\x1b[31mb\\x0ac\\x9b1m\\u202edone");
  expect(clean("grün 漢字")).toBe("grün 漢字");
});

test("near commands are suggested", () => {
  expect(distance("kitten", "sitten")).toBe(1);
  expect(similar("creat")).toContain("create");
  expect(similar("snap")).toContain("snapshot");
  expect(similar("zzzzzz")).toEqual([]);
});

test("Prometheus text", () => {
  expect(parseMetrics('# HELP a b\na_total{x="1",y="q\\"z"} 3\nb 1.5 1700000000\n')).toEqual([
    { name: "a_total", labels: { x: "1", y: 'q"z' }, value: 3 },
    { name: "b", labels: {}, value: 1.5 },
  ]);
});
