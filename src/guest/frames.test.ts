import { describe, expect, test } from "bun:test";
import { encodeFrame, FrameParser, MAX_FRAME } from "./frames.ts";

describe("FrameParser", () => {
  test("cuts any chopping of a stream into the same frames", () => {
    const frames = [
      encodeFrame(1, new Uint8Array([1, 2, 3])),
      encodeFrame(0x12, new Uint8Array(70_000).fill(7)),
      encodeFrame(0x21),
    ];
    const stream = Buffer.concat(frames);
    for (let round = 0; round < 200; round++) {
      const parser = new FrameParser();
      const seen: string[] = [];
      for (let at = 0; at < stream.length; ) {
        const n = 1 + Math.floor(Math.random() * (round % 3 === 0 ? 7 : 40_000));
        for (const frame of parser.push(stream.subarray(at, at + n)))
          seen.push(`${frame.type}:${frame.payload.length}`);
        at += n;
      }
      expect(seen).toEqual(["1:3", "18:70000", "33:0"]);
      expect(parser.partial).toBe(false);
    }
  });

  test.each([0, MAX_FRAME + 1, 0xffffffff])("length %d is refused before anything is kept", (length) => {
    const head = Buffer.alloc(5);
    head.writeUInt32BE(length);
    expect(() => new FrameParser().push(head)).toThrow(RangeError);
  });

  test("a hundred thousand empty frames in one piece cost little", () => {
    const one = encodeFrame(0x06);
    const piece = Buffer.alloc(one.length * 100_000);
    for (let at = 0; at < piece.length; at += one.length) piece.set(one, at);
    const began = performance.now();
    expect(new FrameParser().push(piece)).toHaveLength(100_000);
    expect(performance.now() - began).toBeLessThan(150);
  });

  test("a small payload does not hold on to the piece that it came in", () => {
    const [frame] = new FrameParser().push(
      Buffer.concat(
        [encodeFrame(1, new Uint8Array(10)), Buffer.alloc(1 << 20, 1)].map((b, i) =>
          i === 1 ? encodeFrame(0x20, b.subarray(0, 200_000)) : b,
        ),
      ),
    );
    expect(frame!.payload.buffer.byteLength).toBe(10);
  });

  test("random bytes never do more than throw", () => {
    for (let round = 0; round < 500; round++) {
      const parser = new FrameParser();
      try {
        for (let i = 0; i < 20; i++) parser.push(crypto.getRandomValues(new Uint8Array(1 + (round % 97))));
      } catch (error) {
        expect(error).toBeInstanceOf(RangeError);
      }
    }
  });

  test("a payload that does not fit is not encoded", () => {
    expect(() => encodeFrame(1, new Uint8Array(MAX_FRAME))).toThrow(RangeError);
  });
});
