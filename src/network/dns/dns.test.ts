import { afterAll, expect, test } from "bun:test";
import { randomBytes, randomInt } from "node:crypto";
import packet from "dns-packet";
import { Cache, CacheSpace } from "./cache.ts";
import { framed } from "./exchange.ts";
import { Forwarder } from "./forwarder.ts";
import { Resolver } from "./resolver.ts";
import { listen } from "./responder.ts";
import { parseResolvConf, parseUpstream, type Upstream } from "./upstreams.ts";
import { answers, parseQuery, RCODE, rcodeOf, reply, ttlOffsets } from "./wire.ts";
import { Zone } from "./zone.ts";

const closers: (() => void)[] = [];
afterAll(() => {
  for (const close of closers) close();
});

const SANDBOX = "10.0.7.99";

/** A query with RD set. */
const query = (name: string, type = "A", id = randomInt(65536)): Buffer =>
  packet.encode({
    type: "query",
    id,
    flags: packet.RECURSION_DESIRED,
    questions: [{ name, type: type as packet.RecordType }],
  });

/** Data of the last record. */
const address = (response: Buffer | null): string => {
  const records = response ? (packet.decode(response).answers ?? []) : [];
  return records.length > 0 ? String((records.at(-1) as packet.StringAnswer).data) : "none";
};

/** An upstream on a port of its own, over UDP. */
async function upstream(
  answer: (q: Buffer, n: number) => Buffer | null,
): Promise<Upstream & { asked(): number }> {
  let asked = 0;
  const socket = await Bun.udpSocket({
    hostname: "127.0.0.1",
    socket: {
      data(s, data, port, from) {
        const response = answer(Buffer.from(data), ++asked);
        if (response) s.send(response, port, from);
      },
    },
  });
  closers.push(() => socket.close());
  return { host: "127.0.0.1", port: socket.port, asked: () => asked };
}

const ok = (q: Buffer, ttlS = 60, data = "192.0.2.9"): Buffer =>
  reply(parseQuery(q)!, RCODE.NOERROR, { type: "A", ttlS, data });

function resolver(...upstreams: Upstream[]): { resolver: Resolver; zone: Zone } {
  const zone = new Zone("10.0.7");
  return { zone, resolver: new Resolver(zone, new Forwarder(() => upstreams)) };
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
    expect(address(await r.resolve(query(name), false, SANDBOX))).toBe("10.0.7.2");
  }
  const aaaa = await r.resolve(query("web", "AAAA"), false, SANDBOX);
  expect([rcodeOf(aaaa!), aaaa!.readUInt16BE(6)]).toEqual([RCODE.NOERROR, 0]);
  const reverse = await r.resolve(query("2.7.0.10.in-addr.arpa", "PTR"), false, SANDBOX);
  expect(address(reverse)).toBe("web.internal");
  expect(rcodeOf((await r.resolve(query("9.7.0.10.in-addr.arpa", "PTR"), false, SANDBOX))!)).toBe(
    RCODE.NXDOMAIN,
  );
  expect(rcodeOf((await r.resolve(query("nobody.internal"), false, SANDBOX))!)).toBe(RCODE.NXDOMAIN);
});

test("a renamed or removed sandbox has no other name", async () => {
  const { zone, resolver: r } = resolver();
  zone.set("old", "10.0.7.2");
  zone.set("new", "10.0.7.2");
  expect(rcodeOf((await r.resolve(query("old.internal"), false, SANDBOX))!)).toBe(RCODE.NXDOMAIN);
  expect(address(await r.resolve(query("new"), false, SANDBOX))).toBe("10.0.7.2");
  zone.set("new", "10.0.7.3");
  zone.remove("10.0.7.2");
  expect(address(await r.resolve(query("new"), false, SANDBOX))).toBe("10.0.7.3");
  zone.remove("10.0.7.3");
  expect(rcodeOf((await r.resolve(query("new.internal"), false, SANDBOX))!)).toBe(RCODE.NXDOMAIN);
});

test("other names are asked of the upstreams, with another id, and cached", async () => {
  const ids = new Set<number>();
  const up = await upstream((q) => {
    ids.add(q.readUInt16BE(0));
    return ok(q);
  });
  const { resolver: r } = resolver(up);
  const first = await r.resolve(query("example.org", "A", 7), false, SANDBOX);
  expect([first!.readUInt16BE(0), address(first)]).toEqual([7, "192.0.2.9"]);
  expect((await r.resolve(query("example.org", "A", 8), false, SANDBOX))!.readUInt16BE(0)).toBe(8);
  expect(up.asked()).toBe(1);
  await Promise.all(Array.from({ length: 10 }, () => r.resolve(query("together.org"), false, SANDBOX)));
  expect(up.asked()).toBe(2);
});

test("answers with a wrong id or question are not believed", async () => {
  const up = await upstream((q, n) => {
    const other = n === 1 ? ok(query("other.org", "A", q.readUInt16BE(0))) : ok(q);
    if (n === 2) other[0]! ^= 0xff;
    return other;
  });
  const good = await upstream((q) => ok(q, 60, "192.0.2.1"));
  const { resolver: r } = resolver(up, good);
  expect(address(await r.resolve(query("example.org"), false, SANDBOX))).toBe("192.0.2.1");
  expect(address(await r.resolve(query("example.net"), false, SANDBOX))).toBe("192.0.2.1");
});

test("the next upstream is asked when the first refuses or is silent; none at all is SERVFAIL", async () => {
  const refusing = await upstream((q) => reply(parseQuery(q)!, RCODE.REFUSED));
  const silent = await upstream(() => null);
  const good = await upstream((q) => ok(q));
  expect(address(await resolver(refusing, good).resolver.resolve(query("a.org"), false, SANDBOX))).toBe(
    "192.0.2.9",
  );
  expect(address(await resolver(silent, good).resolver.resolve(query("b.org"), false, SANDBOX))).toBe(
    "192.0.2.9",
  );
  expect(rcodeOf((await resolver().resolver.resolve(query("c.org"), false, SANDBOX))!)).toBe(RCODE.SERVFAIL);
});

test("no more than 64 questions of a sandbox and 256 of an owner wait", async () => {
  const silent = await upstream(() => null);
  const { resolver: r } = resolver(silent);
  const ask = (name: string, host: number) => r.resolve(query(name), false, `10.0.7.${host}`);
  const waiting = [99, 98, 97, 96].flatMap((host) =>
    Array.from({ length: 64 }, (_, i) => ask(`n${host}-${i}.org`, host)),
  );
  /** True when it is refused at once: those that wait are answered after 5 s. */
  const refused = async (name: string, host: number) => {
    const answer = await Promise.race([ask(name, host), Bun.sleep(500).then(() => null)]);
    return answer !== null && rcodeOf(answer) === RCODE.SERVFAIL;
  };
  expect(silent.asked()).toBeLessThanOrEqual(256);
  expect(await refused("one-more.org", 99)).toBe(true);
  expect(await refused("one-more.org", 95)).toBe(true);
  await Promise.all(waiting);
  // The twin: nobody waits, so the same question does; and a sandbox that waits for 64 does not keep its sibling from it.
  const again = Array.from({ length: 64 }, (_, i) => ask(`m${i}.org`, 99));
  expect(await refused("one-more.org", 99)).toBe(true);
  expect(await refused("one-more.org", 95)).toBe(false);
  await Promise.all(again);
}, 30_000);

test("all caches together have a size; who finds no room makes it among his own", () => {
  const response = ok(query("a.org"), 100);
  const space = new CacheSpace(10 * (256 + 2 + response.length + 8));
  const [one, two, three] = [new Cache(space), new Cache(space), new Cache(space)];
  for (let i = 0; i < 6; i++) one.put(`k${i}`, response);
  for (let i = 0; i < 9; i++) two.put(`k${i}`, response);
  expect(space.used).toBeLessThanOrEqual(space.bytes);
  const kept = (cache: Cache) =>
    Array.from({ length: 9 }, (_, i) => cache.get(`k${i}`, 1)).filter(Boolean).length;
  expect([kept(one), kept(two)]).toEqual([6, 4]);
  three.put("k0", response);
  expect(three.get("k0", 1)).toBeNull();
  two.clear();
  three.put("k0", response);
  expect(three.get("k0", 1)).not.toBeNull();
  one.clear();
  three.clear();
  expect(space.used).toBe(0);
});

test("cached answers grow old", () => {
  let now = 0;
  const cache = new Cache(new CacheSpace(), () => now);
  const response = ok(query("a.org"), 100);
  cache.put("k", response);
  now = 40;
  expect(cache.get("k", 1)!.readUInt32BE(ttlOffsets(response)![0]!)).toBe(60);
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
  const up = await serve(new Resolver(theirs, new Forwarder(() => [])));
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
    const response = n % 2 ? randomBytes(randomInt(80)) : ok(q);
    if (response.length > 12) response[randomInt(response.length)] = randomInt(256);
    return response;
  });
  const { zone, resolver: r } = resolver(up);
  zone.set("web", "10.0.7.2");
  for (let i = 0; i < 20_000; i++) {
    const message = i % 2 ? randomBytes(randomInt(64)) : query("web");
    for (let flips = randomInt(4); flips > 0 && message.length > 0; flips--) {
      message[randomInt(message.length)] = randomInt(256);
    }
    parseQuery(message);
    ttlOffsets(message);
    answers(query("web"), message);
    // Only those for our own zone: waiting for the upstream 20 000 times is not the point here.
    const parsed = parseQuery(message);
    if (parsed?.questions !== 1 || parsed.name === "web") await r.resolve(message, false, SANDBOX);
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
  expect(address(await r.resolve(query("web"), false, SANDBOX))).toBe("10.0.7.2");
}, 60_000);

test("AXFR and other classes are refused, other opcodes and counts too", async () => {
  const { resolver: r } = resolver();
  expect(rcodeOf((await r.resolve(query("web", "AXFR"), true, SANDBOX))!)).toBe(RCODE.REFUSED);
  const status = query("web");
  status[2] = 0x10;
  expect(rcodeOf((await r.resolve(status, false, SANDBOX))!)).toBe(RCODE.NOTIMP);
  const two = query("web");
  two[5] = 2;
  expect(rcodeOf((await r.resolve(two, false, SANDBOX))!)).toBe(RCODE.FORMERR);
  const response = query("web");
  response[2] = 0x80;
  expect(await r.resolve(response, false, SANDBOX)).toBeNull();
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
