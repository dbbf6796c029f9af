/** A request on its way to a guest: from the edge's question to its word that it is over. */
import type { Tunnel } from "../guest/guest.ts";
import type { Ended } from "./protocol.ts";

/** Leave for one request to talk to one port of one machine. */
export interface Grant {
  /** Machine, its present life and the port: requests with the same may share connections. Fit for a host's name. */
  target: string;
  /** For messages. */
  sandbox: string;
  port: number;
  /** Opens a connection to the port; it may outlive the request by seconds. Throws GuestError. */
  open(): Promise<Tunnel>;
  /** Authorization was for us: the service does not see it. */
  usedAuth?: boolean;
  /** Fires, with the error that the client shall see, when the sandbox goes over the request's head. */
  revoked: AbortSignal;
}

/** Given to whoever decides about a request. */
export interface Passage {
  /** Lets it through; resolves at its end. At most once. */
  grant(grant: Grant, headers: Record<string, string>): Promise<Ended>;
}
