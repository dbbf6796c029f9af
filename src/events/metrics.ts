/** Prometheus metrics of the daemon. */
import { Counter, Gauge, Histogram, Registry } from "prom-client";

/** Seconds. */
const BUCKETS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30];

/** Names that have a line of their own. */
const MAX_ALIASES = 200;

/** Figures read at every scrape. */
export interface Figures {
  hot: number;
  warm: number;
  cold: number;
  unresponsive: number;
  memoryHeldBytes: number;
  memoryBudgetBytes: number;
  diskFreeBytes: number;
  diskReservedBytes: number;
  reserveFreeBytes: number;
  reserveBytes: number;
  diskPaused: number;
  eventsDropped: number;
}

const GAUGES: [name: string, help: string, key: keyof Figures][] = [
  ["bhatti_sandboxes_hot", "Sandboxes that are hot", "hot"],
  ["bhatti_sandboxes_warm", "Sandboxes that are warm", "warm"],
  ["bhatti_sandboxes_cold", "Sandboxes that are cold", "cold"],
  ["bhatti_sandboxes_unresponsive", "Sandboxes that do not answer", "unresponsive"],
  [
    "bhatti_sandboxes_disk_paused",
    "Sandboxes that stand still because the disk is nearly full",
    "diskPaused",
  ],
  ["bhatti_reserve_free_bytes", "Reserve for guest memory that nobody was promised", "reserveFreeBytes"],
  ["bhatti_reserve_bytes", "Reserve for guest memory", "reserveBytes"],
  ["bhatti_memory_held_bytes", "Memory promised to hot and warm sandboxes", "memoryHeldBytes"],
  ["bhatti_memory_budget_bytes", "Memory that may be promised", "memoryBudgetBytes"],
  ["bhatti_disk_free_bytes", "Free space of the data directory", "diskFreeBytes"],
  ["bhatti_disk_reserved_bytes", "Space promised to running sandboxes", "diskReservedBytes"],
  ["bhatti_events_dropped_total", "Events that were lost", "eventsDropped"],
];

export class Metrics {
  readonly registry = new Registry();
  private readonly requests = new Counter({
    name: "bhatti_requests_total",
    help: "API requests",
    labelNames: ["method", "status"],
    registers: [this.registry],
  });
  private readonly latency = new Histogram({
    name: "bhatti_request_seconds",
    help: "API latency",
    labelNames: ["method"],
    buckets: BUCKETS,
    registers: [this.registry],
  });
  private readonly authFailures = new Counter({
    name: "bhatti_auth_failures_total",
    help: "Wrong API keys",
    registers: [this.registry],
  });
  private readonly wakes = new Histogram({
    name: "bhatti_wake_seconds",
    help: "Wakes by the state they began in",
    labelNames: ["from"],
    buckets: BUCKETS,
    registers: [this.registry],
  });
  private readonly transitions = new Histogram({
    name: "bhatti_transition_seconds",
    help: "State transitions",
    labelNames: ["transition"],
    buckets: BUCKETS,
    registers: [this.registry],
  });
  private readonly creates = new Histogram({
    name: "bhatti_create_seconds",
    help: "Creates by their source",
    labelNames: ["from"],
    buckets: BUCKETS,
    registers: [this.registry],
  });
  private readonly publishedRequests = new Counter({
    name: "bhatti_published_requests_total",
    help: "Requests to published ports; names beyond the first 200 are together",
    labelNames: ["alias", "status"],
    registers: [this.registry],
  });
  private readonly publishedLatency = new Histogram({
    name: "bhatti_published_seconds",
    help: "Requests to published ports, by whether they had to wake the sandbox",
    labelNames: ["woke"],
    buckets: BUCKETS,
    registers: [this.registry],
  });
  private readonly aliases = new Set<string>();
  private requestCount = 0;
  private errorCount = 0;

  wake(from: "warm" | "cold" | "boot", ms: number): void {
    this.wakes.observe({ from }, ms / 1000);
  }

  transition(transition: string, ms: number): void {
    this.transitions.observe({ transition }, ms / 1000);
  }

  create(from: string, ms: number): void {
    this.creates.observe({ from }, ms / 1000);
  }

  request(method: string, status: number, ms: number): void {
    this.requestCount++;
    if (status >= 500) this.errorCount++;
    this.requests.inc({ method, status: String(status) });
    this.latency.observe({ method }, ms / 1000);
  }

  published(alias: string, status: number, ms: number, woke: boolean): void {
    if (this.aliases.size < MAX_ALIASES) this.aliases.add(alias);
    const label = this.aliases.has(alias) ? alias : "other";
    this.publishedRequests.inc({ alias: label, status: `${Math.floor(status / 100)}xx` });
    this.publishedLatency.observe({ woke: woke ? "yes" : "no" }, ms / 1000);
  }

  authFailure(): void {
    this.authFailures.inc();
  }

  counts() {
    return { requests: this.requestCount, errors: this.errorCount };
  }

  /** Gauges that are read when somebody asks, not kept up to date: `figures` is called once a scrape. */
  watch(figures: () => Figures): void {
    const gauge = (name: string, help: string, collect?: () => void) =>
      new Gauge({ name, help, registers: [this.registry], ...(collect ? { collect } : {}) });
    const watched: [Gauge, keyof Figures][] = [];
    // A scrape asks the metrics in the order of their making: the first reads for all.
    const read = () => {
      const now = figures();
      for (const [metric, key] of watched) metric.set(now[key]);
    };
    for (const [name, help, key] of GAUGES)
      watched.push([gauge(name, help, watched.length === 0 ? read : undefined), key]);
    const memory = gauge("process_resident_memory_bytes", "Memory of the daemon", () =>
      memory.set(process.memoryUsage().rss),
    );
    const cpu = gauge("process_cpu_seconds_total", "CPU time of the daemon", () => {
      const { user, system } = process.cpuUsage();
      cpu.set((user + system) / 1e6);
    });
  }
}
