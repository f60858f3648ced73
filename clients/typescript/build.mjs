// Compiles src/ to dist/, from scratch: a module that is gone must not be published.
import { execFileSync } from "node:child_process";
import { copyFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const typescript = dirname(createRequire(import.meta.url).resolve("typescript/package.json"));
rmSync(join(here, "dist"), { recursive: true, force: true });
execFileSync(process.execPath, [join(typescript, "bin/tsc"), "-p", here], { stdio: "inherit" });
copyFileSync(join(here, "../../LICENSE"), join(here, "LICENSE")); // npm packs what lies beside package.json
