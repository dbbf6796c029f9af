/** The resolvers that everything outside the zone is asked of. */
import { readFileSync, statSync } from "node:fs";
import { isIP } from "node:net";

export interface Upstream {
  host: string;
  port: number;
}

const MAX_UPSTREAMS = 3;
const CHECK_MS = 2000;

/** "1.1.1.1", "1.1.1.1:5353", "2620:fe::fe", "[2620:fe::fe]:53". Throws an Error that names the bad value. */
export function parseUpstream(text: string): Upstream {
  const bracketed = /^\[([^\]]+)\](?::(\d+))?$/.exec(text);
  const plain = /^([\d.]+)(?::(\d+))?$/.exec(text);
  const host = bracketed?.[1] ?? plain?.[1] ?? text;
  const port = Number(bracketed?.[2] ?? plain?.[2] ?? 53);
  if (isIP(host) === 0 || port < 1 || port > 65535) {
    throw new Error(
      `DNS upstream '${text}' must be an IP address, optionally with a port (1.1.1.1:53, [2620:fe::fe]:53)`,
    );
  }
  return { host, port };
}

/**
 * The configured upstreams, or those of `file`, read again when it changes. Loopback resolvers are fine: it is the host
 * that asks.
 */
export function upstreams(configured: string[], file = "/etc/resolv.conf"): () => Upstream[] {
  if (configured.length > 0) {
    const fixed = configured.map(parseUpstream);
    return () => fixed;
  }
  let checkedAt = Number.NEGATIVE_INFINITY;
  let version = "";
  let current: Upstream[] = [];
  return () => {
    if (performance.now() - checkedAt < CHECK_MS) return current;
    checkedAt = performance.now();
    try {
      const { mtimeMs, ino } = statSync(file);
      if (version === `${ino} ${mtimeMs}`) return current;
      current = parseResolvConf(readFileSync(file, "utf8"));
      version = `${ino} ${mtimeMs}`;
    } catch {
      // Being replaced at this moment, or gone: what was read last is the best there is.
    }
    return current;
  };
}

export function parseResolvConf(text: string): Upstream[] {
  const found = [...text.matchAll(/^\s*nameserver\s+(\S+)/gm)].map((match) => match[1] as string);
  return found
    .filter((address) => isIP(address.replace(/%.*/, "")) !== 0)
    .slice(0, MAX_UPSTREAMS)
    .map((host) => ({ host, port: 53 }));
}
