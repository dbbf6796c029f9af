/** Warm and cold: what a wake adds, what a stop takes. */
import { ms, repeat, type Stage, type Suite } from "../stage.ts";

const SERVER =
  '$s=IO::Socket::INET->new(LocalPort=>8000,Listen=>9,ReuseAddr=>1); while($c=$s->accept){ sysread $c,$x,4096; print $c "HTTP/1.0 200 OK\\r\\n\\r\\nhi"; close $c }';

export const thermal: Suite = {
  name: "thermal",
  async run(stage) {
    const { table, n, installation } = stage;
    const { api } = installation;
    const few = Math.max(10, Math.floor(n / 2));
    await api.create({ name: "t", memory_mb: 512, warm_after_s: 1 });
    await api.sh("t", "true");
    const stat = () => ms(() => api.ok("HEAD", "/sandboxes/t/files?path=/etc/hostname"));
    const warm: number[] = [];
    const hot: number[] = [];
    for (let i = 0; i < few; i++) {
      await api.until("t", (s) => s.thermal === "warm", 30_000);
      warm.push(await stat());
      await stat();
      hot.push(await stat());
    }
    table.add("stat, hot", hot);
    table.add("stat, warm wake", warm);
    await api.ok("PATCH", "/sandboxes/t", { warm_after_s: 0 });
    const stops: number[] = [];
    const starts: number[] = [];
    const execs: number[] = [];
    const running: number[] = [];
    for (let i = 0; i < few; i++) {
      await Bun.sleep(150);
      stops.push(await ms(() => api.stop("t")));
      starts.push(await ms(() => api.start("t")));
      running.push(lastStart(stage));
      await api.stop("t");
      execs.push(await ms(() => api.sh("t", "true")));
    }
    table.add("stop, idle 512 MiB", stops);
    table.add("cold wake: vCPUs running", running);
    table.add("cold wake: start answered", starts);
    table.add("cold wake: first exec result", execs);
    await api.exec("t", ["perl", "-MIO::Socket::INET", "-e", SERVER], { detach: true });
    const ports = () => api.ok<{ container_port: number }[]>("GET", "/sandboxes/t/ports");
    while ((await ports()).length === 0) await Bun.sleep(200);
    table.add(
      "cold wake: first HTTP byte",
      await repeat(20, async () => {
        await api.stop("t");
        return ms(() => api.ok("GET", "/sandboxes/t/proxy/8000/"));
      }),
    );
    await api.ok("DELETE", "/sandboxes/t");
  },
};

/** ms from the beginning of the last start to its vCPUs, from the daemon's own trace line. */
function lastStart({ installation }: Stage): number {
  const line = installation
    .log()
    .split("\n")
    .findLast((text) => text.includes('"transition":"start"'));
  const { steps } = JSON.parse(line!) as { steps: Record<string, number> };
  const parts = ["verified", "begin", "network", "loaded", "consumed", "resumed"];
  return parts.reduce((sum, step) => sum + (steps[step] ?? 0), 0);
}
