/** Published ports: a name that leads to a port of a sandbox, for whoever has the URL, or who is let in. */
import type { User } from "../users/user.ts";

/** Who may see it: anybody with the URL; who knows the password; who was given a signed link. */
export type Visibility = "public" | "password" | "link";

/** The wire object. Members up to `url` are v1's. */
export interface PublishedPort {
  id: string;
  sandbox_id: string;
  user_id: string;
  port: number;
  alias: string;
  created_at: string;
  url: string;
  /** Works on the server's own machine, where that is another one. */
  local_url?: string;
  sandbox: string;
  visibility: Visibility;
  /** Asked for with `stats`. */
  stats?: PortStats;
}

/** Since the daemon's start. */
export interface PortStats {
  requests: number;
  /** Answers with 500 and above, of the service or in its place. */
  errors: number;
  /** Turned away: limits, no leave. */
  refused: number;
  /** Requests that found the sandbox asleep. */
  wakes: number;
  /** Open now. */
  open: number;
  bytes_in: number;
  bytes_out: number;
  /** Of the last 500 requests, ms; null before the first. */
  p50_ms: number | null;
  p95_ms: number | null;
}

export interface PublishInput {
  port: number;
  /** Absent = generated. */
  alias?: string;
  /** Absent = public, or as it is. */
  visibility?: Visibility;
  /** With visibility "password". */
  password?: string;
}

export interface Published {
  rule: PublishedPort;
  existing: boolean;
  /** Of an existing one: members that were asked for and are not so. */
  differs: string[];
}

/** `ref` is an id or a name of a sandbox; both only within the caller's own. Unknown: AppError not_found. */
export interface Publishing {
  /** One name a port: a port that is published stays what it is, except for a visibility that is given. */
  publish(user: User, ref: string, input: PublishInput): Promise<Published>;
  list(user: User, ref: string, stats?: boolean): PublishedPort[];
  /** Of all sandboxes of the user. */
  listAll(user: User, stats?: boolean): PublishedPort[];
  /** Throws not_found. What runs through it is cut. */
  unpublish(user: User, ref: string, port: number): void;
  /** A link that lets its holder in until it expires. */
  share(user: User, ref: string, port: number, seconds: number): { url: string; expires_at: string };
  /** Ends all links and all that were let in. */
  revoke(user: User, ref: string, port: number): void;
}
