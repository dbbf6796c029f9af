import type { BhattiEvent } from "../events/events.ts";
import type { User } from "../users/user.ts";
import type { Http } from "./http.ts";
import { ndjson } from "./ndjson.ts";

export type { BhattiEvent };

export interface EventQuery {
  type?: string;
  user?: string;
  sandbox?: string;
  /** RFC 3339. */
  since?: string;
  limit?: number;
}

/** What operators see; GET /me is for everyone. */
export class AdminClient {
  constructor(private readonly http: Http) {}

  /** Who the key belongs to. */
  me(timeoutMs = 10_000): Promise<Partial<User> & Record<string, unknown>> {
    return this.http.json("GET", "/me", { timeoutMs });
  }

  status(): Promise<Record<string, unknown>> {
    return this.http.json("GET", "/admin/status");
  }

  events(query: EventQuery): Promise<BhattiEvent[]> {
    return this.http.json("GET", "/events", { query: { ...query } });
  }

  /** Events from now on, until the signal fires or the server ends the stream. */
  async *follow(query: EventQuery): AsyncGenerator<BhattiEvent> {
    const response = await this.http.request("GET", "/events", {
      query: { ...query, follow: true },
      headers: { accept: "application/x-ndjson" },
    });
    if (!response.body) return;
    for await (const event of ndjson(response.body)) yield event as unknown as BhattiEvent;
  }

  /** Prometheus text. */
  async metrics(): Promise<string> {
    return (await this.http.request("GET", "/metrics")).text();
  }
}
