/** Where published ports are found: a zone of names, or names that need no configuration. */

export interface UrlOptions {
  /** Zone of a configuration with a domain, e.g. "apps.example.com"; null without. */
  zone: string | null;
  /** Name of the API's own host, where one is configured. */
  apiHost: string | null;
  /** Without a zone: an address of ours that others reach; null = this machine only. */
  publicAddress: string | null;
  /** Port in URLs; 80 and 443 are left out. */
  port: number;
  scheme: "http" | "https";
}

/** Browsers and curl take every name below it for this machine (RFC 6761). */
const LOCAL_ZONE = "localhost";

export class Urls {
  /** Zones that lead here, lower case. */
  readonly zones: string[];
  /** Labels of the zone that are not for aliases. */
  readonly ownLabels: ReadonlySet<string>;

  constructor(private readonly options: UrlOptions) {
    const { zone, apiHost, publicAddress } = options;
    this.zones = zone ? [zone] : [LOCAL_ZONE];
    if (!zone && publicAddress) this.zones.push(wildcard(publicAddress));
    const label = zone && apiHost?.endsWith(`.${zone}`) ? apiHost.slice(0, -zone.length - 1) : null;
    this.ownLabels = new Set(label ? [label] : []);
  }

  /** Known once the server listens. */
  listensOn(port: number): void {
    this.options.port = port;
  }

  /** `local_url` where the first is not for this machine alone. */
  of(alias: string): { url: string; local_url?: string } {
    const [first, second] = this.zones.map((zone) => this.at(`${alias}.${zone}`));
    return second ? { url: second, local_url: first } : { url: first! };
  }

  private at(host: string): string {
    const { scheme, port } = this.options;
    const usual = scheme === "https" ? 443 : 80;
    return `${scheme}://${host}${port === usual ? "" : `:${port}`}`;
  }
}

/** A zone whose every name resolves to the address that it is made of. */
export function wildcard(address: string): string {
  return address.includes(":")
    ? `${address.replaceAll(":", "-")}.sslip.io`
    : `${address.replaceAll(".", "-")}.nip.io`;
}
