/** One sandbox's namespace: built without an owner, then plugged into the owner's bridge. */
import { run } from "../lib/run.ts";
import type { Names } from "./names.ts";
import { GUEST, type SandboxNet } from "./network.ts";
import { namespaceRules } from "./rules.ts";

/** `ip -batch`: one process for many commands. */
export const ipBatch = (lines: string[], netns?: string): Promise<string> =>
  run(["ip", ...(netns ? ["-n", netns] : []), "-batch", "-"], { stdin: `${lines.join("\n")}\n` });

/** Namespace with TAP, veth and rules. Leaves nothing behind on failure. */
export async function buildNamespace(n: Names, slot: number): Promise<void> {
  const ns = n.netns(slot);
  await removeNamespace(n, slot);
  try {
    await ipBatch([`netns add ${ns}`, `link add ${n.veth(slot)} type veth peer name eth0 netns ${ns}`]);
    const rules = run(["ip", "netns", "exec", ns, "sh", "-c", SETTINGS], { stdin: namespaceRules(n) });
    const links = ipBatch(
      [
        "link set lo up",
        `tuntap add dev ${GUEST.tap} mode tap user ${n.uid(slot)} group ${n.uid(slot)}`,
        `link set ${GUEST.tap} address ${GUEST.tapMac}`,
        `addr add ${GUEST.gateway}/${GUEST.prefix} dev ${GUEST.tap}`,
        `link set ${GUEST.tap} up`,
        `neigh replace ${GUEST.address} lladdr ${GUEST.mac} dev ${GUEST.tap} nud permanent`,
      ],
      ns,
    );
    await Promise.all([rules, links]);
  } catch (error) {
    await removeNamespace(n, slot);
    throw error;
  }
}

/** Rules first, forwarding last. `default` covers interfaces that come later. */
const SETTINGS = `
for f in all default; do echo 1 >/proc/sys/net/ipv6/conf/$f/disable_ipv6 2>/dev/null; done
nft -f - && echo 1 >/proc/sys/net/ipv4/ip_forward`;

/** Gives the namespace its routable address and plugs it into the bridge. */
export async function plug(n: Names, net: SandboxNet, bridge: string): Promise<void> {
  const veth = n.veth(net.slot);
  await Promise.all([
    ipBatch([`link set ${veth} master ${bridge}`, `link set ${veth} up`]),
    ipBatch(
      [
        `addr replace ${net.address}/24 dev eth0`,
        "link set eth0 up",
        `route replace default via ${net.gateway}`,
      ],
      net.netns,
    ),
  ]);
}

/** Removes namespace and veth; absent ones are fine. */
export async function removeNamespace(n: Names, slot: number): Promise<void> {
  await run(["ip", "link", "del", n.veth(slot)]).catch(() => {});
  await run(["ip", "netns", "del", n.netns(slot)]).catch(() => {});
}

/** Names of namespaces and links on the host. */
export async function present(): Promise<{ netns: string[]; links: string[] }> {
  const netns = (await run(["ip", "netns", "list"])).split("\n").map((line) => line.split(" ")[0]!);
  const links = (JSON.parse((await run(["ip", "-j", "link"])) || "[]") as { ifname: string }[]).map(
    (link) => link.ifname,
  );
  return { netns: netns.filter(Boolean), links };
}
