/**
 * Other software's firewall rules that stop the traffic of sandboxes. Ours accept it, but in Linux the verdict of every table
 * counts, and we never write into anybody else's: bhatti says what stands in the way and how to open it.
 */
import { Names } from "./names.ts";
import { run, TOOL_PATH } from "./run.ts";

interface Chain {
  family: string;
  table: string;
  name: string;
  hook?: string;
  policy?: string;
}

/**
 * A sentence with the remedy when a chain of another table drops forwarded packets by policy and no rule in any foreign
 * table names our bridges; null when nothing is known to be in the way. Needs root.
 */
export async function detectForeignDrop(prefix?: string): Promise<string | null> {
  const names = new Names(prefix);
  const listed = JSON.parse(await run(["nft", "-j", "list", "chains"])) as { nftables: { chain?: Chain }[] };
  const dropping = listed.nftables
    .map((entry) => entry.chain)
    .filter((chain) => chain?.hook === "forward" && chain.policy === "drop" && chain.table !== names.table)
    .filter((chain) => chain?.family === "ip" || chain?.family === "inet");
  const legacy = await legacyDrop(names);
  if (dropping.length === 0) return legacy;
  for (const chain of dropping as Chain[]) {
    const rules = await run(["nft", "list", "table", chain.family, chain.table]);
    if (!mentions(rules, names))
      return sentence(`${chain.family} ${chain.table} ${chain.name}`, names, chain);
  }
  return legacy;
}

/** iptables-legacy is not visible to nft. */
async function legacyDrop(names: Names): Promise<string | null> {
  if (!Bun.which("iptables-legacy", { PATH: TOOL_PATH })) return null;
  if (
    !(
      await Bun.file("/proc/net/ip_tables_names")
        .text()
        .catch(() => "")
    ).includes("filter")
  )
    return null;
  const rules = await run(["iptables-legacy", "-S"], "", { tolerant: true });
  if (!rules.includes("-P FORWARD DROP") || mentions(rules, names)) return null;
  return sentence("iptables-legacy FORWARD", names);
}

/** `bhb*` in nft's words, `bhb+` in those of iptables. */
const mentions = (rules: string, names: Names): boolean =>
  rules.includes(`"${names.bridges}"`) || rules.includes(`${names.bridges.slice(0, -1)}+`);

function sentence(chain: string, names: Names, of?: Chain): string {
  const iptables = of === undefined || (of.family === "ip" && of.table === "filter");
  const wildcard = `${names.bridges.slice(0, -1)}+`;
  const remedy = iptables
    ? `iptables -I FORWARD -i ${wildcard} -j ACCEPT; iptables -I FORWARD -o ${wildcard} -j ACCEPT` +
      " (with Docker: chain DOCKER-USER instead of FORWARD)"
    : `nft insert rule ${of.family} ${of.table} ${of.name} iifname "${names.bridges}" accept; ` +
      `nft insert rule ${of.family} ${of.table} ${of.name} oifname "${names.bridges}" accept`;
  return `the firewall chain '${chain}' drops what sandboxes send to the internet; allow it: ${remedy}`;
}
