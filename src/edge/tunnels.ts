/** Bytes between the edge and guests: a unix socket of ours, a line that says which request it is for, then raw bytes. */
import { GuestError, type Tunnel } from "../guest/guest.ts";
import type { Opened, Opening } from "./protocol.ts";

/** Bytes that wait for a guest before the edge is no longer read. */
const HIGH_WATER = 512 << 10;
const MAX_LINE = 256;

type Socket = Bun.Socket<Relay>;

/** Listens at `path`. `open` connects to the port that a request may talk to; null when there is no such request. */
export function serveTunnels(path: string, open: (id: number) => Promise<Tunnel> | null): () => void {
  const server = Bun.listen<Relay>({
    unix: path,
    allowHalfOpen: true,
    socket: {
      binaryType: "buffer",
      open(socket) {
        socket.data = new Relay(socket, open);
      },
      data: (socket, bytes) => socket.data.receive(bytes),
      drain: (socket) => socket.data.drained(),
      end: (socket) => socket.data.halfClosed(),
      close: (socket) => socket.data?.close(),
      error: (socket) => socket.data?.close(),
    },
  });
  return () => server.stop(true);
}

class Relay {
  private line: Buffer = Buffer.alloc(0);
  private tunnel: Tunnel | null = null;
  private writer: WritableStreamDefaultWriter<Uint8Array> | null = null;
  private asked = false;
  private closed = false;
  private ended = false;
  /** Of the edge, not yet taken by the guest. */
  private waiting = 0;
  private early: Uint8Array[] = [];
  private room: (() => void) | null = null;

  constructor(
    private readonly socket: Socket,
    private readonly open: (id: number) => Promise<Tunnel> | null,
  ) {}

  receive(bytes: Uint8Array): void {
    if (this.asked) return this.pass(bytes);
    this.line = Buffer.concat([this.line, bytes]);
    const at = this.line.indexOf(10);
    if (at < 0) {
      if (this.line.length > MAX_LINE) this.close();
      return;
    }
    this.asked = true;
    const { grant } = JSON.parse(this.line.toString("utf8", 0, at)) as Opening;
    const rest = this.line.subarray(at + 1);
    if (rest.length > 0) this.early.push(new Uint8Array(rest));
    void this.connect(grant);
  }

  private async connect(grant: number): Promise<void> {
    try {
      const opening = this.open(grant);
      if (!opening) throw new GuestError("gone", "the request is over");
      const tunnel = await opening;
      if (this.closed) return tunnel.close();
      this.tunnel = tunnel;
      this.writer = tunnel.writable.getWriter();
      await this.send(line({ ok: true }));
      for (const bytes of this.early.splice(0)) this.pass(bytes);
      if (this.ended) this.finish();
      const reader = tunnel.readable.getReader();
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        await this.send(value);
      }
      // The guest has said all; what it still reads may come.
      if (!this.closed) this.socket.shutdown();
    } catch (error) {
      if (this.tunnel) return this.close();
      const { code, message } =
        error instanceof GuestError ? error : { code: "failed", message: "it failed" };
      await this.send(line({ ok: false, code, message }));
      this.socket.end();
    }
  }

  private pass(bytes: Uint8Array): void {
    if (!this.writer) {
      this.early.push(new Uint8Array(bytes));
      return;
    }
    this.waiting += bytes.length;
    if (this.waiting > HIGH_WATER) this.socket.pause();
    this.writer.write(bytes).then(
      () => {
        const before = this.waiting;
        this.waiting -= bytes.length;
        if (before > HIGH_WATER && this.waiting <= HIGH_WATER && !this.closed) this.socket.resume();
      },
      () => this.close(),
    );
  }

  /** Resolves when the kernel took the bytes. */
  private async send(bytes: Uint8Array): Promise<void> {
    for (let left = bytes; left.length > 0 && !this.closed; ) {
      const written = this.socket.write(left);
      if (written < 0) return this.close();
      left = left.subarray(written);
      if (left.length > 0)
        await new Promise<void>((resolve) => {
          this.room = resolve;
        });
    }
  }

  drained(): void {
    this.room?.();
    this.room = null;
  }

  halfClosed(): void {
    this.ended = true;
    if (!this.asked) this.close();
    else if (this.writer) this.finish();
  }

  private finish(): void {
    this.writer?.close().catch(() => {});
  }

  /** Idempotent. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.drained();
    this.tunnel?.close();
    this.socket.terminate();
  }
}

const line = (opened: Opened): Uint8Array => Buffer.from(`${JSON.stringify(opened)}\n`);
