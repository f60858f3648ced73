/** `make example-web`: the trainer, beside the sidecar that `make run` has started with the same PORT and DATA. */
import { readFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { parseArgs } from "node:util";

import { createAdaptorServer } from "@hono/node-server";
import { serveStatic } from "@hono/node-server/serve-static";

import { createApp } from "./app.js";
import { prepared } from "./scenarios.js";

const HOST = "127.0.0.1";
const TOKEN = "dev-token"; // of `make run`: your own comes from `sidecar token`
const { sidecar, data } = parseArgs({
  options: {
    sidecar: { type: "string", default: `http://${HOST}:8080` },
    data: { type: "string", default: ".sidecar/dev" },
  },
}).values;
const written = (name: string) => readFileSync(join(data, name), "utf8").trim();

async function parts() {
  const ready = await fetch(`${sidecar}/readyz`, { signal: AbortSignal.timeout(5_000) });
  if (!ready.ok) throw new Error(`${sidecar}/readyz answers ${ready.status}`);
  return { secret: written("jwt-secret"), scenarios: await prepared(written("database.url")) };
}

const found = await parts().catch(({ message, cause }: Error) => {
  const why = cause instanceof Error ? cause.message : message;
  console.error(`no sidecar on ${sidecar} with its data in ${data} (${why})`);
  console.error("start `make run` first, with the same PORT and DATA");
  process.exit(1);
});
const app = createApp({ url: sidecar, token: TOKEN, ...found });
app.get("*", serveStatic({ root: join(import.meta.dirname, "../page") }));

const server = createAdaptorServer({ fetch: app.fetch });
server.on("listening", () => {
  const { port } = server.address() as AddressInfo;
  console.log(`The trainer is on http://${HOST}:${port}, the sidecar on ${sidecar}. Ctrl-C ends it.`);
});
server.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EADDRINUSE") throw error;
  server.listen(0, HOST); // any other port
});
server.listen(5173, HOST);
