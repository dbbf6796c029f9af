/** Entry for the composition root. */
import type { Logger } from "pino";
import { LinuxNetwork, type NetworkConfig } from "./linux-network.ts";

/** The network of this host. Needs root, iproute2, nftables and util-linux. Nothing is touched before `start`. */
export function createNetwork(options: { config: NetworkConfig; log: Logger }): LinuxNetwork {
  return new LinuxNetwork(options.config, options.log);
}
