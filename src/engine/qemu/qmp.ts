/** QMP: QEMU's control channel, JSON lines over a unix socket. One client at a time; it survives restarts of the daemon. */
import { EngineError } from "../engine.ts";

interface Waiting {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

/** A reply line longer than this comes from a VMM that lost its mind, bytes. */
const MAX_LINE = 4 << 20;

export class Qmp {
  private readonly waiting = new Map<number, Waiting>();
  private nextId = 1;
  private buffer = "";
  private socket: { write(data: string): number; end(): void } | null = null;
  /** Resolves when the connection is gone: the VMM ended (or another client took over). */
  readonly closed: Promise<void>;
  private onClosed: () => void = () => {};
  private greet: () => void = () => {};

  private constructor() {
    this.closed = new Promise((resolve) => {
      this.onClosed = resolve;
    });
  }

  /** Connects and negotiates; `deadlineMs` covers a VMM that is still starting. Throws EngineError. */
  static async connect(path: string, deadlineMs: number, alive: () => boolean = () => true): Promise<Qmp> {
    const end = Date.now() + deadlineMs;
    for (;;) {
      try {
        return await Qmp.once(path, end - Date.now());
      } catch (cause) {
        if (!alive()) throw new EngineError("the VMM ended while it started", "", { cause });
        if (Date.now() >= end) throw new EngineError("the VMM does not answer", "", { cause });
        await Bun.sleep(1);
      }
    }
  }

  private static async once(path: string, timeoutMs: number): Promise<Qmp> {
    const qmp = new Qmp();
    const greeting = new Promise<void>((resolve) => {
      qmp.greet = resolve;
    });
    qmp.socket = await Bun.connect({
      unix: path,
      socket: {
        data: (_socket, data) => qmp.receive(data.toString("utf8")),
        close: () => qmp.end(),
        error: () => qmp.end(),
      },
    });
    const late = setTimeout(() => qmp.close(), Math.max(timeoutMs, 100));
    try {
      await Promise.race([greeting, qmp.closed]);
      await qmp.call("qmp_capabilities");
      return qmp;
    } catch (error) {
      qmp.close();
      throw error;
    } finally {
      clearTimeout(late);
    }
  }

  /** One command. Rejects with EngineError on refusal, after `timeoutMs`, or when the VMM is gone. */
  call<T = unknown>(execute: string, args: Record<string, unknown> = {}, timeoutMs = 10_000): Promise<T> {
    const id = this.nextId++;
    return new Promise<T>((resolve, reject) => {
      if (!this.socket) return reject(new EngineError(`${execute}: the VMM is gone`));
      const timer = setTimeout(() => {
        this.waiting.delete(id);
        reject(new EngineError(`${execute}: no answer from the VMM within ${timeoutMs} ms`));
      }, timeoutMs);
      this.waiting.set(id, {
        resolve: (value) => {
          clearTimeout(timer);
          resolve(value as T);
        },
        reject: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      });
      this.socket.write(`${JSON.stringify({ execute, arguments: args, id })}\n`);
    });
  }

  close(): void {
    this.socket?.end();
    this.end();
  }

  private receive(text: string): void {
    this.buffer += text;
    if (this.buffer.length > MAX_LINE) return this.close();
    for (let at = this.buffer.indexOf("\n"); at >= 0; at = this.buffer.indexOf("\n")) {
      const line = this.buffer.slice(0, at);
      this.buffer = this.buffer.slice(at + 1);
      if (line.trim()) this.handle(line);
    }
  }

  private handle(line: string): void {
    let message: { QMP?: unknown; id?: number; return?: unknown; error?: { desc?: string } };
    try {
      message = JSON.parse(line);
    } catch {
      return this.close();
    }
    if (message.QMP) return this.greet();
    const waiting = message.id === undefined ? undefined : this.waiting.get(message.id);
    if (!waiting) return;
    this.waiting.delete(message.id!);
    if (message.error) waiting.reject(new EngineError(`the VMM refused: ${message.error.desc ?? "unknown"}`));
    else waiting.resolve(message.return);
  }

  private end(): void {
    this.socket = null;
    for (const { reject } of this.waiting.values()) reject(new EngineError("the VMM is gone"));
    this.waiting.clear();
    this.onClosed();
  }
}
