/** What comments and documents cite is in the repository. */
import { expect, test } from "bun:test";
import { existsSync } from "node:fs";

const ROOT = `${import.meta.dir}/..`;

test("cited documents are there", async () => {
  const wrong: string[] = [];
  let cited = 0;
  const files = new Bun.Glob("{src,lohar,docs,test,bench,packaging,tiers}/**/*.{ts,go,md,sh}");
  for (const file of [...files.scanSync(ROOT), "README.md", "ARCHITECTURE.md", "SPECIFICATION.md"]) {
    if (file === "src/citations.test.ts") continue;
    const text = await Bun.file(`${ROOT}/${file}`).text();
    for (const [, document] of text.matchAll(/\b(docs\/[\w-]+\.md)/g)) {
      cited++;
      if (!existsSync(`${ROOT}/${document}`)) wrong.push(`${file}: ${document}`);
    }
    for (const [document] of text.matchAll(/\bspec\/[a-z-]+( §|\.md| [A-Z]\d)/g))
      wrong.push(`${file}: ${document}`);
  }
  expect(wrong).toEqual([]);
  expect(cited).toBeGreaterThan(10);
});
