/** What goes through published ports: figures, and the way to end it. Bounded: rules that are quiet are forgotten first. */
import type { PortStats } from "./service.ts";

const MAX_RULES = 2000;
const SAMPLES = 500;

class Port {
  stats = { requests: 0, errors: 0, refused: 0, wakes: 0, open: 0, bytes_in: 0, bytes_out: 0 };
  readonly running = new Set<AbortController>();
  readonly samples: number[] = [];
  private at = 0;

  took(ms: number): void {
    this.samples[this.at] = ms;
    this.at = (this.at + 1) % SAMPLES;
  }
}

export class Traffic {
  private readonly ports = new Map<string, Port>();

  /** A request begins; `cut` fires when it is to end before its time. */
  enter(id: string): { cut: AbortSignal; leave(how: Left): void } {
    const port = this.port(id);
    const cut = new AbortController();
    port.running.add(cut);
    port.stats.requests++;
    port.stats.open++;
    return {
      cut: cut.signal,
      leave: ({ status, ms, woke, bytesIn, bytesOut }) => {
        if (!port.running.delete(cut)) return;
        port.stats.open--;
        if (status >= 500) port.stats.errors++;
        if (woke) port.stats.wakes++;
        port.stats.bytes_in += bytesIn;
        port.stats.bytes_out += bytesOut;
        if (status !== 101) port.took(ms);
      },
    };
  }

  refused(id: string): void {
    this.port(id).stats.refused++;
  }

  /** Ends what runs through a rule; its clients see `reason` where no answer has begun. */
  cut(id: string, reason: Error): void {
    for (const running of this.ports.get(id)?.running ?? []) running.abort(reason);
  }

  stats(id: string): PortStats {
    const port = this.ports.get(id) ?? new Port();
    const sorted = port.samples.toSorted((a, b) => a - b);
    const at = (share: number) =>
      sorted.length === 0 ? null : Math.round(sorted[Math.floor((sorted.length - 1) * share)]! * 10) / 10;
    return { ...port.stats, p50_ms: at(0.5), p95_ms: at(0.95) };
  }

  private port(id: string): Port {
    const port = this.ports.get(id) ?? new Port();
    this.ports.delete(id);
    this.ports.set(id, port);
    if (this.ports.size > MAX_RULES)
      for (const [old, { running }] of this.ports)
        if (running.size === 0) {
          this.ports.delete(old);
          break;
        }
    return port;
  }
}

export interface Left {
  status: number;
  ms: number;
  woke: boolean;
  bytesIn: number;
  bytesOut: number;
}
