/** Frames of the guest protocol: docs/guest-protocol.md. */

/** Bounds type + payload, bytes. */
export const MAX_FRAME = 1024 * 1024 + 1;

export const FRAME = {
  hello: 0x01,
  welcome: 0x02,
  request: 0x03,
  result: 0x04,
  error: 0x05,
  heartbeat: 0x06,
  proof: 0x07,
  stdin: 0x10,
  stdinEof: 0x11,
  stdout: 0x12,
  stderr: 0x13,
  signal: 0x14,
  started: 0x15,
  data: 0x20,
  end: 0x21,
} as const;

export interface Frame {
  type: number;
  payload: Uint8Array;
}

export function encodeFrame(type: number, payload: Uint8Array = new Uint8Array(0)): Uint8Array {
  if (payload.length >= MAX_FRAME) throw new RangeError("frame too large");
  const frame = new Uint8Array(5 + payload.length);
  new DataView(frame.buffer).setUint32(0, payload.length + 1);
  frame[4] = type;
  frame.set(payload, 5);
  return frame;
}

export const encodeJson = (type: number, value: unknown): Uint8Array =>
  encodeFrame(type, new TextEncoder().encode(JSON.stringify(value)));

/** Cuts a byte stream into frames. Holds at most one frame's worth of bytes beyond what it was given. */
export class FrameParser {
  private chunks: Uint8Array[] = [];
  private length = 0;

  /** Complete frames so far. Throws RangeError on a length outside 1…MAX_FRAME, before anything is allocated for it. */
  push(chunk: Uint8Array): Frame[] {
    this.chunks.push(chunk);
    this.length += chunk.length;
    const frames: Frame[] = [];
    while (this.length >= 5) {
      const head = this.peek(4);
      const size = new DataView(head.buffer, head.byteOffset, 4).getUint32(0);
      if (size < 1 || size > MAX_FRAME) throw new RangeError(`frame length ${size} is out of bounds`);
      if (this.length < 4 + size) break;
      const bytes = this.take(4 + size);
      frames.push({ type: bytes[4]!, payload: bytes.subarray(5) });
    }
    return frames;
  }

  /** True in the middle of a frame. */
  get partial(): boolean {
    return this.length > 0;
  }

  private peek(n: number): Uint8Array {
    if (this.chunks[0]!.length < n) this.chunks = [Buffer.concat(this.chunks)];
    return this.chunks[0]!.subarray(0, n);
  }

  private take(n: number): Uint8Array {
    if (this.chunks[0]!.length < n) this.chunks = [Buffer.concat(this.chunks)];
    const first = this.chunks[0]!;
    const bytes = first.slice(0, n);
    if (first.length === n) this.chunks.shift();
    else this.chunks[0] = first.subarray(n);
    this.length -= n;
    return bytes;
  }
}
