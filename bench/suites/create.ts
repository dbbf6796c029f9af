/** Creates: from a VM that waits, with an empty pool, faster than the pool refills, by the twenty, without a template. */
import type { Api } from "../../test/e2e/api.ts";
import { Installation } from "../../test/e2e/harness.ts";
import { ms, repeat, type Suite, withInstallation } from "../stage.ts";
import type { Table } from "../table.ts";

const MEMORY = { memory_mb: 512 };

/** Creates one after the other, `restMs` apart; adds three rows. */
async function serial(
  table: Table,
  api: Api,
  label: string,
  count: number,
  restMs: number,
): Promise<number[]> {
  const firstExec: number[] = [];
  const destroys: number[] = [];
  const creates = await repeat(count, async () => {
    let id = "";
    const began = performance.now();
    const create = await ms(async () => {
      id = (await api.create(MEMORY)).id;
    });
    await api.sh(id, "true");
    firstExec.push(performance.now() - began);
    destroys.push(await ms(() => api.ok("DELETE", `/sandboxes/${id}`)));
    await Bun.sleep(restMs);
    return create;
  });
  table.add(`create, ${label}`, creates);
  table.add(`create to first exec, ${label}`, firstExec);
  return destroys;
}

/** `perSecond` creates a second for `seconds`, whether or not the former ones are done. */
async function steady(table: Table, api: Api, perSecond: number, seconds: number): Promise<void> {
  const running: Promise<number>[] = [];
  const made: string[] = [];
  for (let i = 0; i < perSecond * seconds; i++) {
    running.push(
      ms(async () => {
        made.push((await api.create(MEMORY)).id);
      }),
    );
    await Bun.sleep(1000 / perSecond);
  }
  table.add(`create, ${perSecond} a second (faster than the pool refills)`, await Promise.all(running));
  await Promise.all(made.map((id) => api.ok("DELETE", `/sandboxes/${id}`)));
}

export const create: Suite = {
  name: "create",
  async run({ table, n, installation }) {
    const { api } = installation;
    await api.ok("DELETE", `/sandboxes/${(await api.create(MEMORY)).id}`); // the shape's template
    await Bun.sleep(4000);
    table.add("destroy", await serial(table, api, "VM waiting", n, 1000));
    await Bun.sleep(3000);
    await steady(table, api, 3, 8);
    await withInstallation({ vm_pool: 0 }, async (bare) => {
      await bare.api.ok("DELETE", `/sandboxes/${(await bare.api.create(MEMORY)).id}`);
      await serial(table, bare.api, "pool empty", Math.max(10, Math.floor(n / 2)), 0);
      let many: { id: string }[] = [];
      table.add(
        "20 creates at once",
        await repeat(2, async () => {
          const took = await ms(async () => {
            many = await Promise.all(Array.from({ length: 20 }, () => bare.api.create(MEMORY)));
          });
          await Promise.all(many.map((s) => bare.api.ok("DELETE", `/sandboxes/${s.id}`)));
          return took;
        }),
      );
    });
    const cold = await Installation.create({
      config: { vm_pool: 0 },
      env: { BHATTI_TEST_NO_TEMPLATES: "1" },
    });
    try {
      await cold.api.create({ name: "first", ...MEMORY });
      table.add(
        "create, cold boot",
        await repeat(8, (i) => ms(() => cold.api.create({ name: `c${i}`, ...MEMORY }))),
      );
    } finally {
      await cold.remove();
    }
  },
};
