/** The Guest interface over pooled connections. */
import { randomBytes } from "node:crypto";
import { orAbort } from "../lib/abort.ts";
import { Semaphore } from "../lib/semaphore.ts";
import { activityOf } from "./activity.ts";
import { Connection, type ConnectionOptions, protocolError } from "./connection.ts";
import { isSilence } from "./errors.ts";
import { execute, executeDetached } from "./exec.ts";
import { readFileFrom, writeFileTo } from "./files.ts";
import type { Activity, ConfigureRequest, Guest, SecretFile } from "./guest.ts";
import { GuestError } from "./guest.ts";
import { listDirectory, statPath } from "./listing.ts";
import { listProcesses } from "./processes.ts";
import { openTunnel } from "./tunnel.ts";

/** Idle connections kept for the next request. */
const MAX_IDLE = 4;
/** Connections at a time, below the agent's own limit of 512; further requests wait for one. What keeps the machine alive
 *  (configure, activity, freeze) waits for nobody. */
const MAX_OPEN = 400;
/** Requests that wait for one of them; one more is refused. */
const MAX_WAITING = 1000;
/** Of them, connections that last as long as somebody reads or talks: downloads and tunnels leave room for commands. */
const MAX_STREAMS = 300;
const CONNECT_MS = 10_000;
/** A few small files into memory, ms. */
const SECRETS_MS = 15_000;
/** Connections that are being opened: each takes the guest a while, and none shall run out of its time in a burst. */
const MAX_DIALS = 8;

export interface GuestTarget extends ConnectionOptions {
  host: string;
  port: number;
  token: string;
  /** A call failed because nothing was heard. */
  onSilence?: () => void;
}

/** A list of sentences of the guest, bounded. */
const texts = (value: unknown): string[] =>
  Array.isArray(value) ? value.slice(0, 64).map((text) => String(text).slice(0, 500)) : [];

/** A client for one agent. Nothing is dialled before the first call. */
export function createGuestClient(target: GuestTarget): Guest {
  return new GuestClient(target);
}

export class GuestClient implements Guest {
  private idle: Connection[] = [];
  private readonly places = new Semaphore(MAX_OPEN);
  private readonly streams = new Semaphore(MAX_STREAMS);
  private readonly dials = new Semaphore(MAX_DIALS);

  private still = false;
  private heard = 0;

  constructor(private readonly target: GuestTarget) {}

  quietMs(): number {
    return performance.now() - this.heard;
  }

  standsStill(still: boolean): void {
    this.still = still;
  }

  disconnect(): void {
    for (const connection of this.idle.splice(0)) connection.close();
  }

  async ready(deadlineMs: number, signal?: AbortSignal) {
    const began = performance.now();
    for (;;) {
      signal?.throwIfAborted();
      const waited = performance.now() - began;
      // Short attempts: a SYN that a booting guest loses would be repeated only after a second. They grow with the wait, so
      // that a guest which is slow gets time to answer, and none is met later than by a tenth of its boot.
      const attempt = Math.min(Math.max(100, waited / 10), 1000);
      try {
        const connection = await orAbort(this.dial(attempt), signal);
        this.keep(connection);
        return connection.welcome;
      } catch (error) {
        signal?.throwIfAborted();
        if (error instanceof GuestError && error.code !== "lost") throw error;
        if (waited + attempt > deadlineMs)
          throw new GuestError("lost", `the guest's agent did not answer within ${deadlineMs} ms`);
        await Bun.sleep(20);
      }
    }
  }

  async configure(request: ConfigureRequest, signal?: AbortSignal) {
    const { machineId, growRoot, volumes, initEnv, secretFiles, ...rest } = request;
    const result = await this.simple(
      "configure",
      {
        ...rest,
        machine_id: machineId,
        grow_root: growRoot,
        init_env: initEnv,
        secret_files: secretFiles,
        entropy: request.entropy ?? randomBytes(64).toString("base64"),
        volumes: volumes?.map(({ readOnly, ...volume }) => ({ ...volume, read_only: readOnly })),
      },
      signal,
    );
    if (request.token !== this.target.token) {
      // The connection that carried the call stays authenticated; keep it, and use the new token from now on.
      this.target.token = request.token;
    }
    return {
      bootMs: Number(result.boot_ms) || 0,
      warnings: texts(result.warnings),
      secretProblems: texts(result.secret_problems),
    };
  }

  async secrets(generation: number, files: SecretFile[]): Promise<string[]> {
    const result = await this.simple("secrets", { generation, files }, AbortSignal.timeout(SECRETS_MS));
    return texts(result.secret_problems);
  }

  exec: Guest["exec"] = (request, sink, signal) => this.use((c) => execute(c, request, sink), signal);
  execDetached: Guest["execDetached"] = (request) => this.use((c) => executeDetached(c, request));
  stat: Guest["stat"] = (path) => this.use((c) => statPath(c, path));
  writeFile: Guest["writeFile"] = (path, body, options, signal) =>
    this.use((c) => writeFileTo(c, path, body, options), signal);

  readFile: Guest["readFile"] = (path, options, signal) =>
    this.streaming((connection, done) => readFileFrom(connection, path, options, done), signal);
  list: Guest["list"] = (path, options = {}, signal) =>
    this.streaming((connection, done) => listDirectory(connection, path, options.limit, done), signal);

  async activity(timeoutMs: number): Promise<Activity> {
    return activityOf(await this.simple("activity", {}, AbortSignal.timeout(timeoutMs)));
  }

  async ports(): Promise<{ port: number; address: string }[]> {
    const { ports } = await this.use(async (connection) => {
      await connection.request("ports");
      return connection.result(512 << 10);
    });
    if (!Array.isArray(ports)) throw protocolError();
    return ports
      .slice(0, 4096)
      .map((entry) => ({ port: Number(entry?.port), address: String(entry?.address ?? "").slice(0, 64) }))
      .filter(({ port }) => Number.isInteger(port) && port > 0 && port < 65536)
      .sort((a, b) => a.port - b.port);
  }

  processes: Guest["processes"] = (signal) => this.use(listProcesses, signal);

  async sync(timeoutMs: number): Promise<void> {
    await this.simple("sync", {}, AbortSignal.timeout(timeoutMs));
  }

  async prepareClone(timeoutMs: number): Promise<void> {
    await this.simple("prepare_clone", { timeout_ms: 120_000 }, AbortSignal.timeout(timeoutMs));
  }

  async resumeSource(): Promise<void> {
    await this.simple("resume_source", {}, AbortSignal.timeout(10_000));
  }

  async poweroff(timeoutMs: number): Promise<void> {
    await this.simple("poweroff", { timeout_ms: timeoutMs }, AbortSignal.timeout(5000));
  }

  async forward(port: number, signal?: AbortSignal) {
    const { connection, release } = await this.stream(signal);
    try {
      const tunnel = await openTunnel(connection, port, signal);
      void connection.closed.then(release);
      return tunnel;
    } catch (error) {
      release();
      throw error;
    }
  }

  /** A connection for longer. `release` gives its place back (idempotent). */
  private async stream(signal?: AbortSignal): Promise<{ connection: Connection; release: () => void }> {
    const first = await this.streams.acquire(signal);
    const second = await this.place(signal).catch((error) => {
      first();
      throw error;
    });
    const release = () => {
      second();
      first();
    };
    try {
      return { connection: await this.take(signal, true), release };
    } catch (error) {
      release();
      throw error;
    }
  }

  private simple(
    op: string,
    members: Record<string, unknown> = {},
    signal?: AbortSignal,
  ): Promise<Record<string, unknown>> {
    return this.useOne(async (connection) => {
      await connection.request(op, members);
      return connection.result();
    }, signal);
  }

  /** A request whose answer is read later: it keeps its connection, and its place, until `done` or the connection's end. */
  private async streaming<T>(
    start: (connection: Connection, done: () => void) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T> {
    const { connection, release } = await this.stream(signal);
    const stop = () => connection.close();
    const over = () => {
      signal?.removeEventListener("abort", stop);
      forget();
      release();
    };
    const forget = connection.onEnd(over);
    signal?.addEventListener("abort", stop, { once: true });
    try {
      return await start(connection, () => {
        over();
        this.keep(connection);
      });
    } catch (error) {
      over();
      if (connection.open && error instanceof GuestError && error.code !== "lost") this.keep(connection);
      else connection.close();
      throw error;
    }
  }

  /** One of the connections that a sandbox may have; the queue for them is bounded, too. */
  private async place(signal?: AbortSignal): Promise<() => void> {
    if (this.places.queued >= MAX_WAITING)
      throw new GuestError("busy", `${MAX_OPEN} operations run in this sandbox and ${MAX_WAITING} wait`);
    return this.places.acquire(signal);
  }

  /** Runs one request on a pooled or new connection. */
  private async use<T>(work: (connection: Connection) => Promise<T>, signal?: AbortSignal): Promise<T> {
    const release = await this.place(signal);
    try {
      return await this.useOne(work, signal, true);
    } finally {
      release();
    }
  }

  private async useOne<T>(
    work: (connection: Connection) => Promise<T>,
    signal?: AbortSignal,
    inTurn = false,
  ): Promise<T> {
    signal?.throwIfAborted();
    const connection = await this.take(signal, inTurn);
    const stop = () => connection.close();
    signal?.addEventListener("abort", stop, { once: true });
    try {
      const value = await work(connection);
      this.keep(connection);
      return value;
    } catch (error) {
      const report = error instanceof GuestError && error.code !== "lost";
      if (report && connection.open) this.keep(connection);
      else connection.close();
      if (signal?.aborted) throw signal.reason;
      if (isSilence(error)) this.target.onSilence?.();
      throw error;
    } finally {
      signal?.removeEventListener("abort", stop);
    }
  }

  /** A connection that is idle, or a new one. `inTurn`: behind others that are being opened. */
  private async take(signal: AbortSignal | undefined, inTurn: boolean): Promise<Connection> {
    for (let connection = this.idle.pop(); connection; connection = this.idle.pop())
      if (connection.open) return connection;
    const opening = inTurn ? this.dials.with(() => this.dial(CONNECT_MS), signal) : this.dial(CONNECT_MS);
    return orAbort(opening, signal).catch((error) => {
      // Who left does not leave a connection behind.
      opening.then(
        (connection) => this.keep(connection),
        () => {},
      );
      throw error;
    });
  }

  private dial(timeoutMs: number): Promise<Connection> {
    const { host, port, token } = this.target;
    const { silenceMs, paused = () => this.still } = this.target;
    const onHeard = () => {
      this.heard = performance.now();
    };
    return Connection.open(host, port, token, timeoutMs, { silenceMs, paused, onHeard });
  }

  private keep(connection: Connection): void {
    if (connection.open && this.idle.length < MAX_IDLE) this.idle.push(connection);
    else connection.close();
  }
}
