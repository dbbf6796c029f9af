/** Where a kernel package keeps its modules. */
import { existsSync } from "node:fs";
import { mkdir, symlink } from "node:fs/promises";

/**
 * Debian 12's packages hold `lib/modules`, Debian 13's `usr/lib/modules`, and depmod looks in whichever its own distribution
 * uses. Afterwards both names lead to the same folder, so that either package works with either depmod.
 */
export async function unifyModules(tree: string): Promise<void> {
  if (!existsSync(`${tree}/lib/modules`)) {
    if (!existsSync(`${tree}/usr/lib/modules`)) throw new Error(`${tree} holds no kernel modules`);
    await mkdir(`${tree}/lib`, { recursive: true });
    await symlink("../usr/lib/modules", `${tree}/lib/modules`);
  } else if (!existsSync(`${tree}/usr/lib/modules`)) {
    await mkdir(`${tree}/usr/lib`, { recursive: true });
    await symlink("../../lib/modules", `${tree}/usr/lib/modules`);
  }
}
