import { afterAll, expect, test } from "bun:test";
import { randomBytes, randomInt } from "node:crypto";
import { Cache } from "./cache.ts";
import { framed } from "./exchange.ts";
import { Forwarder } from "./forwarder.ts";
import { Resolver } from "./resolver.ts";
import { listen } from "./responder.ts";
import { parseResolvConf, parseUpstream, type Upstream } from "./upstreams.ts";
import {
  answers,
  encodeName,
  parseQuery,
  RCODE,
  rcodeOf,
  reply,
  TYPE,
  ttlOffsets,
  u16,
  u32,
} from "./wire.ts";
import { Zone } from "./zone.ts";

const closers: (() => void)[] = [];
afterAll(() => {
  for (const close of closers) close();
});

/** A query with RD set. */
function query(name: string, type: number = TYPE.A, id = randomInt(65536)): Uint8Array {
  const head = Buffer.alloc(12);
  head.writeUInt16BE(id, 0);
  head.writeUInt16BE(0x0100, 2);
  head.writeUInt16BE(1, 4);
  return Uint8Array.from([...head, ...encodeName(name), 0, type, 0, 1]);
}

const address = (response: Uint8Array | null): string =>
  response ? [...response.subarray(-4)].join(".") : "none";

/** An upstream on a port of its own, over UDP. */
async function upstream(
  answer: (q: Uint8Array, n: number) => Uint8Array | null,
): Promise<Upstream & { asked(): number }> {
  let asked = 0;
  const socket = await Bun.udpSocket({
    hostname: "127.0.0.1",
    socket: {
      data(s, data, port, from) {
        const response = answer(Uint8Array.from(data), ++asked);
        if (response) s.send(response, port, from);
      },
    },
  });
  closers.push(() => socket.close());
  return { host: "127.0.0.1", port: socket.port, asked: () => asked };
}

const ok = (q: Uint8Array, ttlS = 60, data = Uint8Array.of(192, 0, 2, 9)): Uint8Array =>
  reply(q, parseQuery(q)!, RCODE.NOERROR, { type: TYPE.A, ttlS, data });

function resolver(...upstreams: Upstream[]): { resolver: Resolver; zone: Zone } {
  const zone = new Zone("10.0.7");
  return { zone, resolver: new Resolver(() => zone, new Forwarder(() => upstreams)) };
}

async function serve(r: Resolver): Promise<{ port: number }> {
  for (;;) {
    const port = 20_000 + randomInt(10_000);
    try {
      const responder = await listen("127.0.0.1", port, r);
      closers.push(() => responder.stop());
      return { port };
    } catch {
      // Taken by somebody; another.
    }
  }
}

test("names of the zone: with and without suffix, any case, other types empty, reverse", async () => {
  const { zone, resolver: r } = resolver();
  zone.set("web", "10.0.7.2");
  for (const name of ["web", "WEB", "web.internal", "Web.sb"]) {
    expect(address(await r.resolve(query(name), false))).toBe("10.0.7.2");
  }
  const aaaa = await r.resolve(query("web", TYPE.AAAA), false);
  expect([rcodeOf(aaaa!), u16(aaaa!, 6)]).toEqual([RCODE.NOERROR, 0]);
  const reverse = await r.resolve(query("2.7.0.10.in-addr.arpa", TYPE.PTR), false);
  expect(Buffer.from(reverse!).toString("latin1")).toContain("\x03web\x08internal\x00");
  expect(rcodeOf((await r.resolve(query("9.7.0.10.in-addr.arpa", TYPE.PTR), false))!)).toBe(RCODE.NXDOMAIN);
  expect(rcodeOf((await r.resolve(query("nobody.internal"), false))!)).toBe(RCODE.NXDOMAIN);
});

test("a renamed or removed sandbox has no other name", async () => {
  const { zone, resolver: r } = resolver();
  zone.set("old", "10.0.7.2");
  zone.set("new", "10.0.7.2");
  expect(rcodeOf((await r.resolve(query("old.internal"), false))!)).toBe(RCODE.NXDOMAIN);
  expect(address(await r.resolve(query("new"), false))).toBe("10.0.7.2");
  zone.set("new", "10.0.7.3");
  zone.remove("10.0.7.2");
  expect(address(await r.resolve(query("new"), false))).toBe("10.0.7.3");
  zone.remove("10.0.7.3");
  expect(rcodeOf((await r.resolve(query("new.internal"), false))!)).toBe(RCODE.NXDOMAIN);
});

test("other names are asked of the upstreams, with another id, and cached", async () => {
  const ids = new Set<number>();
  const up = await upstream((q) => {
    ids.add(u16(q, 0));
    return ok(q);
  });
  const { resolver: r } = resolver(up);
  const first = await r.resolve(query("example.org", TYPE.A, 7), false);
  expect([u16(first!, 0), address(first)]).toEqual([7, "192.0.2.9"]);
  expect(u16((await r.resolve(query("example.org", TYPE.A, 8), false))!, 0)).toBe(8);
  expect(up.asked()).toBe(1);
  await Promise.all(Array.from({ length: 10 }, () => r.resolve(query("together.org"), false)));
  expect(up.asked()).toBe(2);
});

test("answers with a wrong id or question are not believed", async () => {
  const up = await upstream((q, n) => {
    const other = n === 1 ? ok(query("other.org", TYPE.A, u16(q, 0))) : ok(q);
    if (n === 2) other[0]! ^= 0xff;
    return other;
  });
  const good = await upstream((q) => ok(q, 60, Uint8Array.of(192, 0, 2, 1)));
  const { resolver: r } = resolver(up, good);
  expect(address(await r.resolve(query("example.org"), false))).toBe("192.0.2.1");
  expect(address(await r.resolve(query("example.net"), false))).toBe("192.0.2.1");
});

test("the next upstream is asked when the first refuses or is silent; none at all is SERVFAIL", async () => {
  const refusing = await upstream((q) => reply(q, parseQuery(q)!, RCODE.REFUSED));
  const silent = await upstream(() => null);
  const good = await upstream((q) => ok(q));
  expect(address(await resolver(refusing, good).resolver.resolve(query("a.org"), false))).toBe("192.0.2.9");
  expect(address(await resolver(silent, good).resolver.resolve(query("b.org"), false))).toBe("192.0.2.9");
  expect(rcodeOf((await resolver().resolver.resolve(query("c.org"), false))!)).toBe(RCODE.SERVFAIL);
});

test("no more than 64 questions of an owner wait", async () => {
  const silent = await upstream(() => null);
  const { resolver: r } = resolver(silent);
  const waiting = Array.from({ length: 64 }, (_, i) => r.resolve(query(`n${i}.org`), false));
  expect(rcodeOf((await r.resolve(query("one-more.org"), false))!)).toBe(RCODE.SERVFAIL);
  await Promise.all(waiting);
}, 30_000);

test("cached answers grow old", () => {
  let now = 0;
  const cache = new Cache(() => now);
  const response = ok(query("a.org"), 100);
  cache.put("k", response);
  now = 40;
  expect(u32(cache.get("k", 1)!, ttlOffsets(response)![0]!)).toBe(60);
  now = 100;
  expect(cache.get("k", 1)).toBeNull();
  cache.put("zero", ok(query("a.org"), 0));
  expect(cache.get("zero", 1)).toBeNull();
  for (let i = 0; i < 2000; i++) cache.put(`k${i}`, response);
  expect([cache.get("k0", 1) === null, cache.get("k1999", 1) === null]).toEqual([true, false]);
});

test("over TCP: pipelined, in pieces, and forwarded over TCP", async () => {
  const theirs = new Zone("10.9.9");
  theirs.set("up", "192.0.2.77");
  const up = await serve(new Resolver(() => theirs, new Forwarder(() => [])));
  const { zone, resolver: r } = resolver({ host: "127.0.0.1", port: up.port });
  zone.set("web", "10.0.7.2");
  const { port } = await serve(r);
  const { promise, resolve } = Promise.withResolvers<Buffer>();
  let got = Buffer.alloc(0);
  const socket = await Bun.connect({
    hostname: "127.0.0.1",
    port,
    socket: {
      data(_s, d) {
        got = Buffer.concat([got, d]);
        const first = got.length >= 2 ? got.readUInt16BE(0) : 65_535;
        if (got.length > first + 4 && got.length >= first + 4 + got.readUInt16BE(first + 2)) resolve(got);
      },
    },
  });
  const both = Buffer.concat([framed(query("web")), framed(query("up"))]);
  socket.write(both.subarray(0, 7));
  await Bun.sleep(20);
  socket.write(both.subarray(7));
  const text = (await promise).toString("hex");
  expect(text).toContain("0a000702");
  expect(text).toContain("c000024d");
  socket.end();
}, 20_000);

test("hostile bytes are survived, and good questions are still answered", async () => {
  const up = await upstream((q, n) => {
    const response = n % 2 ? Uint8Array.from(randomBytes(randomInt(80))) : ok(q);
    if (response.length > 12) response[randomInt(response.length)] = randomInt(256);
    return response;
  });
  const { zone, resolver: r } = resolver(up);
  zone.set("web", "10.0.7.2");
  for (let i = 0; i < 20_000; i++) {
    const message = i % 2 ? Uint8Array.from(randomBytes(randomInt(64))) : query("web");
    for (let flips = randomInt(4); flips > 0 && message.length > 0; flips--) {
      message[randomInt(message.length)] = randomInt(256);
    }
    parseQuery(message);
    ttlOffsets(message);
    answers(query("web"), 21, message);
    // Only those for our own zone: waiting for the upstream 20 000 times is not the point here.
    const parsed = parseQuery(message);
    if (parsed?.questions !== 1 || parsed.labels[0] === "web") await r.resolve(message, false);
  }
  const { port } = await serve(r);
  const client = await Bun.udpSocket({ hostname: "127.0.0.1", connect: { hostname: "127.0.0.1", port } });
  closers.push(() => client.close());
  for (let i = 0; i < 300; i++) client.send(randomBytes(randomInt(1, 600)));
  for (let i = 0; i < 20; i++) {
    const socket = await Bun.connect({ hostname: "127.0.0.1", port, socket: { data() {} } });
    socket.write(randomBytes(randomInt(1, 4000)));
    socket.end();
  }
  expect(address(await r.resolve(query("web"), false))).toBe("10.0.7.2");
}, 60_000);

test("AXFR and other classes are refused, other opcodes and counts too", async () => {
  const { resolver: r } = resolver();
  expect(rcodeOf((await r.resolve(query("web", TYPE.AXFR), true))!)).toBe(RCODE.REFUSED);
  const status = query("web");
  status[2] = 0x10;
  expect(rcodeOf((await r.resolve(status, false))!)).toBe(RCODE.NOTIMP);
  const two = query("web");
  two[5] = 2;
  expect(rcodeOf((await r.resolve(two, false))!)).toBe(RCODE.FORMERR);
  const response = query("web");
  response[2] = 0x80;
  expect(await r.resolve(response, false)).toBeNull();
});

test("upstreams", () => {
  expect(parseUpstream("1.1.1.1")).toEqual({ host: "1.1.1.1", port: 53 });
  expect(parseUpstream("1.1.1.1:5353")).toEqual({ host: "1.1.1.1", port: 5353 });
  expect(parseUpstream("2620:fe::fe")).toEqual({ host: "2620:fe::fe", port: 53 });
  expect(parseUpstream("[2620:fe::fe]:54")).toEqual({ host: "2620:fe::fe", port: 54 });
  expect(() => parseUpstream("dns.example")).toThrow("must be an IP address");
  expect(
    parseResolvConf("# x\nnameserver 127.0.0.53\nsearch a\n nameserver fe80::1%eth0\nnameserver bad\n"),
  ).toEqual([
    { host: "127.0.0.53", port: 53 },
    { host: "fe80::1%eth0", port: 53 },
  ]);
});
