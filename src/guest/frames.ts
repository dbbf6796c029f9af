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

/** Payloads below it are copied out: a byte that waits for its reader must not hold on to the whole piece it came in. */
const SMALL = 4096;
const EMPTY = new Uint8Array(0);

/**
 * Cuts a byte stream into frames. Holds at most one frame's worth of bytes beyond what it was given. A hostile guest sends
 * frames of five bytes, a hundred thousand in one piece: nothing is made for a frame but what is needed.
 */
export class FrameParser {
  private chunks: Uint8Array[] = [];
  private length = 0;
  /** Bytes that complete the frame at the front, as far as is known. */
  private needed = 5;

  /** Complete frames so far. Throws RangeError on a length outside 1…MAX_FRAME, before anything is allocated for it. */
  push(chunk: Uint8Array): Frame[] {
    this.chunks.push(chunk);
    this.length += chunk.length;
    if (this.length < this.needed && this.needed > 5) return [];
    const data = this.chunks.length === 1 ? chunk : Buffer.concat(this.chunks);
    const frames: Frame[] = [];
    let at = 0;
    this.needed = 5;
    while (data.length - at >= 4) {
      const size = ((data[at]! << 24) | (data[at + 1]! << 16) | (data[at + 2]! << 8) | data[at + 3]!) >>> 0;
      if (size < 1 || size > MAX_FRAME) throw new RangeError(`frame length ${size} is out of bounds`);
      this.needed = 4 + size;
      if (data.length - at < this.needed) break;
      frames.push({ type: data[at + 4]!, payload: payloadOf(data, at + 5, at + this.needed) });
      at += this.needed;
      this.needed = 5;
    }
    this.length = data.length - at;
    this.chunks = this.length > 0 ? [data.subarray(at)] : [];
    return frames;
  }

  /** True in the middle of a frame. */
  get partial(): boolean {
    return this.length > 0;
  }
}

function payloadOf(data: Uint8Array, from: number, to: number): Uint8Array {
  if (from === to) return EMPTY;
  const view = data.subarray(from, to);
  return view.length < SMALL ? new Uint8Array(view) : view;
}
