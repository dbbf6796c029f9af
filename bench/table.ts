/** Rows of measurements, and the promises of SPECIFICATION.md that are judged on them. */
export interface Row {
  name: string;
  n: number;
  p50: number;
  p95: number;
  p99: number;
}

interface Promised {
  text: string;
  value: number;
  limit: number;
  unit: string;
}

export class Table {
  readonly rows: Row[] = [];
  private readonly notes: string[] = [];

  add(name: string, samples: number[]): void {
    const sorted = [...samples].sort((a, b) => a - b);
    const at = (q: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))]!;
    this.rows.push({ name, n: sorted.length, p50: at(0.5), p95: at(0.95), p99: at(0.99) });
    console.error(`${name}: p50 ${at(0.5).toFixed(1)} ms, n ${sorted.length}`);
  }

  note(text: string): void {
    this.notes.push(text);
    console.error(text);
  }

  print(): void {
    const width = Math.max(...this.rows.map((row) => row.name.length));
    console.log(
      `${"measured, ms".padEnd(width)}  ${["n", "p50", "p95", "p99"].map((h) => h.padStart(8)).join("")}`,
    );
    for (const { name, n, p50, p95, p99 } of this.rows) {
      console.log(
        `${name.padEnd(width)}  ${String(n).padStart(8)}${[p50, p95, p99].map((v) => v.toFixed(1).padStart(8)).join("")}`,
      );
    }
    for (const note of this.notes) console.log(note);
  }

  /** Says of each promise whether this run kept it. Timings never decide a test; this decides what the documents may say. */
  judge(): void {
    const p50 = (name: string) => this.rows.find((row) => row.name.startsWith(name))?.p50 ?? Number.NaN;
    const ratio = (a: string, b: string) => p50(a) / p50(b);
    const promises: Promised[] = [
      {
        text: "bhatti version / empty program",
        value: ratio("bhatti version", "floor: empty"),
        limit: 2,
        unit: "×",
      },
      {
        text: "cold-boot create / raw boot to agent",
        value: ratio("create, cold", "floor: raw QEMU boot"),
        limit: 1.3,
        unit: "×",
      },
      {
        text: "HTTP exec − raw guest call",
        value: p50("exec true over") - p50("floor: raw guest"),
        limit: 3,
        unit: "ms",
      },
      {
        text: "CLI exec − HTTP exec",
        value: p50("exec true by") - p50("exec true over"),
        limit: 15,
        unit: "ms",
      },
      { text: "destroy", value: p50("destroy"), limit: 100, unit: "ms" },
      {
        text: "warm wake − hot",
        value: p50("the same with") - p50("request on a hot"),
        limit: 3,
        unit: "ms",
      },
      {
        text: "cold wake to vCPUs / raw restore",
        value: ratio("cold wake: vCPUs", "floor: raw QEMU restore"),
        limit: 2,
        unit: "×",
      },
      { text: "stop, idle 512 MiB", value: p50("stop, idle"), limit: 80, unit: "ms" },
      { text: "create", value: p50("create, template"), limit: 150, unit: "ms" },
      {
        text: "cold boot / create (at least)",
        value: -ratio("create, cold", "create, template"),
        limit: -8,
        unit: "×",
      },
      { text: "create to first exec", value: p50("create to first"), limit: 350, unit: "ms" },
      {
        text: "create / raw restore",
        value: ratio("create, template", "floor: raw QEMU restore"),
        limit: 3,
        unit: "×",
      },
      { text: "source pause of a fork, 1 GiB", value: p50("source pause of a fork"), limit: 60, unit: "ms" },
    ];
    console.log("");
    for (const { text, value, limit, unit } of promises) {
      console.log(
        `${value <= limit ? "kept  " : "MISSED"}  ${text}: ${Math.abs(value).toFixed(2)} ${unit} (limit ${Math.abs(limit)})`,
      );
    }
  }
}
