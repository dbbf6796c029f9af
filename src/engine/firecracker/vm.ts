/** A live Firecracker process. */
import { stat, truncate } from "node:fs/promises";
import {
  EngineError,
  type ExitCause,
  type Vm,
  type VmExit,
  type VmmProcess,
  type VmSpec,
  type VmState,
} from "../engine.ts";
import type { Cgroups } from "../host/cgroup.ts";
import { killedForMemory } from "../host/oom.ts";
import { HostProcess } from "../host/process.ts";
import { explain, lastWords } from "../host/words.ts";
import type { Api } from "./api.ts";
import { driveInJail, IN_JAIL } from "./machine.ts";
import { assertMemoryFile, keepState } from "./state.ts";

/** A save writes every page that changed, and waits for the disk, ms. */
const SAVE_MS = 300_000;

/** What the VMM's program is, and where it was told to save. */
export interface Installed {
  version: string;
  /** Where the VMM writes its device state: a file of its own in a folder of root. */
  saved: string;
}

export class FirecrackerVm implements Vm {
  readonly exited: Promise<VmExit>;
  /** A write that finds no space is an error in the guest: the daemon pauses who grows before it comes to that. */
  readonly outOfSpace = false;
  private left = false;
  /** We killed it: nobody asks why it ended. */
  private unwanted = false;
  private readonly host: HostProcess;

  constructor(
    readonly spec: VmSpec,
    readonly process: VmmProcess,
    /** The engine builds the machine through it. */
    readonly api: Api,
    private readonly installed: Installed,
    private readonly cgroups: Cgroups,
    /** When the VMM is gone, and when we let go of it. */
    private readonly cleanUp: () => Promise<void>,
    private readonly unlock: () => void,
    /** Exit code of its keeper, which is our child; absent for an adopted process. */
    childExit?: Promise<number | null>,
  ) {
    this.host = new HostProcess(process);
    this.exited = this.watch(childExit);
  }

  async state(): Promise<VmState> {
    if (!this.host.alive()) return "exited";
    try {
      const { state } = await this.api.get("/");
      if (state === "Running") return "running";
      if (state === "Paused") return "paused";
    } catch (error) {
      if (!this.host.alive()) return "exited";
      throw error;
    }
    throw new EngineError("the VMM does not say whether its machine runs", "", {}, "nonsense");
  }

  async pause(): Promise<void> {
    await this.api.patch("/vm", { state: "Paused" });
  }

  async resume(): Promise<void> {
    await this.api.patch("/vm", { state: "Resumed" });
  }

  /**
   * The pages that changed since the last save go into the memory file, in their places. Those are private copies of the VMM
   * since the guest wrote them: what it reads from the file is not changed under it.
   */
  async saveState(path: string): Promise<void> {
    const { saved, version } = this.installed;
    await assertMemoryFile(this.spec);
    await truncate(saved, 0);
    const save = { snapshot_type: "Diff", snapshot_path: IN_JAIL.saved, mem_file_path: IN_JAIL.memory };
    await this.api.put("/snapshot/create", save, SAVE_MS);
    await assertMemoryFile(this.spec);
    await keepState(this.spec, version, saved, path);
  }

  limitCpus(cpus: number): Promise<void> {
    return this.cgroups.limitCpus(this.spec.id, cpus);
  }

  async resizeDrive(id: string, bytes: number): Promise<void> {
    const index = this.spec.drives.findIndex((drive) => drive.id === id);
    const drive = this.spec.drives[index];
    if (!drive || drive.readOnly) throw new EngineError(`there is no drive ${id} that could grow`);
    const { size } = await stat(drive.path);
    if (bytes < size || bytes > Math.max(drive.maxBytes ?? 0, size))
      throw new EngineError(`drive ${id} has ${size} bytes and cannot have ${bytes}`);
    await truncate(drive.path, bytes);
    await this.api.patch(`/drives/${id}`, { drive_id: id, path_on_host: driveInJail(index) });
  }

  leave(): void {
    this.left = true;
    this.api.close();
    this.unlock();
  }

  async kill(): Promise<void> {
    this.unwanted = true;
    await this.host.end(this.exited);
  }

  cpuMs(): number {
    return this.host.cpuMs();
  }

  memory() {
    return this.host.memory();
  }

  /** Turns a failure into an EngineError that carries what VMM and guest said. */
  explain(cause: unknown): EngineError {
    return explain(this.spec.dir, cause);
  }

  private async watch(childExit: Promise<number | null> | undefined): Promise<VmExit> {
    const uncontrolled = this.host.endUnled(this.api.closed);
    let code: number | null = null;
    if (childExit) {
      code = await childExit;
      // Its keeper ends with it. A VMM that outlives its keeper has nobody to tell of its end.
      await this.host.endSurely();
    } else {
      await uncontrolled;
      await this.host.gone(() => this.left);
    }
    this.api.close();
    this.unlock();
    await this.cleanUp();
    return { cause: this.cause(code), code, ...lastWords(this.spec.dir) };
  }

  private cause(code: number | null): ExitCause {
    if (this.unwanted) return "crashed";
    if (code === 0 || (code === null && endedByItself(this.spec.dir))) return "reset";
    return killedForMemory(this.process.pid, this.process.startTime) ? "oom" : "crashed";
  }
}

/** Its keeper wrote down that the VMM ended well: Firecracker does when its guest resets the machine, for nothing else. */
export const endedByItself = (dir: string): boolean =>
  lastWords(dir).stderrTail.endsWith("lohar: the VMM ended with status 0\n");

/** A VM that ended while nobody was there. */
export function endedVm(spec: VmSpec, process: VmmProcess): Vm {
  const refuse = () => Promise.reject(new EngineError("the VM ended", "", {}, "gone"));
  return {
    spec,
    process,
    outOfSpace: false,
    exited: Promise.resolve({ cause: "reset", code: null, ...lastWords(spec.dir) }),
    state: () => Promise.resolve("exited"),
    pause: refuse,
    resume: refuse,
    saveState: refuse,
    limitCpus: refuse,
    resizeDrive: refuse,
    leave: () => {},
    kill: () => Promise.resolve(),
    cpuMs: () => 0,
    memory: () => Promise.resolve({ rssBytes: 0, pssBytes: 0 }),
  };
}
