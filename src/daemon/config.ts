/** Configuration of the daemon: /etc/bhatti/config.yaml (or $BHATTI_CONFIG), YAML, unknown keys refused with a suggestion. */

export interface Config {
  /** "127.0.0.1:8080" style; ":8080" = all addresses. */
  listen: string;
  dataDir: string;
  engine: "auto" | "qemu" | "firecracker";
  /** Upstream resolvers; empty = those of the host's /etc/resolv.conf. */
  dnsUpstreams: string[];
  /** Seconds; 0 = never. */
  warmAfterS: number;
  coldAfterS: number;
  /** How often a hot sandbox is asked whether it answers, seconds; 0 = never. */
  probeEveryS: number;
  /** Memory that hot and warm sandboxes may hold together, MiB; 0 = total memory minus 1 GiB. */
  memoryBudgetMb: number;
  /** Largest disk that a sandbox may ask for, MiB. */
  maxDiskMb: number;
  /** File of the reserve (guest memory, database); "" = beside the data's own file, or in the data directory. */
  memoryPoolFile: string;
  /** Size of a new reserve, MiB; 0 = by the host's memory and disk. */
  memoryPoolMb: number;
  /** Concurrent restores and boots. */
  maxConcurrentWakes: number;
  /** Namespaces kept ready. */
  networkPool: number;
  /** VMs without owner that wait for a create. */
  vmPool: number;
  /** Shapes whose templates are made ahead: at the daemon's start and when their image changes. */
  templates: { image: string; cpus: number; memoryMb: number }[];
  /** Disk that templates may use together, MiB. */
  templateBudgetMb: number;
  /** Deadline for putting running sandboxes to cold at host shutdown, seconds. */
  shutdownDeadlineS: number;
  logLevel: "debug" | "info" | "warn" | "error";
  /** Private destinations (CIDR) that sandboxes may reach; all others of 10/8, 172.16/12, 192.168/16 … are refused. */
  allowedPrivate: string[];
  /** Key of stored secrets; "" = age.key in the data directory. */
  ageKeyFile: string;
  /** Multiplies the rate of calls of the API; 0 = none. */
  rateFactor: number;
  /** Address in URLs of published ports: "" = by the host's default route, "none" = this machine only. */
  publicAddress: string;
  /** Networks (CIDR) of proxies in front of us whose X-Forwarded-For and X-Forwarded-Proto are believed. */
  trustedProxies: string[];
  /** Prefix of namespaces, interfaces and tables; differs only where several daemons share a host (tests). */
  networkPrefix: string;
  /** Added to the second octet of every subnet, for the same reason. */
  networkBase: number;
}

export const DEFAULTS: Config = {
  listen: "127.0.0.1:8080",
  dataDir: "/var/lib/bhatti",
  engine: "auto",
  dnsUpstreams: [],
  warmAfterS: 30,
  coldAfterS: 1800,
  probeEveryS: 20,
  memoryBudgetMb: 0,
  maxDiskMb: 65_536,
  memoryPoolFile: "",
  memoryPoolMb: 0,
  maxConcurrentWakes: 8,
  networkPool: 8,
  vmPool: 2,
  templates: [{ image: "minimal", cpus: 1, memoryMb: 1024 }],
  templateBudgetMb: 10240,
  shutdownDeadlineS: 90,
  logLevel: "info",
  allowedPrivate: [],
  ageKeyFile: "",
  rateFactor: 1,
  publicAddress: "",
  trustedProxies: [],
  networkPrefix: "bh",
  networkBase: 0,
};
