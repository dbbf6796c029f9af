/** What every suite of the benchmark stands on: a daemon with real VMs, a clock, the command line. */
import { Installation } from "../test/e2e/harness.ts";
import type { Table } from "./table.ts";

export interface Stage {
  table: Table;
  /** Samples of what is fast. */
  n: number;
  installation: Installation;
}

export interface Suite {
  name: string;
  run(stage: Stage): Promise<void>;
}

export const root = `${import.meta.dir}/..`;

/** ms that `work` takes. What throws is an error of the run, never a sample. */
export async function ms(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await work();
  return performance.now() - began;
}

export async function repeat(count: number, work: (i: number) => Promise<number>): Promise<number[]> {
  const out: number[] = [];
  for (let i = 0; i < count; i++) out.push(await work(i));
  return out;
}

/** ms of one run of a program. Throws when its status is not 0: a refusal is never fast. */
export function program(stage: Stage, path: string, ...args: string[]): Promise<number> {
  return ms(async () => {
    const child = Bun.spawn([path, ...args], {
      stdout: "ignore",
      stderr: "pipe",
      env: {
        PATH: process.env.PATH!,
        HOME: "/tmp/bhatti-bench",
        BHATTI_URL: stage.installation.url,
        BHATTI_TOKEN: stage.installation.key(),
      },
    });
    const status = await child.exited;
    if (status !== 0)
      throw new Error(
        `${path} ${args.join(" ")}: status ${status}: ${await new Response(child.stderr).text()}`,
      );
  });
}

/** An installation of its own for as long as `work` runs. */
export async function withInstallation<T>(
  config: Record<string, unknown>,
  work: (installation: Installation) => Promise<T>,
): Promise<T> {
  // Room for 100 sandboxes of 128 MiB.
  const installation = await Installation.create({ config: { memory_pool_mb: 14_336, ...config } });
  try {
    return await work(installation);
  } finally {
    await installation.remove();
  }
}
