// What the guards of one framework promise beyond tests/guard/cases.yaml, which is run against all four.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import express from "express";
import { Hono } from "hono";
import { Sidecar } from "policy-sidecar";
import * as forExpress from "policy-sidecar/express";
import * as forHono from "policy-sidecar/hono";

const GRANT = { allow: true, status: 200, reason: "granted", message: "Yes.", role: "member", plan: "team", workspace: { id: "3f2b8a52-1111-4222-8333-444455556666", slug: "acme" }, reservation: null, decision_id: "d", policy_revision: "r", facts: { at: "2026-11-24T12:00:00Z", cached: false } };
const asked = [];
let grant = GRANT;
const server = createServer((request, response) => {
  let body = "";
  request.on("data", (part) => (body += part));
  request.on("end", () => {
    const { questions, ...question } = JSON.parse(body || "{}");
    asked.push({ id: request.headers["x-request-id"], actions: questions?.map(({ action }) => action) ?? [question.action], ...question });
    response.writeHead(200, { "Content-Type": "application/json", "X-Request-ID": request.headers["x-request-id"] });
    response.end(JSON.stringify(questions ? { answers: questions.map(() => grant) } : grant));
  });
});
const logged = [];
const log = { warn: (line) => logged.push(line), error: (line) => logged.push(line) };
let sidecar;

before(async () => {
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  sidecar = new Sidecar({ url: `http://127.0.0.1:${server.address().port}`, timeoutMs: 5000 });
});
after(() => {
  server.closeAllConnections();
  server.close();
});

function hono(user = (c) => c.req.header("X-User") ?? null) {
  asked.length = logged.length = 0;
  return { app: new Hono(), ...forHono.guards({ sidecar, user, log }) };
}

async function byExpress(make, path, headers = { "X-User": "mia" }) {
  asked.length = logged.length = 0;
  const app = express();
  make(app, forExpress.guards({ sidecar, user: (req) => req.get("X-User") ?? null, log }));
  const listening = app.listen(0, "127.0.0.1");
  await new Promise((done) => listening.once("listening", done));
  try {
    return await fetch(`http://127.0.0.1:${listening.address().port}${path}`, { headers });
  } finally {
    listening.closeAllConnections();
    listening.close();
  }
}

const MIA = { headers: { "X-User": "mia" } };
const shown = (c) => c.json({ asked: c.get("workspace").asked });

test("the request id of the end user's request is the sidecar's, if it is one", async () => {
  const { app, requireAction } = hono();
  app.get("/:workspace", requireAction("a.b"), shown);
  for (const [sent, expected] of [["req-1", /^req-1$/], ["a b", /^[0-9a-f-]{36}$/], ["", /^[0-9a-f-]{36}$/]]) {
    assert.equal((await app.request("/acme", { headers: { ...MIA.headers, "X-Request-ID": sent } })).status, 200);
    assert.match(asked.at(-1).id, expected);
  }
});

test("a user may be found by a promise", async () => {
  const { app, requireAction } = hono(async () => "mia");
  app.get("/:workspace", requireAction("a.b"), shown);

  assert.equal((await app.request("/acme")).status, 200);
  assert.equal(asked[0].user, "mia");
});

test("a user that is no text is a mistake, and nobody is let in", async () => {
  const { app, requireAction } = hono(() => 42);
  app.onError((error, c) => c.text(error.message, 500));
  app.get("/:workspace", requireAction("a.b"), shown);
  const response = await app.request("/acme");

  assert.deepEqual([response.status, asked.length], [500, 0]);
  assert.match(await response.text(), /got number/);
});

test("amounts may be read from the body, and the handler reads it again", async () => {
  const { app, requireAction } = hono();
  const consume = requireAction("a.b", { mode: "consume", amounts: async (c) => (await c.req.json()).amounts });
  app.post("/:workspace", consume, async (c) => c.json(await c.req.json()));
  const body = JSON.stringify({ amounts: { minutes: 7 } });
  const response = await app.request("/acme", { method: "POST", headers: MIA.headers, body });

  assert.equal(await response.text(), body);
  assert.deepEqual(asked[0].amounts, { minutes: 7 });
  assert.match(asked[0].idempotency_key, /^[0-9a-f-]{36}$/);
});

test("in Hono, guards of use() and of a route each know their own path", async () => {
  const { app, requireAction, requireRole } = hono();
  app.use("*", requireRole("member"));
  app.get("/:workspace", requireAction("a.b"), requireAction("c.d"), shown);
  const headers = { ...MIA.headers, "X-Workspace-Id": "mine" };

  assert.equal((await app.request("/mine", { headers })).status, 200);
  assert.deepEqual(asked.map(({ actions }) => actions), [["role:member"], ["a.b", "c.d"]]);
  assert.equal((await app.request("/theirs", { headers })).status, 400);
});

test("one guard in two places asks for the workspace of each", async () => {
  const { app, requireRole } = hono();
  const member = requireRole("member");
  app.use("*", member);
  app.get("/:workspace", member, shown);
  const headers = { ...MIA.headers, "X-Workspace-Id": "mine" };

  assert.equal((await app.request("/theirs", { headers })).status, 400);
});

test("in Hono, a mounted application is guarded, with an error handler of its own too", async () => {
  for (const own of [false, true]) {
    const { app, requireAction, requireRole } = hono();
    const inner = new Hono();
    if (own) inner.onError((_, c) => c.text("own", 500));
    inner.get("/:workspace/x", requireRole("member"), requireAction("a.b"), shown);
    app.route("/w", inner);

    assert.deepEqual(await (await app.request("/w/acme/x", MIA)).json(), { asked: "acme" });
    assert.deepEqual(asked.map(({ actions }) => actions), [["role:member", "a.b"]]);
    assert.equal((await app.request("/w/acme/x")).status, 401);
  }
});

test("in Express, a router is guarded, by use() and by its routes", async () => {
  const response = await byExpress((app, { requireAction, requireRole }) => {
    const router = express.Router({ mergeParams: true });
    router.use(requireRole("member"));
    router.get("/x", requireAction("a.b"), requireAction("c.d"), (req, res) => res.json(req.workspace));
    app.use("/w/:workspace", router);
  }, "/w/acme/x");

  assert.deepEqual(await response.json(), { user: "mia", asked: "acme", role: "member", plan: "team", ...GRANT.workspace });
  assert.deepEqual(asked.map(({ actions }) => actions), [["role:member"], ["a.b", "c.d"]]);
});

test("in Express, guards of another method of the route are not asked", async () => {
  const response = await byExpress((app, { requireAction }) => {
    app.route("/:workspace").post(requireAction("a.b"), (req, res) => res.end()).get(requireAction("c.d"), requireAction("e.f"), (req, res) => res.end());
  }, "/acme");

  assert.equal(response.status, 200);
  assert.deepEqual(asked.map(({ actions }) => actions), [["c.d", "e.f"]]);
});

test("in Express, one guard twice in a route asks twice where something stands between", async () => {
  const response = await byExpress((app, { requireAction }) => {
    const guard = requireAction("a.b");
    app.get("/:workspace", guard, (req, res, next) => next(), guard, (req, res) => res.end());
  }, "/acme");

  assert.equal(response.status, 200);
  assert.equal(asked.length, 2);
});

test("in Express, an error of the user function is the application's", async () => {
  asked.length = 0;
  const app = express();
  const { requireWorkspace } = forExpress.guards({ sidecar, user: () => { throw new Error("boom"); } });
  app.get("/:workspace", requireWorkspace, (req, res) => res.end());
  app.use((error, req, res, next) => res.status(500).end(error.message));
  const listening = app.listen(0);
  await new Promise((done) => listening.once("listening", done));
  const response = await fetch(`http://127.0.0.1:${listening.address().port}/acme`);
  listening.closeAllConnections();
  listening.close();

  assert.deepEqual([response.status, await response.text(), asked.length], [500, "boom", 0]);
});

const tea = async (c, next) => next();

test("a route that consumes where a later guard may deny is refused before anything is taken", async () => {
  for (const between of [[tea], []]) {
    const { app, requireAction } = hono();
    const second = between.length > 0 ? requireAction("c.d") : requireAction("c.d", { mode: "consume" });
    app.post("/:workspace", requireAction("a.b", { mode: "consume" }), ...between, second, shown);
    const response = await app.request("/acme", { method: "POST", ...MIA });

    assert.equal(response.status, 500);
    assert.equal((await response.json()).code, "authorization_misconfigured");
    assert.equal(asked.length, 0);
    assert.match(logged[0], /would be lost|consumes once/);
  }
});

test("so it is in Express", async () => {
  const response = await byExpress((app, { requireAction }) => {
    app.get("/:workspace", requireAction("a.b", { mode: "consume" }), (req, res, next) => next(), requireAction("c.d"), (req, res) => res.end());
  }, "/acme");

  assert.deepEqual([response.status, asked.length], [500, 0]);
});

test("guards with other users are not asked together", async () => {
  const { app, requireAction } = hono();
  const root = forHono.guards({ sidecar, user: () => "root", workspace: () => "the-one", membership: "a.z", log });
  app.get("/:workspace", requireAction("a.b"), root.requireWorkspace, requireAction("c.d"), shown);
  await app.request("/acme", MIA);

  assert.deepEqual(asked.slice(0, 2).map(({ user, workspace, actions }) => [user, workspace, actions[0]]), [["mia", "acme", "a.b"], ["root", "the-one", "a.z"]]);
});

test("what is missing is said when the route is made", () => {
  const { requireAction, requireFeature, requireRole } = hono();

  assert.throws(() => requireRole(), /needs the roles/);
  assert.throws(() => requireFeature(), /needs the feature/);
  assert.throws(() => requireAction(), /is text/);
  assert.throws(() => requireAction("a", { mode: "reserve" }), /sidecar\.reserve/);
  assert.throws(() => requireAction("a", { replays: "allow" }), /refuse or run/);
  for (const minutes of [0, true, "5", 1.5]) assert.throws(() => requireAction("a", { amounts: { minutes } }), /whole number/);
});

test("what no decision has is not made up", async () => {
  const { app, requireAction } = hono();
  app.onError((error, c) => c.text(error.message, 500));
  app.get("/:workspace/name", requireAction("a.b"), (c) => c.text(c.get("workspace").name));
  app.get("/:workspace/slug", requireAction("a.b"), (c) => c.text(c.get("workspace").slug));
  const text = async (path) => (await app.request(path, MIA)).text();

  assert.match(await text("/acme/name"), /known after await workspace\.load\(\)/);
  assert.equal(await text(`/${GRANT.workspace.id}/slug`), "acme");
  const { workspace, ...older } = GRANT; // of a sidecar that does not tell it
  grant = older;
  try {
    assert.match(await text("/acme/slug"), /known after await workspace\.load\(\)/);
  } finally {
    grant = GRANT;
  }
});

test("a name that nobody declares is the developer's mistake, in a call of a handler's own too", async (t) => {
  const denial = { ...GRANT, allow: false, status: 403, reason: "unknown_action", message: 'The action "a.c" is not declared; did you mean "a.b"?' };
  const error = t.mock.method(console, "error", () => {});
  const { app } = hono();
  app.get("/:workspace", (c) => forHono.problem(denial, c));
  const responses = [
    await app.request("/acme"),
    await byExpress((own) => own.get("/:workspace", (req, res) => forExpress.problem(res, denial)), "/acme"),
    forHono.problem(denial),
  ];

  for (const response of responses) {
    assert.deepEqual([response.status, (await response.json()).code], [500, "authorization_misconfigured"]);
  }
  const lines = error.mock.calls.map(({ arguments: [line] }) => line);
  for (const line of lines) assert.match(line, /did you mean "a\.b"/);
  assert.match(lines[0], /the view "GET \/:workspace"/);
  assert.match(lines[1], /the view "GET \/:workspace"/);
  assert.match(lines[2], /this backend/);
});

test("a handler tells a denial of its own, or an outage, in the same form", async () => {
  const denial = { ...GRANT, allow: false, status: 402, reason: "quota_exceeded", message: "Full.", upgrade: [{ plan: "pro" }] };
  const response = forHono.problem(denial);

  assert.equal(response.status, 402);
  assert.deepEqual(await response.json(), { type: "urn:policy-sidecar:problem:quota_exceeded", title: "There is no room left", status: 402, code: "quota_exceeded", detail: "Full.", decision_id: "d", upgrade: denial.upgrade });
  assert.equal(forHono.problem(new Error("another")), undefined);
  const sent = await byExpress((app) => app.get("/x", (req, res) => forExpress.problem(res, denial)), "/x");
  assert.equal(sent.status, 402);
  assert.equal(sent.headers.get("Content-Type"), "application/problem+json");
});
