/** The figures that SPECIFICATION.md promises, one line each, and how a run is judged on them. */
import type { Table } from "./table.ts";

interface Promised {
  /** As the table of SPECIFICATION.md says it. */
  text: string;
  limit: number;
  unit: "ms" | "×" | "MB" | "/s";
  /** Rows it is made of; a run without one of them does not judge it. */
  rows: string[];
  /** From the medians of `rows`, in their order. Default: the first one. */
  value?: (...p50: number[]) => number;
  /** The value must be at least the limit; otherwise at most. */
  atLeast?: boolean;
}

export interface Judgement extends Promised {
  seen: number;
  n: number;
  kept: boolean;
}

const ratio = (a: number, b: number) => a / b;
const difference = (a: number, b: number) => a - b;

export const PROMISES: Promised[] = [
  {
    text: "`bhatti version` / an empty compiled program",
    limit: 2,
    unit: "×",
    rows: ["bhatti version", "floor: empty compiled program"],
    value: ratio,
  },
  {
    text: "cold-boot create / raw QEMU boot to agent",
    limit: 1.3,
    unit: "×",
    rows: ["create, cold boot", "floor: raw VMM boot to agent"],
    value: ratio,
  },
  { text: "create from a VM that waits (1 s apart)", limit: 150, unit: "ms", rows: ["create, VM waiting"] },
  {
    text: "create to first exec result, VM waiting",
    limit: 350,
    unit: "ms",
    rows: ["create to first exec, VM waiting"],
  },
  {
    // Not over the raw restore alone: a create ends with a guest that has answered, as a first exec does.
    text: "create without a waiting VM / raw restore to first exec",
    limit: 1,
    unit: "×",
    rows: ["create, pool empty", "floor: raw VMM restore to first exec"],
    value: ratio,
  },
  {
    text: "create to first exec, without a waiting VM / raw restore to first exec",
    limit: 2,
    unit: "×",
    rows: ["create to first exec, pool empty", "floor: raw VMM restore to first exec"],
    value: ratio,
  },
  {
    text: "cold-boot create / create without a waiting VM",
    limit: 5,
    unit: "×",
    rows: ["create, cold boot", "create, pool empty"],
    value: ratio,
    atLeast: true,
  },
  { text: "20 creates at once, all answered", limit: 15_000, unit: "ms", rows: ["20 creates at once"] },
  { text: "destroy", limit: 100, unit: "ms", rows: ["destroy"] },
  {
    text: "exec over kept-alive HTTP − raw guest call",
    limit: 3,
    unit: "ms",
    rows: ["exec true over HTTP", "floor: raw guest call, exec true"],
    value: difference,
  },
  {
    text: "exec with 10 secrets − without",
    limit: 2,
    unit: "ms",
    rows: ["exec true over HTTP, 10 secrets", "exec true over HTTP"],
    value: difference,
  },
  {
    text: "what the CLI adds to an exec over HTTP / an empty compiled program",
    limit: 6,
    unit: "×",
    rows: ["exec true by the CLI", "exec true over HTTP", "floor: empty compiled program"],
    value: (cli, http, empty) => (cli! - http!) / empty!,
  },
  {
    text: "what a wake from warm adds to a request − what it adds to a raw VMM",
    limit: 3,
    unit: "ms",
    rows: [
      "stat, warm wake",
      "stat, hot",
      "floor: raw VMM resume and guest call, stat",
      "floor: raw guest call, stat",
    ],
    value: (warm, hot, rawWoken, rawHot) => warm! - hot! - (rawWoken! - rawHot!),
  },
  {
    text: "cold wake to vCPUs running / raw QEMU restore",
    limit: 2,
    unit: "×",
    rows: ["cold wake: vCPUs running", "floor: raw VMM restore to vCPUs running"],
    value: ratio,
  },
  { text: "stop of an idle 512 MiB guest", limit: 80, unit: "ms", rows: ["stop, idle 512 MiB"] },
  {
    text: "pause of the source of a fork, idle 1 GiB guest",
    limit: 60,
    unit: "ms",
    rows: ["fork: source pause, idle 1 GiB"],
  },
  {
    text: "pause of the source of a snapshot, 200 MB just dirtied",
    limit: 60,
    unit: "ms",
    rows: ["snapshot: source pause, 200 MB dirtied"],
  },
  {
    text: "snapshot resume to first exec / raw QEMU restore to first exec",
    limit: 2,
    unit: "×",
    rows: ["snapshot resume to first exec", "floor: raw VMM restore to first exec"],
    value: ratio,
  },
  {
    text: "10 forks in one call / 10 × one fork",
    limit: 1.2,
    unit: "×",
    rows: ["fork 10, 256 MiB", "fork 1, 256 MiB"],
    value: (ten, one) => ten / (10 * one),
  },
  {
    text: "50 forks in one call / 50 × one fork",
    limit: 1.2,
    unit: "×",
    rows: ["fork 50, 256 MiB", "fork 1, 256 MiB"],
    value: (fifty, one) => fifty / (50 * one),
  },
  {
    text: "private memory of an idle 512 MiB clone (Pss)",
    limit: 120,
    unit: "MB",
    rows: ["idle clone, Pss"],
  },
  {
    // The runtime alone takes 150 to 600 ms in 10 s here, most of it collecting a heap in which nothing has changed.
    text: "100 cold sandboxes: CPU of the daemon in 10 s − without sandboxes",
    limit: 100,
    unit: "ms",
    rows: ["100 cold sandboxes: daemon CPU in 10 s", "floor: daemon without sandboxes: CPU in 10 s"],
    value: difference,
  },
  {
    text: "100 cold sandboxes: memory of the daemon",
    limit: 200,
    unit: "MB",
    rows: ["100 cold sandboxes: daemon RSS"],
  },
];

/** What this run says of each promise that it measured. */
export function judge(table: Table): Judgement[] {
  const out: Judgement[] = [];
  for (const promised of PROMISES) {
    const rows = promised.rows.map((name) => table.row(name));
    if (rows.some((row) => row === undefined)) continue;
    const medians = rows.map((row) => row!.p50);
    const seen = promised.value ? promised.value(...medians) : medians[0]!;
    const kept = promised.atLeast ? seen >= promised.limit : seen <= promised.limit;
    out.push({ ...promised, seen, n: Math.min(...rows.map((row) => row!.n)), kept });
  }
  return out;
}
