/** Firecracker's API, spoken by a server that does what a VMM does, or what one does that was taken over. */
import { afterEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { Api } from "./api.ts";

const dir = mkdtempSync("/tmp/bhatti-api-");
const me = { pid: process.pid, uid: process.getuid!() };
const alive = () => true;
let stop = () => {};
afterEach(() => stop());
process.on("exit", () => rmSync(dir, { recursive: true, force: true }));

const OK = 'HTTP/1.1 200 \r\nServer: Firecracker API\r\nContent-Length: 19\r\n\r\n{"state":"Running"}';
let number = 0;

/** Answers each request with what `answer` makes of it. */
function vmm(answer: (request: string, write: (text: string) => void) => void): string {
  const path = `${dir}/${number++}`;
  const server = Bun.listen({
    unix: path,
    socket: { data: (socket, data) => answer(data.toString(), (text) => void socket.write(text)) },
  });
  stop = () => server.stop(true);
  return path;
}

test("requests and answers; a refusal carries Firecracker's words; the channel stays", async () => {
  const seen: string[] = [];
  const path = vmm((request, write) => {
    seen.push(request.split("\r\n")[0]!);
    if (request.startsWith("GET")) write(OK);
    else if (request.includes('"bad"'))
      write('HTTP/1.1 400 \r\nContent-Length: 24\r\n\r\n{"fault_message":"a no"}');
    else write("HTTP/1.1 204 \r\nServer: x\r\n\r\n");
  });
  const api = await Api.connect(path, me, 1000, alive);
  await api.put("/actions", { action_type: "InstanceStart" });
  await expect(api.patch("/vm", { state: "bad" })).rejects.toThrow("refused PATCH /vm: a no");
  expect(await api.get("/")).toEqual({ state: "Running" });
  api.close();
  expect(await api.closed).toBe(false);
  expect(seen).toEqual(["GET / HTTP/1.1", "PUT /actions HTTP/1.1", "PATCH /vm HTTP/1.1", "GET / HTTP/1.1"]);
});

test("one request at a time, and each has its own time from when it is sent", async () => {
  let busy = 0;
  const path = vmm((_request, write) => {
    expect(++busy).toBe(1);
    setTimeout(() => {
      busy--;
      write(OK);
    }, 60);
  });
  const api = await Api.connect(path, me, 1000, alive);
  await Promise.all([api.get("/", 150), api.get("/", 150), api.get("/", 150), api.get("/", 150)]);
  api.close();
});

test("answers come in pieces", async () => {
  const path = vmm((_request, write) => {
    for (const [i, at] of [0, 20, 70].entries())
      setTimeout(() => write(OK.slice(at, [20, 70, 999][i])), i * 10);
  });
  const api = await Api.connect(path, me, 1000, alive);
  expect(await api.get("/")).toEqual({ state: "Running" });
  api.close();
});

test.each([
  ["an endless head", "x".repeat(20_000)],
  ["no HTTP", "hello\r\n\r\n"],
  ["a huge body", "HTTP/1.1 200 \r\nContent-Length: 99999999\r\n\r\n"],
  ["two answers for one question", OK + OK],
])("nonsense is told and ends the channel: %s", async (_name, text) => {
  const path = vmm((_request, write) => write(text));
  await expect(Api.connect(path, me, 1000, alive)).rejects.toMatchObject({ why: "nonsense" });
});

test("silence, somebody else's socket, and the end of a VMM are errors of their own", async () => {
  await expect(
    Api.connect(
      vmm(() => {}),
      me,
      100,
      alive,
    ),
  ).rejects.toMatchObject({ why: "silent" });
  const other = { ...me, pid: 1 };
  await expect(
    Api.connect(
      vmm((_r, write) => write(OK)),
      other,
      1000,
      alive,
    ),
  ).rejects.toMatchObject({
    why: "nonsense",
  });
  await expect(Api.connect(`${dir}/none`, me, 1000, () => false)).rejects.toMatchObject({ why: "gone" });
});
