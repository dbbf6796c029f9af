/** A thin client for tests: speaks raw HTTP, so that what is checked is the wire and not our own client. */

export interface Answer<T = Record<string, unknown>> {
  status: number;
  body: T;
  headers: Headers;
}

export interface ExecAnswer {
  exit_code: number;
  stdout: string;
  stderr: string;
}

// biome-ignore lint/suspicious/noExplicitAny: answers are checked by the tests themselves
export type Json = any;

export class Api {
  constructor(
    readonly url: string,
    readonly key: string,
  ) {}

  /** One request; a JSON body when `body` is an object, raw otherwise. */
  async call<T = Json>(
    method: string,
    path: string,
    body?: unknown,
    init: RequestInit = {},
  ): Promise<Answer<T>> {
    const raw = body === undefined || typeof body === "string" || body instanceof Uint8Array;
    const response = await fetch(this.url + path, {
      method,
      headers: { authorization: `Bearer ${this.key}`, ...(init.headers as Record<string, string>) },
      body: raw ? (body as string | Uint8Array<ArrayBuffer> | undefined) : JSON.stringify(body),
      ...(init.signal ? { signal: init.signal } : {}),
    });
    const text = await response.text();
    let parsed: unknown = text;
    try {
      parsed = JSON.parse(text);
    } catch {}
    return { status: response.status, body: parsed as T, headers: response.headers };
  }

  /** Like call, but throws unless the status is 2xx. */
  async ok<T = Json>(method: string, path: string, body?: unknown, init: RequestInit = {}): Promise<T> {
    const answer = await this.call<T>(method, path, body, init);
    if (answer.status < 200 || answer.status > 299) {
      throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
    }
    return answer.body;
  }

  create(input: Record<string, unknown> = {}): Promise<Json> {
    return this.ok("POST", "/sandboxes", { memory_mb: 256, ...input });
  }

  exec(sandbox: string, cmd: string[], extra: Record<string, unknown> = {}): Promise<ExecAnswer> {
    return this.ok("POST", `/sandboxes/${sandbox}/exec`, { cmd, ...extra });
  }

  /** stdout of a shell line, trimmed; throws when it exits non-zero. */
  async sh(sandbox: string, line: string, extra: Record<string, unknown> = {}): Promise<string> {
    const result = await this.exec(sandbox, ["sh", "-c", line], extra);
    if (result.exit_code !== 0)
      throw new Error(`'${line}' exited ${result.exit_code}: ${result.stderr}${result.stdout}`);
    return result.stdout.trim();
  }

  /** Waits until something in the guest listens on the TCP port. */
  async listens(sandbox: string, port: number): Promise<void> {
    const hex = port.toString(16).toUpperCase().padStart(4, "0");
    await this.sh(
      sandbox,
      `for i in $(seq 300); do grep -q ':${hex} [0-9A-F:]* 0A' /proc/net/tcp /proc/net/tcp6 && exit; sleep 0.1; done; exit 1`,
    );
  }

  /** Waits until the guest runs a process whose arguments, joined by spaces, are `argv`. */
  async runs(sandbox: string, argv: string): Promise<void> {
    for (let i = 0; i < 300; i++) {
      const list: { argv: string }[] = await this.ok("GET", `/sandboxes/${sandbox}/processes`);
      if (list.some((entry) => entry.argv === argv)) return;
      await Bun.sleep(100);
    }
    throw new Error(`'${argv}' does not run in ${sandbox}`);
  }

  get(sandbox: string): Promise<Json> {
    return this.ok("GET", `/sandboxes/${sandbox}`);
  }

  stop(sandbox: string, body: Record<string, unknown> = {}): Promise<Json> {
    return this.ok("POST", `/sandboxes/${sandbox}/stop`, body);
  }

  start(sandbox: string, body: Record<string, unknown> = {}): Promise<Json> {
    return this.ok("POST", `/sandboxes/${sandbox}/start`, body);
  }

  async destroy(sandbox: string): Promise<void> {
    await this.call("DELETE", `/sandboxes/${sandbox}`);
  }

  /** Waits until `get` shows what `until` wants; throws after `ms`. */
  async until(sandbox: string, until: (view: Json) => boolean, ms = 60_000): Promise<Json> {
    const end = Date.now() + ms;
    for (;;) {
      const view = await this.get(sandbox);
      if (until(view)) return view;
      if (Date.now() > end)
        throw new Error(`still ${view.status}/${view.thermal}/${view.reason} after ${ms} ms`);
      await Bun.sleep(100);
    }
  }
}
