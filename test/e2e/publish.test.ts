/** A port of a real sandbox with a URL: it wakes, it streams, it survives what the sandbox survives, and ends with it. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { connect } from "node:net";
import type { Api } from "./api.ts";
import { Installation } from "./harness.ts";

let installation: Installation;
let api: Api;

beforeAll(async () => {
  installation = await Installation.create({ config: { rate_factor: 0 } });
  api = installation.api;
  await api.create({ name: "web" });
  await api.exec("web", ["perl", "-MIO::Socket::INET", "-e", SERVER], { detach: true });
}, 300_000);
afterAll(async () => {
  await installation?.remove();
}, 120_000);

/** On loopback alone. Says how often it was asked, which its memory alone knows; echoes upgraded connections. */
const SERVER = `$SIG{CHLD}="IGNORE"; my $n=0; my $s=IO::Socket::INET->new(LocalAddr=>"127.0.0.1",LocalPort=>3000,Listen=>99,ReuseAddr=>1) or die;
while(my $c=$s->accept){ my $h=""; while(<$c>){ $h.=$_; last if /^\\r?$/ } $n++;
 if($h=~/^GET \\/events/){ next if fork; print $c "HTTP/1.1 200 OK\\r\\ncontent-type: text/event-stream\\r\\n\\r\\n"; $c->flush; for(1..3){ print $c "data: $_\\n\\n"; $c->flush; select undef,undef,undef,0.3 } close $c; exit }
 if($h=~/upgrade: echo/i){ next if fork; print $c "HTTP/1.1 101 Switching Protocols\\r\\nconnection: upgrade\\r\\nupgrade: echo\\r\\n\\r\\n"; $c->flush; while(sysread $c,my $b,1000){ syswrite $c,"echo $b" } exit }
 if($h=~/^GET \\/hang/){ next if fork; sleep 100; exit }
 my $b="request $n\\n"; print $c "HTTP/1.1 200 OK\\r\\ncontent-length: ".length($b)."\\r\\nconnection: close\\r\\n\\r\\n$b"; close $c }`;

const address = () => new URL(installation.url);
const visit = (alias: string, path = "/", init: RequestInit = {}) =>
  fetch(`${installation.url}${path}`, { ...init, headers: { host: `${alias}.localhost:${address().port}` } });
const until = async (done: () => Promise<boolean>) => {
  for (let i = 0; i < 100; i++) {
    if (await done()) return;
    await Bun.sleep(100);
  }
  throw new Error("it did not come");
};
const count = (text: string) => Number(/^request (\d+)\n$/.exec(text)![1]);

test("a URL with no configuration reaches a server on the guest's loopback; events arrive one by one; upgrades pass", async () => {
  const made = await api.call("POST", "/sandboxes/web/publish", { port: 3000, alias: "demo" });
  expect([made.status, made.body.url]).toEqual([201, `http://demo.localhost:${address().port}`]);
  await until(async () => (await visit("demo")).status === 200);
  const answer = await visit("demo");
  expect(answer.headers.get("content-length")).toBe(String((await answer.text()).length));

  const reader = (await visit("demo", "/events")).body!.getReader();
  const at: number[] = [];
  for (let text = ""; !text.includes("data: 3"); ) {
    const { value } = await reader.read();
    text += Buffer.from(value!).toString();
    at.push(performance.now());
  }
  expect(at.length).toBe(3);
  expect(at[2]! - at[0]!).toBeGreaterThan(300);

  const { hostname, port } = address();
  const socket = connect(Number(port), hostname);
  let said = "";
  socket.on("data", (data) => {
    said += data;
  });
  socket.write("GET / HTTP/1.1\r\nhost: demo.localhost\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
  await until(async () => said.includes("101"));
  expect((await api.get("web")).thermal).toBe("hot");
  socket.write("hi");
  await until(async () => said.includes("echo hi"));
  socket.destroy();
}, 60_000);

test("cold: 200 visitors are one wake and 200 answers of the same memory; the name stays when sandbox and daemon change", async () => {
  const before = count(await (await visit("demo")).text());
  await api.stop("web");
  expect((await api.get("web")).thermal).toBe("cold");
  const answers = await Promise.all(Array.from({ length: 200 }, () => visit("demo")));
  expect(answers.map(({ status }) => status)).toEqual(Array(200).fill(200));
  const counts = await Promise.all(answers.map(async (answer) => count(await answer.text())));
  expect(Math.max(...counts)).toBeGreaterThan(before);
  expect(new Set(counts).size).toBe(200);
  await api.ok("PATCH", "/sandboxes/web", { name: "renamed" });
  await installation.restart();
  api = installation.api;
  expect((await visit("demo")).status).toBe(200);
  expect((await api.ok("GET", "/sandboxes/renamed/publish"))[0]).toMatchObject({ alias: "demo", port: 3000 });
}, 180_000);

test("a rollback in mid-request cuts it, and the next one reaches the machine that is there now", async () => {
  await api.ok("POST", "/sandboxes/renamed/checkpoint", { name: "then" });
  const then = count(await (await visit("demo")).text());
  for (let i = 0; i < 5; i++) await (await visit("demo")).text();
  const hanging = visit("demo", "/hang");
  await Bun.sleep(300);
  await api.ok("POST", "/sandboxes/renamed/restore", { snapshot: "then" });
  expect((await hanging).status).toBe(503);
  expect(count(await (await visit("demo")).text())).toBe(then);
}, 120_000);

test("a destroy ends it in mid-answer, frees the name, and whoever has it next is not the former", async () => {
  const hanging = visit("demo", "/hang");
  await Bun.sleep(300);
  await api.destroy("renamed");
  expect((await hanging).status).toBe(404);
  expect((await visit("demo")).status).toBe(404);
  await api.create({ name: "next" });
  await api.ok("POST", "/sandboxes/next/publish", { port: 3000, alias: "demo" });
  const answer = await visit("demo");
  expect([answer.status, ((await answer.json()) as { code: string }).code]).toEqual([502, "nothing_listens"]);
  const log = installation.log();
  expect(log).toContain('"msg":"published request"');
  // What was cut is told as a refusal (503, 404); nothing was an error of the server's own.
  expect(log.split("\n").filter((line) => line.startsWith('{"level":50'))).toEqual([]);
}, 120_000);
