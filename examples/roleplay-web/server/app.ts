/** The trainer's own routes, each guarded by the sidecar, in the workspace that the header X-Workspace-Id names. */
import { type Context, Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { HTTPException } from "hono/http-exception";
import { sign, verify } from "hono/jwt";
import { Sidecar, Unavailable } from "policy-sidecar";
import { guards, problem } from "policy-sidecar/hono";

import type { Catalog } from "../catalog.js";
import type { Scenarios } from "./scenarios.js";

const AUDIENCE = "authenticated";
const A_DAY_S = 24 * 60 * 60;
const TIMEOUT_MS = 5_000; // a laptop may be busy
const PROBLEM = { "Content-Type": "application/problem+json" };

/** The sidecar at *url*, for this backend and for browsers; *token* is a caller's, and *secret* signs users' tokens. */
type Parts = { url: string; token: string; secret: string; scenarios: Scenarios };

export function createApp({ url, token, secret, scenarios }: Parts): Hono {
  const sidecar = new Sidecar<Catalog>({ url, token, timeoutMs: TIMEOUT_MS });
  const { requireWorkspace, requireAction } = guards<Catalog>({ sidecar, user: (c) => signedIn(c, secret) });
  const app = new Hono();
  app.use("/api/*", bodyLimit({ maxSize: 10_000 }));

  // Your identity provider does this, and checks who it is.
  app.post("/api/sign-in", async (c) => {
    const name = await field(c, "name", /^[a-z0-9-]{1,40}$/);
    const exp = Math.floor(Date.now() / 1000) + A_DAY_S;
    const claims = { sub: name, email: `${name}@example.com`, email_verified: true, aud: AUDIENCE, exp };
    return c.json({ name, token: await sign(claims, secret, "HS256"), sidecar: url });
  });

  app.get("/api/scenarios", requireAction("data.view_own"), async (c) =>
    c.json({ scenarios: await scenarios.all(c.get("workspace")) }),
  );

  app.post("/api/scenarios", requireWorkspace, async (c) => {
    const title = await field(c, "title", /^[^\p{Cc}]{1,200}$/u);
    const { user, id } = c.get("workspace");
    const hold = await sidecar.reserve({ user, workspace: id, action: "scenarios.create" });
    if (!hold.allow) return problem(hold);
    await using held = hold; // gives the place back, unless it is committed
    const added = await scenarios.add(c.get("workspace"), title);
    await held.commit();
    return c.json(added, 201);
  });

  const play = async (c: Context) =>
    c.json((await scenarios.play(c.get("workspace"), c.req.param("id") ?? "")) ?? refuse(404, "No such scenario"), 201);
  app.post("/api/scenarios/:id{[\\w-]+}/roleplays", requireAction("roleplay.start"), play);
  app.post("/api/scenarios/:id{[\\w-]+}/avatar-roleplays", requireAction("roleplay.start_with_avatar"), play);

  app.post("/api/team-sessions", requireAction("team_sessions.start"), (c) =>
    c.json({ host: c.get("workspace").user }, 201),
  );

  // Your biller's webhook says this, once somebody has paid: docs/billing.md.
  app.post("/api/checkout", requireAction("billing.manage"), async (c) => {
    const plan = await field(c, "plan", /^\w{1,60}$/);
    const body = JSON.stringify({ plan, status: "active", as_of: new Date().toISOString(), source: "roleplay-web" });
    const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
    const request = { method: "PUT", headers, body, signal: AbortSignal.timeout(TIMEOUT_MS) };
    const target = `${url}/v1/workspaces/${c.get("workspace").id}/subscription`;
    const answer = await fetch(target, request).catch((cause: unknown) => {
      throw new Unavailable("sidecar_unreachable", "the plan was perhaps not changed", { cause });
    });
    return answer.ok ? c.json({ plan }) : new Response(answer.body, { status: answer.status, headers: PROBLEM });
  });

  app.onError((error, c) => {
    const known = error instanceof HTTPException ? error.getResponse() : problem(error);
    if (known === undefined) console.error(error);
    return known ?? c.json({ status: 500, title: "The trainer has a defect: its log says which" }, 500);
  });
  return app;
}

/** The user whom the token of the request is about, null without a good one. */
async function signedIn(c: Context, secret: string): Promise<string | null> {
  const token = /^Bearer (\S+)$/i.exec(c.req.header("Authorization") ?? "")?.[1] ?? "";
  const claims = await verify(token, secret, { alg: "HS256", aud: AUDIENCE }).catch(() => null); // expired, or forged
  return typeof claims?.sub === "string" ? claims.sub : null;
}

/** A field of the JSON body; 400 if it does not fit. */
async function field(c: Context, name: string, pattern: RegExp): Promise<string> {
  const value: unknown = (await c.req.json().catch(() => null))?.[name];
  return typeof value === "string" && pattern.test(value) ? value : refuse(400, `The ${name} must be like ${pattern}`);
}

function refuse(status: 400 | 404, title: string): never {
  throw new HTTPException(status, { res: Response.json({ status, title }, { status, headers: PROBLEM }) });
}
