/** What every engine must do, as a suite of tests on real VMs. An engine's own test file calls it with a bench to stand on. */
import { afterEach, describe, expect, test } from "bun:test";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import type { Guest } from "../guest/guest.ts";
import { consoleFile, type Engine, EngineError, type Vm, type VmmProcess, type VmSpec } from "./engine.ts";
import { ringTail } from "./ring.ts";

/** What a contract test needs around an engine. */
export interface Bench {
  /** A new engine object over the same installation, as a new daemon would make it. */
  engine(): Engine;
  /** A VM that does not exist yet: directory, disk, network. */
  spec(): Promise<VmSpec>;
  /** Copies memory and disk of a stopped machine into a new spec. */
  copy(from: VmSpec): Promise<VmSpec>;
  guest(spec: VmSpec): Guest;
  /** What of the jail differs: filters of system calls, and the line of its root in mountinfo. */
  jail: { filters: number; root: RegExp };
  /** Whether the VMM tells a power-off from a reset. */
  tellsPowerOff: boolean;
  /** Removes what specs took. */
  clean(): Promise<void>;
}

const BOOT_MS = 90_000;

export function engineContract(name: string, bench: () => Bench): void {
  describe(`engine ${name}`, () => {
    const live: Vm[] = [];
    const booted = async (spec: VmSpec): Promise<Vm> => {
      const vm = await bench().engine().boot(spec);
      live.push(vm);
      await bench().guest(spec).ready(BOOT_MS);
      return vm;
    };
    /** A machine that was saved: its spec and its state file. */
    const saved = async () => {
      const spec = await bench().spec();
      const vm = await booted(spec);
      await vm.pause();
      const state = `${spec.dir}/state`;
      await vm.saveState(state);
      await vm.kill();
      return { spec, state };
    };
    const answers = (spec: VmSpec) => bench().guest(spec).ready(30_000);

    afterEach(async () => {
      await Promise.all(live.splice(0).map((vm) => vm.kill()));
      await bench().clean();
    });

    test("boots to the agent; pause and resume are idempotent and ask the VMM", async () => {
      const spec = await bench().spec();
      const vm = await booted(spec);
      expect(await vm.state()).toBe("running");
      await vm.pause();
      await vm.pause();
      expect(await vm.state()).toBe("paused");
      await vm.resume();
      await vm.resume();
      await answers(spec);
      expect(vm.cpuMs()).toBeGreaterThan(0);
      expect((await vm.memory()).rssBytes).toBeGreaterThan(10_000_000);
    });

    test("the VMM is jailed: user, capabilities, seccomp, root, namespace", async () => {
      const spec = await bench().spec();
      const { pid } = (await booted(spec)).process;
      const status = readFileSync(`/proc/${pid}/status`, "utf8");
      expect(status).toMatch(new RegExp(`^Uid:\\s+${spec.uid}\\s+${spec.uid}\\s+${spec.uid}`, "m"));
      expect(status).toMatch(/^CapEff:\s+0+$/m);
      expect(status).toMatch(/^CapBnd:\s+0+$/m);
      expect(status).toMatch(/^NoNewPrivs:\s+1$/m);
      expect(status).toMatch(/^Seccomp:\s+2$/m);
      expect(status).toMatch(new RegExp(`^Seccomp_filters:\\s+${bench().jail.filters}$`, "m"));
      const limits = readFileSync(`/proc/${pid}/limits`, "latin1");
      const largest = Math.max(statSync(spec.drives[0]!.path).size, spec.shape.memoryMib * 2 ** 20);
      expect(limits).toMatch(new RegExp(`^Max file size\\s+${largest}\\s+${largest}`, "m"));
      expect(limits).toMatch(/^Max processes\s+193\s+193/m);
      // A root of its own, which shows nothing of the host's that it could write; processes of its own.
      expect(readFileSync(`/proc/${pid}/mountinfo`, "latin1")).toMatch(bench().jail.root);
      expect(status).toMatch(/^NSpid:\s+\d+\s+1$/m);
      expect(statSync(`/proc/${pid}/ns/net`).ino).toBe(statSync(`/run/netns/${spec.netns}`).ino);
      expect(statSync(spec.memoryPath).mode & 0o777).toBe(0o600);
    });

    test("a saved machine comes back, again and again, paused until it is told to run", async () => {
      let { spec, state } = await saved();
      for (let round = 0; round < 3; round++) {
        const vm = await bench().engine().restore(spec, state);
        live.push(vm);
        expect(await vm.state()).toBe("paused");
        await vm.resume();
        await answers(spec);
        await vm.pause();
        state = `${spec.dir}/state.${round}`;
        await vm.saveState(state);
        await vm.kill();
      }
    });

    test("copies of one saved machine run at the same time", async () => {
      const { spec, state } = await saved();
      const copies = await Promise.all(Array.from({ length: 6 }, () => bench().copy(spec)));
      const vms = await Promise.all(copies.map((copy) => bench().engine().restore(copy, state)));
      live.push(...vms);
      await Promise.all(vms.map((vm) => vm.resume()));
      await Promise.all(copies.map(answers));
      expect(new Set(vms.map((vm) => vm.process.pid)).size).toBe(6);
    });

    test("a damaged state is an EngineError; memory and state are untouched and no process is left", async () => {
      const { spec, state } = await saved();
      const good = readFileSync(state);
      const memory = statSync(spec.memoryPath).mtimeMs;
      for (const bad of [good.subarray(0, 5000), Buffer.alloc(50_000, 0x41), Buffer.alloc(0)]) {
        writeFileSync(state, bad);
        await expect(bench().engine().restore(spec, state)).rejects.toBeInstanceOf(EngineError);
        expect(readFileSync(state).equals(bad)).toBe(true);
      }
      expect(statSync(spec.memoryPath).mtimeMs).toBe(memory);
      writeFileSync(state, good);
      const vm = await bench().engine().restore(spec, state);
      live.push(vm);
      await vm.resume();
      await answers(spec);
    });

    test("the end of a VMM is told, whatever the cause; killing the dead succeeds", async () => {
      const spec = await bench().spec();
      const vm = await booted(spec);
      process.kill(vm.process.pid, "SIGKILL");
      expect(await vm.exited).toMatchObject({ code: null, cause: "crashed" });
      expect(await vm.state()).toBe("exited");
      await vm.kill();
    });

    test("a guest that ended says how, also to an engine that was away", async () => {
      for (const away of [false, true]) {
        const spec = await bench().spec();
        let vm: Vm = await booted(spec);
        const guest = bench().guest(spec);
        const names = { hostname: "g", machineId: "a".repeat(32), resolver: [], search: [] };
        await guest.configure({
          kind: "boot",
          generation: 1,
          token: "t".repeat(64),
          growRoot: false,
          ...names,
        });
        if (away) vm.leave();
        await guest.poweroff(1000);
        if (away) {
          // As a stopped VM, for as long as nobody comes.
          await Bun.sleep(8000);
          vm = (await bench().engine().adopt(spec, vm.process, 5000))!;
          expect(await vm.state()).toBe("exited");
        }
        const { cause, consoleTail } = await vm.exited;
        expect(cause).toBe(away || !bench().tellsPowerOff ? "reset" : "poweroff");
        expect(consoleTail).toContain("lohar: end=poweroff by=host");
      }
    });

    test("a new engine adopts the living and nothing else", async () => {
      const spec = await bench().spec();
      const vm = await booted(spec);
      const later = { ...vm.process, startTime: vm.process.startTime + 1 };
      const adopt = (process: VmmProcess) => bench().engine().adopt(spec, process, 5000);
      expect(await adopt(later)).toBeNull();
      expect(await adopt({ pid: process.pid, startTime: 1 })).toBeNull();
      // The channel has one client: while somebody holds it the VMM is silent, and runs on.
      await expect(bench().engine().adopt(spec, vm.process, 300)).rejects.toMatchObject({ why: "silent" });
      vm.leave();
      const adopted = await adopt(vm.process);
      expect(await adopted!.state()).toBe("running");
      await adopted!.pause();
      expect(await adopted!.state()).toBe("paused");
      await adopted!.kill();
      expect(await adopt(vm.process)).toBeNull();
    });

    test("killUids ends a VM that nobody remembers", async () => {
      const spec = await bench().spec();
      const vm = await booted(spec);
      expect(bench().engine().liveUids(spec.uid, spec.uid)).toEqual(new Set([spec.uid]));
      expect(
        await bench()
          .engine()
          .killUids([spec.uid, spec.uid + 1]),
      ).toEqual(new Set());
      await vm.exited;
      expect(bench().engine().liveUids(spec.uid, spec.uid)).toEqual(new Set());
      expect(await bench().engine().killUids([spec.uid])).toEqual(new Set());
    });

    test("the guest's console is kept, bounded, beyond the VMM's end", async () => {
      const spec = await bench().spec();
      const vm = await booted(spec);
      const { consoleTail } = await vm.kill().then(() => vm.exited);
      expect(consoleTail).toContain("lohar:");
      expect(ringTail(consoleFile(spec.dir)).toString()).toEndWith(consoleTail);
    });

    test("a disk grows in a machine that was loaded and has not run yet", async () => {
      const { spec, state } = await saved();
      spec.drives[0]!.maxBytes = 3 * 2 ** 30;
      const vm = await bench().engine().restore(spec, state);
      live.push(vm);
      await vm.resizeDrive(spec.drives[0]!.id, 3 * 2 ** 30);
      expect(statSync(spec.drives[0]!.path).size).toBe(3 * 2 ** 30);
      await vm.resume();
      await answers(spec);
    });

    test("a disk grows under a running guest, as far as it may", async () => {
      const spec = await bench().spec();
      spec.drives[0]!.maxBytes = 3 * 2 ** 30;
      const vm = await booted(spec);
      await expect(vm.resizeDrive(spec.drives[0]!.id, 4 * 2 ** 30)).rejects.toBeInstanceOf(EngineError);
      await vm.resizeDrive(spec.drives[0]!.id, 3 * 2 ** 30);
      expect(statSync(spec.drives[0]!.path).size).toBe(3 * 2 ** 30);
      await answers(spec);
    });
  });
}
