/**
 * Firecracker's API: HTTP over a unix socket. It answers one request after the other, whoever asks, so requests wait for each
 * other here and their time begins when they are sent. What answers is a VMM: every byte may be a hostile guest's.
 */
import { EngineError } from "../engine.ts";
import { peerOf } from "../host/libc.ts";

/** The only process that may be at the other end. */
export interface Peer {
  pid: number;
  uid: number;
}

/** Largest head and body of an answer, bytes. */
const MAX_HEAD = 16 << 10;
const MAX_BODY = 1 << 20;
/** Ordinary requests are answered at once; this long means that the VMM is stuck, ms. */
const CALL_MS = 5000;

interface Waiting {
  resolve(answer: Answer): void;
  reject(error: Error): void;
}

interface Answer {
  status: number;
  body: string;
}

export class Api {
  private socket: { write(data: string): number; end(): void } | null = null;
  private received = "";
  private waiting: Waiting | null = null;
  private turn: Promise<unknown> = Promise.resolve();
  /** Why the channel is of no use any more. */
  private failure: EngineError | null = null;
  /** Resolves when the connection is gone: true when it was the VMM's doing, false when `close` was called. */
  readonly closed: Promise<boolean>;
  private onClosed: (byVmm: boolean) => void = () => {};

  private constructor() {
    this.closed = new Promise((resolve) => {
      this.onClosed = resolve;
    });
  }

  /**
   * Connects, and hears the VMM once; `deadlineMs` covers one that is still starting. Throws EngineError: 'gone', 'silent'
   * (no answer in time) or 'nonsense'.
   */
  static async connect(path: string, peer: Peer, deadlineMs: number, alive: () => boolean): Promise<Api> {
    const end = Date.now() + deadlineMs;
    for (let wait = 1; ; wait = Math.min(wait * 1.2, 50)) {
      const api = await Api.dial(path).catch((cause: unknown) => {
        if (!alive()) throw new EngineError("the VMM ended", "", { cause }, "gone");
        if (Date.now() >= end) throw new EngineError("the VMM does not listen", "", { cause }, "silent");
        return null;
      });
      if (api) return api.verify(peer, Math.max(end - Date.now(), 100));
      await Bun.sleep(wait);
    }
  }

  private static async dial(path: string): Promise<Api> {
    const api = new Api();
    api.socket = await Bun.connect({
      unix: path,
      socket: {
        data: (_socket, data) => api.receive(data.toString("latin1")),
        close: () => api.end(true),
        error: () => api.end(true),
      },
    });
    return api;
  }

  /** The socket lies in a folder that the VMM can write: whoever listens must be the VMM itself. */
  private async verify(peer: Peer, timeoutMs: number): Promise<Api> {
    try {
      const found = this.socket && peerOf(this.socket);
      if (found?.pid !== peer.pid || found.uid !== peer.uid)
        throw new EngineError("the control socket is not the VMM's", "", {}, "nonsense");
      await this.get("/", timeoutMs);
      return this;
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** An object that the VMM tells about itself. */
  async get(path: string, timeoutMs = CALL_MS): Promise<Record<string, unknown>> {
    const text = await this.call("GET", path, undefined, timeoutMs);
    try {
      const value: unknown = JSON.parse(text);
      if (typeof value === "object" && value !== null) return value as Record<string, unknown>;
    } catch {}
    throw new EngineError(`GET ${path}: the VMM answers nonsense`, "", {}, "nonsense");
  }

  put(path: string, body: object, timeoutMs = CALL_MS): Promise<string> {
    return this.call("PUT", path, body, timeoutMs);
  }

  patch(path: string, body: object, timeoutMs = CALL_MS): Promise<string> {
    return this.call("PATCH", path, body, timeoutMs);
  }

  close(): void {
    this.end(false);
  }

  /** Rejects with EngineError on refusal, after `timeoutMs` (the channel is of no use then), or when the VMM is gone. */
  private call(method: string, path: string, body: object | undefined, timeoutMs: number): Promise<string> {
    const result = this.turn.then(async () => {
      const { status, body: text } = await this.exchange(method, path, body, timeoutMs);
      if (status < 300) return text;
      throw new EngineError(`the VMM refused ${method} ${path}: ${faultOf(text)}`);
    });
    this.turn = result.catch(() => {});
    return result;
  }

  private exchange(
    method: string,
    path: string,
    body: object | undefined,
    timeoutMs: number,
  ): Promise<Answer> {
    return new Promise((resolve, reject) => {
      if (!this.socket) return reject(this.failure ?? gone(`${method} ${path}`));
      // What comes late would be taken for the answer to the next request.
      const timer = setTimeout(
        () =>
          this.fail(
            new EngineError(
              `${method} ${path}: no answer from the VMM within ${timeoutMs} ms`,
              "",
              {},
              "silent",
            ),
          ),
        timeoutMs,
      );
      this.waiting = {
        resolve: (answer) => {
          clearTimeout(timer);
          resolve(answer);
        },
        reject: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      };
      const text = body === undefined ? "" : JSON.stringify(body);
      const head = `${method} ${path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n`;
      const length = text
        ? `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(text)}\r\n`
        : "";
      this.socket.write(`${head}${length}\r\n${text}`);
    });
  }

  private receive(chunk: string): void {
    this.received += chunk;
    if (!this.waiting) return this.fail(nonsense("it talks without being asked"));
    const headEnd = this.received.indexOf("\r\n\r\n");
    if (headEnd < 0) {
      if (this.received.length > MAX_HEAD) this.fail(nonsense("an endless head"));
      return;
    }
    const head = this.received.slice(0, headEnd);
    const status = Number(/^HTTP\/1\.[01] (\d{3})/.exec(head)?.[1] ?? 0);
    const length = Number(/^content-length:\s*(\d{1,9})\s*$/im.exec(head)?.[1] ?? 0);
    if (!status || headEnd > MAX_HEAD || length > MAX_BODY) return this.fail(nonsense("not an answer"));
    const end = headEnd + 4 + length;
    if (this.received.length < end) return;
    if (this.received.length > end) return this.fail(nonsense("more than an answer"));
    const body = Buffer.from(this.received.slice(headEnd + 4), "latin1").toString("utf8");
    this.received = "";
    const { resolve } = this.waiting;
    this.waiting = null;
    resolve({ status, body });
  }

  private fail(error: EngineError): void {
    this.failure ??= error;
    this.end(true);
  }

  private end(byVmm: boolean): void {
    // First of all: ending the socket calls back, as if the VMM had done it.
    this.onClosed(byVmm);
    this.socket?.end();
    this.socket = null;
    this.received = "";
    this.waiting?.reject(this.failure ?? gone());
    this.waiting = null;
  }
}

/** Firecracker's own words for a refusal, bounded. */
function faultOf(body: string): string {
  try {
    const { fault_message: fault } = JSON.parse(body) as { fault_message?: unknown };
    if (typeof fault === "string") return fault.slice(0, 500);
  } catch {}
  return body.slice(0, 500);
}

const nonsense = (what: string): EngineError =>
  new EngineError(`the VMM's control socket: ${what}`, "", {}, "nonsense");

const gone = (what?: string): EngineError =>
  new EngineError(`${what ? `${what}: ` : ""}the VMM is gone`, "", {}, "gone");
