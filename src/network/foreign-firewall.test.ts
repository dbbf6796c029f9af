/** In a network namespace of its own, because a dropping chain would stop everybody on this host. */
import { expect, test } from "bun:test";
import { run } from "./run.ts";

test.skipIf(process.getuid?.() !== 0)(
  "a foreign chain that drops is reported with the way to open it, and not once it is open",
  async () => {
    const script = `
      import { detectForeignDrop } from "${import.meta.dir}/foreign-firewall.ts";
      import { run } from "${import.meta.dir}/run.ts";
      const say = async () => console.log(await detectForeignDrop());
      await say();
      await run(["nft", "-f", "-"], "table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }");
      await say();
      await run(["nft", "-f", "-"], 'insert rule ip filter FORWARD iifname "bhb*" accept');
      await say();
    `;
    const out = await run(["unshare", "--net", process.execPath, "-e", script]);
    const [before, dropped, opened] = out.trim().split("\n");
    expect(before).toBe("null");
    expect(dropped).toContain("'ip filter FORWARD' drops");
    expect(dropped).toContain("iptables -I FORWARD -i bhb+ -j ACCEPT");
    expect(opened).toBe("null");
  },
  30_000,
);
