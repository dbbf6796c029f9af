/** What idle sandboxes cost: memory of a clone, CPU and memory of a daemon with a hundred cold ones. */
import { readFileSync } from "node:fs";
import { repeat, type Suite, withInstallation } from "../stage.ts";

export const scale: Suite = {
  name: "scale",
  async run({ table, installation }) {
    const idle = await Promise.all(
      Array.from({ length: 4 }, () => installation.api.create({ memory_mb: 512 })),
    );
    await Bun.sleep(2000);
    const held = async ({ id }: { id: string }): Promise<number> =>
      (await installation.api.ok("GET", `/sandboxes/${id}?detail=true`)).memory_held_bytes / 1048576;
    table.add("idle clone, Pss", await Promise.all(idle.map(held)), "MB");
    await Promise.all(idle.map(({ id }) => installation.api.ok("DELETE", `/sandboxes/${id}`)));
    await withInstallation({ vm_pool: 0, network_pool: 2 }, async (many) => {
      const ticks = () => {
        const fields = readFileSync(`/proc/${many.pid}/stat`, "utf8").split(" ");
        return Number(fields[13]) + Number(fields[14]);
      };
      // At rest: what the runtime compiles and collects after a start or a hundred creates is work of these.
      const atRest = async () => {
        await Bun.sleep(30_000);
        return repeat(3, async () => {
          const before = ticks();
          await Bun.sleep(10_000);
          return (ticks() - before) * 10;
        });
      };
      table.add("floor: daemon without sandboxes: CPU in 10 s", await atRest());
      for (let i = 0; i < 100; i += 5) {
        const names = [0, 1, 2, 3, 4].map((k) => `cold-${i + k}`);
        await Promise.all(
          names.map((name) => many.api.create({ name, memory_mb: 128 }).then(() => many.api.stop(name))),
        );
      }
      table.add("100 cold sandboxes: daemon CPU in 10 s", await atRest());
      const rss = Number(readFileSync(`/proc/${many.pid}/status`, "utf8").match(/VmRSS:\s+(\d+)/)![1]) / 1024;
      table.add("100 cold sandboxes: daemon RSS", [rss], "MB");
    });
  },
};
