/** QMP: QEMU's control channel, JSON lines over a unix socket. One client at a time; it survives restarts of the daemon. */
import { EngineError } from "../engine.ts";
import { peerOf } from "../host/libc.ts";

interface Waiting {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

/** The only process that may be at the other end. */
export interface Peer {
  pid: number;
  uid: number;
}

/** A reply line longer than this comes from a VMM that lost its mind, bytes. */
const MAX_LINE = 4 << 20;
/** What a VMM may say without being asked (events): a store of bytes, and what it gains a second. */
const UNASKED = 8 << 20;
const UNASKED_PER_S = 512 << 10;
/** Commands answer at once; this long means that the VMM is stuck, ms. */
const CALL_MS = 5000;

/** An event of the VMM: https://www.qemu.org/docs/master/interop/qemu-qmp-ref.html */
export interface QmpEvent {
  event: string;
  data?: Record<string, unknown>;
}

/** A refusal, by the same reference. */
interface QmpError {
  class?: unknown;
  desc?: unknown;
}

export class Qmp {
  private readonly waiting = new Map<number, Waiting>();
  private nextId = 1;
  private buffer = "";
  private socket: { write(data: string): number; end(): void } | null = null;
  private unasked = { left: UNASKED, at: Date.now() };
  /** Why the channel is of no use any more. */
  private failure: EngineError | null = null;
  /** Resolves when the connection is gone: true when it was the VMM's doing, false when `close` was called. */
  readonly closed: Promise<boolean>;
  private onClosed: (byVmm: boolean) => void = () => {};
  private greet: () => void = () => {};
  private listener: ((event: QmpEvent) => void) | null = null;
  /** Events that came before anybody listened; few, and bounded. */
  private early: QmpEvent[] = [];

  private constructor() {
    this.closed = new Promise((resolve) => {
      this.onClosed = resolve;
    });
  }

  /**
   * Connects and negotiates; `deadlineMs` covers a VMM that is still starting. Throws EngineError: 'gone', 'silent' (no
   * answer in time) or 'nonsense'.
   */
  static async connect(path: string, peer: Peer, deadlineMs: number, alive: () => boolean): Promise<Qmp> {
    const end = Date.now() + deadlineMs;
    for (let wait = 1; ; wait = Math.min(wait * 1.2, 50)) {
      const qmp = await Qmp.dial(path).catch((cause: unknown) => {
        if (!alive()) throw new EngineError("the VMM ended", "", { cause }, "gone");
        if (Date.now() >= end) throw new EngineError("the VMM does not listen", "", { cause }, "silent");
        return null;
      });
      if (qmp) return qmp.negotiate(peer, Math.max(end - Date.now(), 100));
      await Bun.sleep(wait);
    }
  }

  private static async dial(path: string): Promise<Qmp> {
    const qmp = new Qmp();
    qmp.socket = await Bun.connect({
      unix: path,
      socket: {
        data: (_socket, data) => qmp.receive(data.toString("utf8")),
        close: () => qmp.end(true),
        error: () => qmp.end(true),
      },
    });
    return qmp;
  }

  private async negotiate(peer: Peer, timeoutMs: number): Promise<Qmp> {
    const greeting = new Promise<void>((resolve) => {
      this.greet = resolve;
    });
    const late = setTimeout(() => {
      this.fail(new EngineError(`the VMM did not answer within ${timeoutMs} ms`, "", {}, "silent"));
    }, timeoutMs);
    try {
      const found = this.socket && peerOf(this.socket);
      if (found?.pid !== peer.pid || found.uid !== peer.uid)
        throw new EngineError("the control socket is not the VMM's", "", {}, "nonsense");
      await Promise.race([greeting, this.closed]);
      await this.call("qmp_capabilities", {}, timeoutMs + 1000);
      return this;
    } catch (error) {
      this.close();
      throw error;
    } finally {
      clearTimeout(late);
    }
  }

  /** One listener; it gets what came before it as well. */
  onEvent(listener: (event: QmpEvent) => void): void {
    this.listener = listener;
    for (const event of this.early.splice(0)) listener(event);
  }

  /** One command. Rejects with EngineError on refusal, after `timeoutMs`, or when the VMM is gone. */
  call(execute: string, args: Record<string, unknown> = {}, timeoutMs = CALL_MS): Promise<unknown> {
    const id = this.nextId++;
    return new Promise((resolve, reject) => {
      if (!this.socket) return reject(this.failure ?? gone(execute));
      const timer = setTimeout(() => {
        this.waiting.delete(id);
        reject(
          new EngineError(`${execute}: no answer from the VMM within ${timeoutMs} ms`, "", {}, "silent"),
        );
      }, timeoutMs);
      this.waiting.set(id, {
        resolve: (value) => {
          clearTimeout(timer);
          resolve(value);
        },
        reject: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      });
      this.socket.write(`${JSON.stringify({ execute, arguments: args, id })}\n`);
    });
  }

  /** A command that answers with an object; anything else is nonsense (EngineError). */
  async query(execute: string): Promise<Record<string, unknown>> {
    const answer = await this.call(execute);
    if (typeof answer !== "object" || answer === null)
      throw new EngineError(`${execute}: the VMM answers nonsense`, "", {}, "nonsense");
    return answer as Record<string, unknown>;
  }

  close(): void {
    this.end(false);
  }

  /** The VMM cannot be talked to; everybody who waits learns why. */
  private fail(error: EngineError): void {
    this.failure ??= error;
    this.end(true);
  }

  private receive(text: string): void {
    this.buffer += text;
    if (this.buffer.length > MAX_LINE)
      return this.fail(new EngineError("the VMM sent an endless line", "", {}, "nonsense"));
    for (let at = this.buffer.indexOf("\n"); at >= 0; at = this.buffer.indexOf("\n")) {
      const line = this.buffer.slice(0, at);
      this.buffer = this.buffer.slice(at + 1);
      if (line.trim()) this.handle(line);
      if (!this.socket) return;
    }
  }

  private handle(line: string): void {
    let message:
      | (Partial<QmpEvent> & { QMP?: unknown; id?: number; return?: unknown; error?: QmpError })
      | null = null;
    try {
      message = JSON.parse(line);
    } catch {}
    if (typeof message !== "object" || message === null)
      return this.fail(new EngineError("the VMM sent something that is not QMP", "", {}, "nonsense"));
    const waiting = message.id === undefined ? undefined : this.waiting.get(message.id);
    if (!waiting) {
      if (!this.affords(line.length))
        return this.fail(new EngineError("the VMM floods its control channel", "", {}, "nonsense"));
      if (message.QMP) this.greet();
      if (typeof message.event === "string") this.tell({ event: message.event, data: message.data });
      return;
    }
    this.waiting.delete(message.id!);
    if (message.error) waiting.reject(refusal(message.error));
    else waiting.resolve(message.return);
  }

  private tell(event: QmpEvent): void {
    if (this.listener) this.listener(event);
    else if (this.early.length < 64) this.early.push(event);
  }

  private affords(bytes: number): boolean {
    const now = Date.now();
    const gained = ((now - this.unasked.at) / 1000) * UNASKED_PER_S;
    this.unasked = { left: Math.min(UNASKED, this.unasked.left + gained) - bytes, at: now };
    return this.unasked.left >= 0;
  }

  private end(byVmm: boolean): void {
    // First of all: ending the socket calls back, as if the VMM had done it.
    this.onClosed(byVmm);
    this.socket?.end();
    this.socket = null;
    this.buffer = "";
    for (const { reject } of this.waiting.values()) reject(this.failure ?? gone());
    this.waiting.clear();
  }
}

const refusal = ({ class: kind, desc }: QmpError): EngineError =>
  new EngineError(
    `the VMM refused: ${String(desc).slice(0, 500)}`,
    "",
    {},
    kind === "CommandNotFound" ? "unknown" : "failed",
  );

const gone = (execute?: string): EngineError =>
  new EngineError(`${execute ? `${execute}: ` : ""}the VMM is gone`, "", {}, "gone");
