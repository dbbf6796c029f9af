/** Forks and snapshots: how long the source stands still, how long the copies take. */
import { ms, repeat, type Suite } from "../stage.ts";

export const copies: Suite = {
  name: "copies",
  async run({ table, installation }) {
    const { api } = installation;
    const destroyAll = (list: { id: string }[]) =>
      Promise.all(list.map(({ id }) => api.ok("DELETE", `/sandboxes/${id}`)));
    await api.create({ name: "small", memory_mb: 256 });
    for (const [count, times] of [
      [1, 10],
      [10, 4],
      [50, 2],
    ] as const) {
      table.add(
        `fork ${count}, 256 MiB`,
        await repeat(times, async () => {
          let made: { id: string }[] = [];
          const took = await ms(async () => {
            made = (await api.ok("POST", "/sandboxes/small/fork", { count })).sandboxes;
          });
          await destroyAll(made);
          return took;
        }),
      );
    }
    await api.create({ name: "g", memory_mb: 1024 });
    table.add(
      "fork: source pause, idle 1 GiB",
      await repeat(10, async () => {
        const made = await api.ok("POST", "/sandboxes/g/fork", { count: 1 });
        await destroyAll(made.sandboxes);
        return made.pause_ms;
      }),
    );
    const pauseOf = async (name: string): Promise<number> => {
      const { pause_ms } = await api.ok("POST", `/sandboxes/${name}/checkpoint`, { name: "s" });
      await api.ok("DELETE", "/snapshots/s");
      return pause_ms;
    };
    for (const memory_mb of [256, 2048]) {
      await api.create({ name: `m${memory_mb}`, memory_mb });
      table.add(
        `snapshot: source pause, idle ${memory_mb} MiB`,
        await repeat(5, () => pauseOf(`m${memory_mb}`)),
      );
      await api.ok("DELETE", `/sandboxes/m${memory_mb}`);
    }
    table.add(
      "snapshot: source pause, 200 MB dirtied",
      await repeat(5, async () => {
        await api.sh("g", "head -c 200000000 /dev/urandom >/dev/shm/x");
        return pauseOf("g");
      }),
    );
    await api.ok("POST", "/sandboxes/small/checkpoint", { name: "r" });
    const firstExec: number[] = [];
    table.add(
      "snapshot resume",
      await repeat(10, async () => {
        let id = "";
        const began = performance.now();
        const took = await ms(async () => {
          id = (await api.ok("POST", "/snapshots/r/resume", {})).id;
        });
        await api.sh(id, "true");
        firstExec.push(performance.now() - began);
        await api.ok("DELETE", `/sandboxes/${id}`);
        return took;
      }),
    );
    table.add("snapshot resume to first exec", firstExec);
    await api.ok("DELETE", "/snapshots/r");
    for (const name of ["small", "g"]) await api.ok("DELETE", `/sandboxes/${name}`);
  },
};
