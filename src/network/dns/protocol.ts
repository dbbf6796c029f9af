/** What the daemon and the resolver's process say to each other: a JSON object per line. */

/** From the daemon. `id` numbers what is answered. */
export type Order =
  | { do: "listen"; id: number; index: number; address: string; names: [string, string][] }
  | { do: "stop"; index: number }
  | { do: "name"; index: number; name: string; address: string }
  | { do: "unname"; index: number; address: string };

/** From the resolver, once per `listen`. */
export interface Outcome {
  id: number;
  /** Why it does not listen. */
  error?: string;
}

/** What the process is told on its command line. */
export interface ResolverSetup {
  /** It becomes this user and group before it opens a socket; null = stays what it is. */
  uid: number | null;
  port: number;
  /** Empty = the host's /etc/resolv.conf. */
  upstreams: string[];
}
