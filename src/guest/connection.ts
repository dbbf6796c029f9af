/** One authenticated connection to an agent. Requests run on it one after the other. */
import { encodeFrame, encodeJson, FRAME, type Frame, FrameParser } from "./frames.ts";
import { GuestError } from "./guest.ts";
import { guestProves, hostProof, newNonce, parseNonce } from "./proof.ts";

interface Socket {
  write(data: Uint8Array): number;
  end(): unknown;
  terminate(): unknown;
  pause(): unknown;
  resume(): unknown;
}

/** Bytes of frames that wait for their reader before the socket is paused. */
const HIGH_WATER = 1 << 20;
/** A peer that stops in the middle of a frame for so long is dropped, ms. */
const STALL_MS = 30_000;
/** The agent sends a heartbeat after 5 s of silence: after so long without one it is not served any more, ms. */
const SILENCE_MS = 25_000;

/** What a REQUEST carries, bytes (docs/guest-protocol.md). */
const MAX_REQUEST = 1 << 20;
/** Answers are small, except where a caller says so, bytes. */
const MAX_RESULT = 64 << 10;

/** Heartbeats that are taken in so many ms. */
const MAX_BEATS = 32;
const BEATS_MS = 10_000;
/** Types whose only purpose is what they carry. */
const CARRIERS: ReadonlySet<number> = new Set([FRAME.stdout, FRAME.stderr, FRAME.data]);

export interface ConnectionOptions {
  /** Milliseconds without any frame, while a request runs, after which the guest counts as unresponsive. */
  silenceMs?: number;
  /** True while the machine stands still on our wish (snapshot): its silence means nothing. */
  paused?: () => boolean;
  /** Told of every sign of life. */
  onHeard?: () => void;
}

export class Connection {
  private readonly parser = new FrameParser();
  private readonly queue: Frame[] = [];
  private queued = 0;
  private paused = false;
  private waiting: { resolve(frame: Frame): void; reject(error: Error): void } | null = null;
  private outgoing: Uint8Array[] = [];
  private drained: (() => void)[] = [];
  private failure: GuestError | null = null;
  private stall: ReturnType<typeof setTimeout> | null = null;
  private silence: ReturnType<typeof setTimeout> | null = null;
  private heard = 0;
  private beats = 0;
  private beatsSince = 0;
  /** A request runs: between requests the guest has nothing to say. */
  private busy = false;
  private tunnel = false;
  private socket!: Socket;
  welcome: { agent: string; configured: boolean; generation: number } = {
    agent: "",
    configured: false,
    generation: 0,
  };
  /** Whether any byte of the current request was answered: such a request is never sent again. */
  answered = false;

  /** Resolves when the connection has ended, for whatever reason. */
  readonly closed: Promise<void>;
  private ended!: () => void;

  private readonly enders = new Set<() => void>();

  private constructor(private readonly options: ConnectionOptions) {
    this.closed = new Promise((resolve) => {
      this.ended = resolve;
    });
  }

  /** Dials and authenticates within `timeoutMs`. Throws GuestError (code "lost" when nobody answers). */
  static async open(
    host: string,
    port: number,
    token: string,
    timeoutMs: number,
    options: ConnectionOptions = {},
  ): Promise<Connection> {
    const connection = new Connection(options);
    const timer = setTimeout(
      () => connection.fail(new GuestError("lost", "the guest does not answer")),
      timeoutMs,
    );
    try {
      const opening = Bun.connect({
        hostname: host,
        port,
        socket: {
          binaryType: "buffer",
          data: (_socket, data) => connection.receive(data),
          drain: () => connection.flush(),
          close: () => connection.fail(new GuestError("lost", "the guest closed the connection")),
          end: () => connection.fail(new GuestError("lost", "the guest closed the connection")),
          error: () => connection.fail(new GuestError("lost", "the connection to the guest failed")),
          connectError: () => connection.fail(new GuestError("lost", "the guest does not answer")),
        },
      }).then((socket) => {
        if (connection.failure) socket.terminate();
        return socket;
      });
      connection.socket = (await Promise.race([opening, connection.failed()])) as unknown as Socket;
      await connection.greet(token);
      return connection;
    } catch (error) {
      connection.close();
      throw error instanceof GuestError
        ? error
        : new GuestError("lost", "the guest does not answer", { cause: error });
    } finally {
      clearTimeout(timer);
    }
  }

  /** The token itself is never sent: what has taken the agent's port learns nothing from us, and cannot answer rightly. */
  private async greet(token: string): Promise<void> {
    const ours = newNonce();
    this.busy = true;
    await this.send(encodeJson(FRAME.hello, { v: 3, nonce: ours.toString("hex") }));
    const frame = await this.next();
    if (frame.type !== FRAME.welcome) throw frame.type === FRAME.error ? errorOf(frame) : protocolError();
    const { agent, configured, generation, nonce, proof } = jsonOf(frame);
    const theirs = parseNonce(nonce);
    if (token || theirs) {
      if (!theirs || !guestProves(token, ours, theirs, proof))
        throw new GuestError(
          "impostor",
          "what answers on the agent's port does not know the sandbox's token",
        );
      await this.sendFrame(FRAME.proof, hostProof(token, ours, theirs));
    }
    this.busy = false;
    this.welcome = {
      agent: String(agent).slice(0, 64),
      configured: configured === true,
      generation: Number(generation) || 0,
    };
  }

  /** Calls `end` when the connection ends; the answer takes it back. */
  onEnd(end: () => void): () => void {
    if (this.failure) end();
    else this.enders.add(end);
    return () => this.enders.delete(end);
  }

  get open(): boolean {
    return this.failure === null;
  }

  /** Sends a request; its answer is read with next(). */
  async request(op: string, members: Record<string, unknown> = {}): Promise<void> {
    const payload = new TextEncoder().encode(JSON.stringify({ op, now: Date.now(), ...members }));
    if (payload.length > MAX_REQUEST)
      throw new GuestError("too_large", "the request with its environment is larger than 1 MiB");
    this.answered = false;
    this.busy = true;
    this.heard = performance.now();
    if (!this.silence) this.listen(this.silenceMs);
    await this.send(encodeFrame(FRAME.request, payload));
  }

  /** One more frame; throws what the peer reported or why the connection ended. */
  next(): Promise<Frame> {
    const frame = this.queue.shift();
    if (frame) {
      this.queued -= frame.payload.length;
      if (this.paused && this.queued < HIGH_WATER / 2) {
        this.paused = false;
        this.heard = performance.now();
        this.socket.resume();
      }
      return Promise.resolve(frame);
    }
    if (this.failure) return Promise.reject(this.failure);
    return new Promise((resolve, reject) => {
      this.waiting = { resolve, reject };
    });
  }

  /** The RESULT of a request without data, of at most `maxBytes`; its members are checked by the caller. */
  async result(maxBytes = MAX_RESULT): Promise<Record<string, unknown>> {
    const frame = await this.next();
    if (frame.type === FRAME.result) {
      if (frame.payload.length > maxBytes) throw protocolError();
      return jsonOf(frame);
    }
    throw frame.type === FRAME.error ? errorOf(frame) : protocolError();
  }

  /** From its RESULT on the connection is a tunnel: it stays busy to its end. */
  keepsOpen(): void {
    this.tunnel = true;
  }

  private get silenceMs(): number {
    return this.options.silenceMs ?? SILENCE_MS;
  }

  /** One timer for many requests: it looks at the clock when it fires. */
  private listen(ms: number): void {
    this.silence = setTimeout(() => {
      this.silence = null;
      if (!this.busy || this.failure) return;
      const now = performance.now();
      // Nothing can be heard while we do not read, nor from a machine that we have stopped.
      if (this.paused || this.options.paused?.()) this.heard = now;
      const quiet = now - this.heard;
      if (quiet < this.silenceMs) return this.listen(this.silenceMs - quiet);
      const seconds = Math.round(quiet / 1000);
      this.fail(new GuestError("guest_unresponsive", `the guest's agent has been silent for ${seconds} s`));
    }, ms);
    this.silence.unref?.();
  }

  /** Our side is not behind: whatever comes next is for the guest to send. */
  get waits(): boolean {
    return this.waiting !== null;
  }

  /** Ends it with a reason of the caller's. */
  giveUp(error: GuestError): void {
    this.fail(error);
  }

  /** Resolves when the kernel took the bytes: back-pressure for the producer. */
  send(bytes: Uint8Array): Promise<void> {
    if (this.failure) return Promise.reject(this.failure);
    this.outgoing.push(bytes);
    this.flush();
    if (this.outgoing.length === 0 || this.failure) return Promise.resolve();
    return new Promise((resolve) => this.drained.push(resolve));
  }

  sendFrame(type: number, payload?: Uint8Array): Promise<void> {
    return this.send(encodeFrame(type, payload));
  }

  close(): void {
    this.fail(new GuestError("lost", "the connection to the guest was closed"));
  }

  private failed(): Promise<never> {
    return new Promise((_resolve, reject) => {
      if (this.failure) reject(this.failure);
      else this.waiting = { resolve: () => {}, reject };
    });
  }

  private receive(data: Uint8Array): void {
    this.answered = true;
    this.heard = performance.now();
    this.options.onHeard?.();
    let frames: Frame[];
    try {
      frames = this.parser.push(data);
    } catch {
      return this.fail(protocolError());
    }
    this.watchStall();
    for (const frame of frames) {
      if (frame.type === FRAME.heartbeat) {
        if (!this.mayBeat()) return this.fail(protocolError());
        continue;
      }
      if (!this.busy) return this.fail(protocolError());
      // Frames of nothing cost us more than the guest.
      if (frame.payload.length === 0 && CARRIERS.has(frame.type)) return this.fail(protocolError());
      if (frame.type === FRAME.result || frame.type === FRAME.error) this.busy = this.tunnel;
      const waiting = this.waiting;
      if (waiting) {
        this.waiting = null;
        waiting.resolve(frame);
        continue;
      }
      this.queue.push(frame);
      this.queued += frame.payload.length + 64;
    }
    if (this.queued > HIGH_WATER && !this.paused) {
      this.paused = true;
      this.socket.pause();
    }
  }

  /** The agent beats after 5 s of silence; a stopped machine may have some under way. */
  private mayBeat(): boolean {
    if (this.heard - this.beatsSince > BEATS_MS) {
      this.beatsSince = this.heard;
      this.beats = 0;
    }
    return ++this.beats <= MAX_BEATS;
  }

  private watchStall(): void {
    if (this.stall) clearTimeout(this.stall);
    this.stall = null;
    if (!this.parser.partial || this.paused) return;
    this.stall = setTimeout(
      () => this.fail(new GuestError("lost", "the guest stopped in the middle of a frame")),
      STALL_MS,
    );
  }

  private flush(): void {
    while (this.outgoing.length > 0 && this.socket) {
      const chunk = this.outgoing[0]!;
      const written = this.socket.write(chunk);
      if (written < 0) return this.fail(new GuestError("lost", "the connection to the guest was closed"));
      if (written < chunk.length) {
        this.outgoing[0] = chunk.subarray(written);
        return;
      }
      this.outgoing.shift();
    }
    for (const resolve of this.drained.splice(0)) resolve();
  }

  private fail(error: GuestError): void {
    if (this.failure) return;
    this.failure = error;
    if (this.stall) clearTimeout(this.stall);
    if (this.silence) clearTimeout(this.silence);
    this.socket?.terminate();
    this.ended();
    for (const end of this.enders) end();
    const waiting = this.waiting;
    this.waiting = null;
    waiting?.reject(error);
    for (const resolve of this.drained.splice(0)) resolve();
  }
}

export const protocolError = (): GuestError => new GuestError("lost", "the guest broke the protocol");

/** The object in a JSON frame; a guest that sends something else broke the protocol. */
export function jsonOf(frame: Frame): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(new TextDecoder().decode(frame.payload));
    if (typeof value === "object" && value !== null && !Array.isArray(value))
      return value as Record<string, unknown>;
  } catch {}
  throw protocolError();
}

/** What an ERROR frame says, bounded. */
export function errorOf(frame: Frame): GuestError {
  if (frame.payload.length > MAX_RESULT) throw protocolError();
  const { code, message, step } = jsonOf(frame);
  return new GuestError(String(code).slice(0, 64), String(message).slice(0, 1000), {
    step: typeof step === "string" ? step.slice(0, 32) : undefined,
  });
}
