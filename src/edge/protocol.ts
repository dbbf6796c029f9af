/** What the daemon and the edge's process (edge/) say to each other: a JSON object per line. */

/** What the process is told on its command line. */
export interface EdgeSetup {
  /** It becomes this user before it reads a byte of a client; 0 = stays what it is. */
  uid: number;
  /** Its file system from then on; holds the sockets of the daemon. */
  root: string;
  /** "127.0.0.1:8080", ":8080", "127.0.0.1:0". */
  listen: string[];
  trusted_proxies: string[];
  /** Zones whose names are published ports: "localhost", "apps.example.com". */
  zones: string[];
  max_connections: number;
  max_connections_per_peer: number;
}

/** A request that is to go to a guest. Answered once, unless `end` comes first. */
export interface Begin {
  do: "begin";
  id: number;
  /** "path": below the API, with the caller's key. "alias": a published port. "login": a password for one. */
  kind: "path" | "alias" | "login";
  /** Of "path": as they stand in the target, not decoded. */
  sandbox?: string;
  port?: string;
  /** Authorization as it was sent. */
  auth?: string;
  /** Of the others: first label in a zone. */
  alias?: string;
  https?: boolean;
  /** The client is somebody who looks at a page. */
  browser?: boolean;
  /** Our cookie, and the token of a link. */
  cookie?: string;
  token?: string;
  password?: string;
  /** Path and query without the token. */
  next?: string;
  method: string;
  path: string;
  /** Address of the client. */
  peer: string;
}

export interface Ended {
  /** What the client was answered; 499: it left before. */
  status: number;
  /** Bytes of bodies. */
  in: number;
  out: number;
}

export type FromEdge = { do: "ready"; addresses: string[] } | Begin | ({ do: "end"; id: number } & Ended);

/** An answer in place of the guest's. */
export interface Refusal {
  status: number;
  headers: Record<string, string>;
  body: unknown;
}

export type ToEdge =
  | {
      do: "answer";
      id: number;
      grant: {
        target: string;
        sandbox: string;
        port: number;
        headers: Record<string, string>;
        used_auth: boolean;
      };
    }
  | { do: "answer" | "revoke"; id: number; refusal: Refusal }
  | { do: "drain"; ms: number };

/** First line on a connection to `tunnels.sock`; bytes follow the answer's line. */
export interface Opening {
  grant: number;
}

export type Opened = { ok: true } | { ok: false; code: string; message: string };
