/** Addresses by which others reach this host, for URLs that need no configuration. */
import { readFileSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { Urls } from "../publish/urls.ts";
import type { Config } from "./config.ts";

export const urlsOf = (config: Config): Urls =>
  new Urls({
    zone: null,
    apiHost: null,
    publicAddress: publicAddress(config),
    port: Number(config.listen.slice(config.listen.lastIndexOf(":") + 1)),
    scheme: "http",
  });

/** As configured, or that of the interface with the default route; null when only this machine reaches us. */
function publicAddress({ listen, publicAddress: configured }: Config): string | null {
  if (configured) return configured === "none" ? null : configured;
  const host = listen.slice(0, listen.lastIndexOf(":")).replace(/^\[|\]$/g, "");
  if (/^127\.|^::1$|^localhost$/.test(host)) return null;
  if (host !== "" && host !== "0.0.0.0" && host !== "::") return host;
  const name = defaultInterface();
  const own = name ? (networkInterfaces()[name] ?? []) : [];
  return own.find(({ family }) => family === "IPv4")?.address ?? null;
}

/** Of /proc/net/route: destination and mask of the default route are zero. */
function defaultInterface(): string | undefined {
  try {
    const routes = readFileSync("/proc/net/route", "utf8").split("\n").slice(1);
    return routes
      .map((line) => line.split("\t"))
      .find((f) => f[1] === "00000000" && f[7] === "00000000")?.[0];
  } catch {
    return undefined;
  }
}
