/** Commands and files on a hot sandbox. */
import { createGuestClient } from "../../src/guest/client.ts";
import { ms, program, repeat, root, type Suite } from "../stage.ts";

const SIZES = [
  [1024, "1 KiB"],
  [1 << 20, "1 MiB"],
  [32 << 20, "32 MiB"],
] as const;

export const exec: Suite = {
  name: "exec",
  async run(stage) {
    const { table, n, installation } = stage;
    const { api } = installation;
    await api.create({ name: "exec", memory_mb: 512 });
    const view = await api.get("exec");
    const [row] = installation.query<{ token: string }>("SELECT token FROM sandboxes WHERE name = 'exec'");
    const { token } = row!;
    const guest = createGuestClient({ host: view.ip, port: 1024, token });
    const sink = { stdout() {}, stderr() {} };
    try {
      await repeat(20, () => ms(() => api.sh("exec", "true")));
      // In turns, so that the noise of the machine falls on all of them alike.
      const turns = {
        guest: [] as number[],
        http: [] as number[],
        cli: [] as number[],
        secrets: [] as number[],
      };
      for (let i = 0; i < n; i++) {
        turns.guest.push(
          await ms(async () => {
            if ((await guest.exec({ argv: ["true"] }, sink)).exitCode !== 0) throw new Error("true failed");
          }),
        );
        turns.http.push(
          await ms(async () => {
            if ((await api.exec("exec", ["true"])).exit_code !== 0) throw new Error("true failed");
          }),
        );
        turns.cli.push(await program(stage, `${root}/dist/bhatti`, "exec", "exec", "--", "true"));
      }
      const ten = Array.from({ length: 10 }, (_, i) => `BENCH_${i}`);
      for (const name of ten) await api.ok("POST", "/secrets", { name, value: "x".repeat(40) });
      await api.ok("PATCH", "/sandboxes/exec", { secrets_add: ten });
      for (let i = 0; i < n; i++) turns.secrets.push(await ms(() => api.exec("exec", ["true"])));
      await api.ok("PATCH", "/sandboxes/exec", { secrets_remove: ten });
      for (const name of ten) await api.ok("DELETE", `/secrets/${name}`);
      table.add("floor: raw guest call, exec true", turns.guest);
      table.add("exec true over HTTP", turns.http);
      table.add("exec true over HTTP, 10 secrets", turns.secrets);
      table.add("exec true by the CLI", turns.cli);
    } finally {
      guest.disconnect();
    }
    table.add(
      "10 execs at once",
      await repeat(20, () => ms(() => Promise.all(Array.from({ length: 10 }, () => api.sh("exec", "true"))))),
    );
    for (const [size, label] of SIZES) {
      const bytes = new Uint8Array(size);
      table.add(
        `file write ${label}`,
        await repeat(10, () => ms(() => api.ok("PUT", "/sandboxes/exec/files?path=/tmp/f", bytes))),
      );
      table.add(
        `file read ${label}`,
        await repeat(10, () =>
          ms(async () => {
            const r = await fetch(`${installation.url}/sandboxes/exec/files?path=/tmp/f`, {
              headers: { authorization: `Bearer ${installation.key()}` },
            });
            if ((await r.arrayBuffer()).byteLength !== size) throw new Error("short read");
          }),
        ),
      );
    }
    table.add("list", await repeat(n, () => ms(() => api.ok("GET", "/sandboxes"))));
    await api.ok("DELETE", "/sandboxes/exec");
  },
};
