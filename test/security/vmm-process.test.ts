/** An attacker who runs code in the VMM's process: what he tells the daemon, what he leaves behind, what he prints. No guest. */
import { beforeAll, describe, expect, test } from "bun:test";
import { existsSync, readFileSync, statSync, symlinkSync, unlinkSync } from "node:fs";
import { loharPath } from "../../src/daemon/programs.ts";
import { consoleFile, vmmLogFile } from "../../src/engine/engine.ts";
import { QemuEngine } from "../../src/engine/qemu/qemu.ts";
import { ringTail } from "../../src/engine/ring.ts";
import { fakeVmm, greets, qmpServer } from "./fake-vmm.ts";

let lohar: string;
let engine: QemuEngine;
beforeAll(async () => {
  lohar = await loharPath("/tmp/bhatti-fake-vmm-bin");
  engine = QemuEngine.create({ lohar, accel: "tcg" });
});

const sizeOf = (path: string) => (existsSync(path) ? statSync(path).size : 0);

describe("what a VMM answers", () => {
  const adopt =
    (script: string, deadlineMs = 2000) =>
    async () => {
      await using vmm = await fakeVmm(lohar, script);
      const began = Date.now();
      const vm = await engine.adopt(vmm.spec, vmm.process, deadlineMs);
      try {
        return await vm!.state();
      } finally {
        vm!.leave();
        expect(Date.now() - began).toBeLessThan(20_000);
      }
    };

  test("a VMM that speaks QMP is adopted: the twin of all that follows", async () => {
    const good = `${greets} while (my $l = <$c>) { my ($id) = $l =~ /"id":(\\d+)/; print $c qq({"return":{"running":true},"id":$id}\\n); }`;
    expect(await adopt(qmpServer(good))()).toBe("running");
  });

  const answers: Record<string, string> = {
    "something that is not JSON": `print $c "hello\\n"; sleep 60;`,
    "JSON that is no object": `print $c "null\\n"; sleep 60;`,
    "a line without end": `print $c "x" x 65536 while 1;`,
    "events without end": `${greets} my $e = qq({"event":"E","data":") . ("x" x 60000) . qq("}\\n); print $c $e while 1;`,
    "a status that is none": `${greets} while (my $l = <$c>) { my ($id) = $l =~ /"id":(\\d+)/; print $c qq({"return":null,"id":$id}\\n); }`,
    "a status of the wrong kind": `${greets} while (my $l = <$c>) { my ($id) = $l =~ /"id":(\\d+)/; print $c qq({"return":{"running":"maybe"},"id":$id}\\n); }`,
  };
  for (const [name, talk] of Object.entries(answers)) {
    test(`${name} is nonsense, said within seconds`, async () => {
      await expect(adopt(qmpServer(talk))()).rejects.toMatchObject({ why: "nonsense" });
    });
  }

  test("silence is silence, and the VMM runs on", async () => {
    await using vmm = await fakeVmm(lohar, qmpServer("sleep 60;"));
    await expect(engine.adopt(vmm.spec, vmm.process, 300)).rejects.toMatchObject({ why: "silent" });
    expect(existsSync(`/proc/${vmm.process.pid}`)).toBe(true);
  });

  test("a control socket that leads to another VMM is not used", async () => {
    const good = qmpServer(`${greets} sleep 60;`);
    await using victim = await fakeVmm(lohar, good);
    await using vmm = await fakeVmm(lohar, good);
    unlinkSync(`${vmm.dir}/qmp.sock`);
    symlinkSync(`${victim.dir}/qmp.sock`, `${vmm.dir}/qmp.sock`);
    await expect(engine.adopt(vmm.spec, vmm.process, 2000)).rejects.toMatchObject({ why: "nonsense" });
  });

  test("a VMM that closes its control channel for good does not live on", async () => {
    await using vmm = await fakeVmm(lohar, qmpServer(`${greets} close $c; sleep 60;`));
    const vm = await engine.adopt(vmm.spec, vmm.process, 2000);
    await vm!.exited;
    expect(await vmm.ended).toBeNull();
  });
});

describe("what a VMM leaves", () => {
  test("the log of one that prints without end is bounded, and ends with its last words", async () => {
    const flood = `$SIG{TERM} = sub { print STDERR "last words\\n"; exit 0 }; my $x = ("y" x 99 . "\\n") x 600; while (1) { syswrite STDERR, $x; syswrite STDOUT, $x; }`;
    const vmm = await fakeVmm(lohar, flood);
    await using _ = vmm;
    await Bun.sleep(3000);
    for (const path of [vmmLogFile(vmm.dir), consoleFile(vmm.dir)]) {
      expect(sizeOf(path) + sizeOf(`${path}.1`)).toBeGreaterThan(100_000);
      expect(sizeOf(path)).toBeLessThanOrEqual(128 << 10);
      expect(sizeOf(`${path}.1`)).toBeLessThanOrEqual(128 << 10);
      expect(ringTail(path).length).toBe(64 << 10);
    }
    process.kill(vmm.process.pid, "SIGTERM");
    expect(await vmm.ended).toBe(0);
    expect(ringTail(vmmLogFile(vmm.dir), 200).toString()).toContain("the VMM ended with status 0");
  }, 30_000);

  test("what it prints and how it ended is known without any daemon", async () => {
    await using vmm = await fakeVmm(lohar, `print STDERR "why\\n"; print "guest\\n"; exit 7`);
    expect(await vmm.ended).toBe(7);
    expect(readFileSync(vmmLogFile(vmm.dir), "utf8")).toBe("why\nlohar: the VMM ended with status 7\n");
    expect(readFileSync(consoleFile(vmm.dir), "utf8")).toBe("guest\n");
  });

  test("no process outlives it, and none survives its keeper", async () => {
    const vmm = await fakeVmm(lohar, "sleep 60");
    await using _ = vmm;
    const { uid } = vmm.spec;
    // What a VMM without its filter might have forked.
    const left = Bun.spawn([
      ...["nsenter", "-t", `${vmm.process.pid}`, "-p", "-m", "-S", `${uid}`, "-G", `${uid}`],
      ...["/usr/bin/setsid", "/usr/bin/perl", "-e", "sleep 60"],
    ]);
    await Bun.sleep(300);
    expect(engine.liveUids(uid, uid).size).toBe(1);
    process.kill(vmm.process.pid, "SIGKILL");
    await vmm.ended;
    await left.exited;
    expect(engine.liveUids(uid, uid).size).toBe(0);

    const second = await fakeVmm(lohar, "sleep 60");
    await second[Symbol.asyncDispose]();
    for (let i = 0; i < 100 && engine.liveUids(uid, uid).size > 0; i++) await Bun.sleep(10);
    expect(engine.liveUids(uid, uid).size).toBe(0);
  });

  test("it can make no process, no name, no large file; it can write its memory", async () => {
    const script = `
      sub try { my ($what, $done) = @_; print "$what ", ($done ? "yes" : "no"), "\\n" }
      try("fork", defined fork);
      for my $d ("/", "/out", "/dev", "/usr") { try("symlink $d", symlink("/etc/passwd", "$d/x")); try("mkdir $d", mkdir "$d/y"); try("file $d", open(my $f, ">", "$d/z")) }
      open(my $m, "+<", "/mem"); try("memory", syswrite($m, "x"));
      try("large", truncate($m, 1 << 40)); try("within", truncate($m, 1 << 20));
      exec "/usr/bin/id";`;
    await using vmm = await fakeVmm(lohar, script, { fsize: 2 << 20 });
    await vmm.ended;
    const said = readFileSync(consoleFile(vmm.dir), "utf8");
    const refused = [
      "fork",
      "large",
      ...["/", "/out", "/dev", "/usr"].flatMap((d) => [`symlink ${d}`, `mkdir ${d}`, `file ${d}`]),
    ];
    for (const what of refused) expect(said).toContain(`${what} no\n`);
    for (const what of ["memory", "within"]) expect(said).toContain(`${what} yes\n`);
  });
});
