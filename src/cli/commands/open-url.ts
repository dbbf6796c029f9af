import { notice } from "../base/output.ts";

/** Opens a web page in the person's browser; says so when there is none. Only http and https. */
export function openInBrowser(url: string): void {
  if (!/^https?:\/\//.test(url)) return notice("the server's answer is not the address of a web page");
  const program = process.platform === "darwin" ? "open" : "xdg-open";
  try {
    Bun.spawn([program, url], { stdin: "ignore", stdout: "ignore", stderr: "ignore" }).unref();
  } catch {
    notice(`no ${program} here: open it yourself`);
  }
}
