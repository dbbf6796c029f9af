/** Rows of measurements: samples of one thing, their percentiles. */
export interface Row {
  name: string;
  unit: string;
  n: number;
  p50: number;
  p95: number;
  p99: number;
}

export class Table {
  readonly rows: Row[] = [];

  /** `name` must be new: a promise finds its figures by it. Samples in ms unless `unit` says otherwise. */
  add(name: string, samples: number[], unit = "ms"): void {
    if (samples.length === 0) throw new Error(`${name}: no samples`);
    if (this.rows.some((row) => row.name === name)) throw new Error(`${name} was measured twice`);
    const sorted = [...samples].sort((a, b) => a - b);
    const at = (q: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))]!;
    this.rows.push({ name, unit, n: sorted.length, p50: at(0.5), p95: at(0.95), p99: at(0.99) });
    console.error(`${name}: p50 ${at(0.5).toFixed(1)} ${unit}, n ${sorted.length}`);
  }

  /** undefined when this run did not measure it. */
  row(name: string): Row | undefined {
    return this.rows.find((row) => row.name === name);
  }

  print(): void {
    const width = Math.max(...this.rows.map((row) => row.name.length));
    const cells = (values: string[]) => values.map((value) => value.padStart(9)).join("");
    console.log(`${"measured".padEnd(width)}  ${cells(["n", "p50", "p95", "p99"])}`);
    for (const { name, unit, n, p50, p95, p99 } of this.rows) {
      const figures = [p50, p95, p99].map((value) => value.toFixed(1));
      console.log(`${name.padEnd(width)}  ${cells([String(n), ...figures])} ${unit}`);
    }
  }
}
