/** The TAP belongs to the slot's user: without any capability that user can open it, and nobody else can. */
import { afterAll, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { run } from "./run.ts";
import { Lab } from "./test-lab.ts";

const lab = new Lab();
const dir = mkdtempSync(`${tmpdir()}/bhatti-tap-`);
afterAll(async () => {
  await lab.dispose();
  rmSync(dir, { recursive: true });
}, 60_000);

/** TUNSETIFF on tap0, as a VMM does it; prints the errno (0 = attached). */
const OPEN_TAP = `
import { dlopen, FFIType, ptr, read } from "bun:ffi";
import { openSync } from "node:fs";
const { symbols } = dlopen("libc.so.6", {
  ioctl: { args: [FFIType.i32, FFIType.u64, FFIType.ptr], returns: FFIType.i32 },
  __errno_location: { args: [], returns: FFIType.ptr } });
const request = new Uint8Array(40);
request.set(Buffer.from("tap0"));
new DataView(request.buffer).setUint16(16, 0x0002 | 0x1000 | 0x4000, true); // IFF_TAP | IFF_NO_PI | IFF_VNET_HDR
const result = symbols.ioctl(openSync("DIR/tun", "r+"), 0x400454can, ptr(request));
console.log(result === 0 ? 0 : read.i32(symbols.__errno_location(), 0));
`;

test.skipIf(process.getuid?.() !== 0)(
  "only the slot's user attaches to the TAP",
  async () => {
    await run(["mknod", `${dir}/tun`, "c", "10", "200"]);
    chmodSync(`${dir}/tun`, 0o666);
    chmodSync(dir, 0o755);
    await Bun.write(`${dir}/open-tap.ts`, OPEN_TAP.replace("DIR", dir));
    const network = lab.network({ tapKind: "tap" });
    await network.start([]);
    const net = network.plan(lab.alice);
    await network.attach(lab.alice, net);
    const open = (uid: number) =>
      run([
        "nsenter",
        `--net=/run/netns/${net.netns}`,
        "setpriv",
        `--reuid=${uid}`,
        `--regid=${uid}`,
        "--clear-groups",
        "--bounding-set=-all",
        "--no-new-privs",
        process.execPath,
        `${dir}/open-tap.ts`,
      ]);
    expect(await open(net.uid)).toBe("0\n");
    expect(await open(net.uid + 1)).toBe("1\n"); // EPERM
    const link = await lab.shell(net.netns, "ip -d link show tap0; ip neighbour show dev tap0");
    expect(link).toContain("02:00:00:00:00:01");
    expect(link).toMatch(/169\.254\.77\.2 lladdr 02:00:00:00:00:02 PERMANENT/);
    await network.purge();
  },
  60_000,
);
