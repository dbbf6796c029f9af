/** Events of the product: what happened to what, for people and for programs. Types: docs/http-api.md, Events. */
export interface EventInput {
  type: string;
  userId?: string;
  sandboxId?: string;
  meta?: Record<string, unknown>;
}

export interface BhattiEvent extends Required<EventInput> {
  id: number;
  /** RFC 3339 UTC, ms. */
  ts: string;
}

export interface EventFilter {
  /** Prefix of the type. */
  type?: string;
  userId?: string;
  sandboxId?: string;
  sinceId?: number;
  limit?: number;
}

export interface Events {
  /** Never blocks, never throws; written in order, flushed within 500 ms. */
  record(event: EventInput): void;
  list(filter: EventFilter): BhattiEvent[];
  /** Live events from now on; a subscriber that falls 1000 behind is ended. */
  follow(filter: EventFilter, signal: AbortSignal): AsyncIterable<BhattiEvent>;
  stop(): Promise<void>;
}
