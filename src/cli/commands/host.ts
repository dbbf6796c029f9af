/** `bhatti host …`: maintenance of this machine. Its arguments are its own. */
export async function host(args: string[]): Promise<number> {
  const { hostMain } = await import("../../host/main.ts");
  const status: unknown = await hostMain(args);
  return typeof status === "number" ? status : Number(process.exitCode ?? 0);
}
