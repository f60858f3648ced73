// What the client promises, against a real sidecar with the demo world at SIDECAR_URL, and against servers that lie.
// In Node, Deno and Bun: tests/typescript/test_client.py runs it.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { test } from "node:test";
import { Refused, Sidecar, Unavailable } from "policy-sidecar";

const sidecar = new Sidecar({ url: process.env.SIDECAR_URL, token: process.env.SIDECAR_TOKEN, timeoutMs: 15_000 });
const MIA = { user: "mia", workspace: "acme" };
const RECORDING = { ...MIA, action: "recording.start" };
const { lies, grant } = JSON.parse(readFileSync(process.env.ANSWERS, "utf8"));

// Sidecar's first argument is *answer*, (request, response, body) => …; the requests are kept.
async function against(answer, ask, options = {}) {
  const heard = [];
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (part) => (body += part));
    request.on("end", () => {
      heard.push({ method: request.method, url: request.url, headers: request.headers, body });
      answer(request, response, body);
    });
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  try {
    const url = `http://127.0.0.1:${server.address().port}`;
    return [await ask(new Sidecar({ url, timeoutMs: 3000, ...options })).catch((error) => error), heard];
  } finally {
    server.closeAllConnections?.();
    server.close();
  }
}

function json(document, { status = 200, type, headers = {} } = {}) {
  const media = type ?? (status === 200 ? "application/json" : "application/problem+json");
  return (request, response) => {
    const id = { "X-Request-ID": request.headers["x-request-id"] };
    response.writeHead(status, { "Content-Type": media, ...id, ...headers });
    response.end(typeof document === "string" ? document : JSON.stringify(document));
  };
}

function problem(status, code) {
  return json({ type: `urn:policy-sidecar:problem:${code}`, title: code, status, code }, { status });
}

const hangsUp = (request) => request.socket.destroy();
const used = async () => (await sidecar.authorize(RECORDING)).quota.minutes.used;
const refused = (status, code) => (error) =>
  error instanceof Refused && error.status === status && error.problem.code === code && error.message.includes(code);

test("a member may what their role and plan allow", async () => {
  const answer = await sidecar.authorize({ ...MIA, action: "roleplay.start" });

  assert.deepEqual([answer.allow, answer.status, answer.reason], [true, 200, "granted"]);
  assert.deepEqual([answer.role, answer.plan, answer.reservation], ["member", "team", null]);
});

test("a denial is a value and says what would help", async () => {
  const answer = await sidecar.authorize({ user: "sam", workspace: "solo", action: "feature:video_avatar" });

  assert.deepEqual([answer.allow, answer.status, answer.reason], [false, 402, "feature_not_in_plan"]);
  assert.deepEqual(answer.needs, { feature: "video_avatar" });
  assert.deepEqual(answer.upgrade[0], { plan: "pro", title: "Pro", price: { amount: 149, currency: "EUR", per: "month" } });
});

test("a stranger is a value everywhere", async () => {
  const stranger = { user: "zoe", workspace: "acme" };
  for (const answer of [
    await sidecar.authorize({ ...stranger, action: "roleplay.start" }),
    await sidecar.consume({ ...stranger, action: "recording.start" }),
    await sidecar.reserve({ ...stranger, action: "recording.start" }),
    await sidecar.entitlements(stranger),
  ]) {
    assert.deepEqual([answer.allow, answer.status, answer.reason], [false, 403, "not_a_member"]);
    assert.equal(typeof answer.message, "string");
  }
});

test("a batch gives the answers in order", async () => {
  const questions = ["roleplay.start", "members.invite", "recording.start"].map((action) => ({ ...MIA, action }));
  const answers = await sidecar.batch(questions);

  assert.deepEqual(answers.map(({ allow }) => allow), [true, false, true]);
  assert.deepEqual(await sidecar.batch([]), []);
});

test("one wrong question of a batch is refused", async () => {
  const questions = [RECORDING, { ...MIA, action: "roleplay.start", amounts: { minutes: 1 } }];

  await assert.rejects(sidecar.batch(questions), refused(400, "meter_not_taken"));
});

test("what is consumed is used, once under one key", async () => {
  const before = await used();
  const question = { ...RECORDING, amounts: { minutes: 5 }, idempotency_key: crypto.randomUUID() };
  const first = await sidecar.consume(question);
  const again = await sidecar.consume(question);

  assert.deepEqual([first.allow, first.replayed, again.replayed], [true, undefined, true]);
  assert.equal(first.decision_id, again.decision_id);
  assert.equal(await used(), before + 5);
  await assert.rejects(sidecar.consume({ ...question, amounts: { minutes: 6 } }), refused(409, "idempotency_key_reused"));
});

test("without room nothing is taken", async () => {
  const before = await used();
  const answer = await sidecar.consume({ ...RECORDING, amounts: { minutes: 1001 } });

  assert.deepEqual([answer.allow, answer.reason], [false, "quota_exceeded"]);
  assert.equal(await used(), before);
});

test("a hold counts until it is committed", async () => {
  const before = await used();
  const hold = await sidecar.reserve({ ...RECORDING, amounts: { minutes: 30 }, ttl_seconds: 60 });
  assert.equal(hold.allow, true);
  assert.deepEqual([hold.reservation.amounts, hold.reservation.state], [{ minutes: 30 }, "held"]);
  assert.equal((await sidecar.authorize(RECORDING)).quota.minutes.reserved, 30);
  const settled = await hold.commit({ amounts: { minutes: 12 } });

  assert.deepEqual(settled.reservation.committed, { minutes: 12 });
  assert.equal(settled.quota.minutes.used, before + 12);
  await hold[Symbol.asyncDispose](); // it was committed: nothing is left to release
  assert.equal(await used(), before + 12);
  await assert.rejects(hold.release(), refused(409, "reservation_settled"));
});

test("a commit without amounts takes all of it", async () => {
  const hold = await sidecar.reserve({ ...RECORDING, amounts: { minutes: 3 } });

  assert.deepEqual((await hold.commit()).reservation.committed, { minutes: 3 });
});

test("a commit of nothing is a release", async () => {
  const before = await used();
  const hold = await sidecar.reserve({ ...RECORDING, amounts: { minutes: 3 } });

  assert.equal((await hold.commit({ amounts: { minutes: 0 } })).reservation.state, "released");
  assert.equal(await used(), before);
});

test("no more than is held is committed, and the hold stays", async () => {
  const hold = await sidecar.reserve({ ...RECORDING, amounts: { minutes: 3 } });

  await assert.rejects(hold.commit({ amounts: { minutes: 4 } }), refused(409, "commit_exceeds_reservation"));
  await assert.rejects(hold.commit({ amounts: {} }), refused(400, "invalid_request"));
  assert.equal((await hold.release()).reservation.state, "released");
});

test("a hold that is left is released", async () => {
  const hold = await sidecar.reserve({ ...RECORDING, amounts: { minutes: 30 } });
  await hold[Symbol.asyncDispose]();

  assert.equal((await sidecar.authorize(RECORDING)).quota.minutes.reserved, 0);
});

test("entitlements are all that a member has", async () => {
  const known = await sidecar.entitlements(MIA);

  assert.equal(known.allow, undefined);
  assert.deepEqual([known.workspace.slug, known.role, known.plan], ["acme", "member", "team"]);
  assert.equal(known.features.video_avatar, true);
  assert.equal(known.actions["members.invite"], false);
});

test("workspaces of a user are iterated", async () => {
  const found = await all(sidecar.workspacesOf("mia"));
  const able = await all(sidecar.workspacesOf("mia", { action: "members.invite" }));

  assert.ok(found.some(({ slug }) => slug === "acme"));
  assert.ok(!able.some(({ slug }) => slug === "acme"));
});

test("workspaces are read page by page, and pages that go in a circle end", async () => {
  const row = { id: "i", slug: "a", name: "A", role: "member", plan: "team" };
  const pages = [{ workspaces: [row], next: "a b" }, { workspaces: [], next: "c" }, { workspaces: [row], next: null }];
  const [found, heard] = await against(
    (request, response) => json(pages[heard_()])(request, response),
    (client) => all(client.workspacesOf("mia/1", { action: "x.y" })),
  );
  const [circle] = await against(json({ workspaces: [row], next: "a" }), (client) => all(client.workspacesOf("mia")));

  assert.equal(found.length, 2);
  assert.deepEqual(heard.map(({ url }) => url), [
    "/v1/users/mia%2F1/workspaces?action=x.y",
    "/v1/users/mia%2F1/workspaces?action=x.y&after=a+b",
    "/v1/users/mia%2F1/workspaces?action=x.y&after=c",
  ]);
  assert.ok(circle instanceof Unavailable);
});
let turn = 0;
const heard_ = () => turn++;

test("names with every character reach the sidecar", async () => {
  const odd = "a/b?c=d&é %#";
  const [, heard] = await against(problem(404, "not_found"), (client) => client.entitlements({ user: odd, workspace: odd }));
  const found = new URL(heard[0].url, "http://x");

  assert.equal(decodeURIComponent(found.pathname.split("/")[3]), odd);
  assert.equal(found.searchParams.get("user"), odd);
});

test("every other problem below 500 is refused", async () => {
  for (const [status, code] of [[400, "invalid_request"], [401, "unauthenticated"], [403, "scope_missing"], [404, "not_found"], [409, "x"], [413, "body_too_large"]]) {
    const [error] = await against(problem(status, code), (client) => client.authorize(RECORDING));
    assert.ok(refused(status, code)(error), `${status}: ${error}`);
  }
  await assert.rejects(sidecar.authorize({ ...MIA, action: "roleplay.start", amounts: { minutes: 1 } }), refused(400, "meter_not_taken"));
});

test("an outage is thrown, whatever is asked", async () => {
  const away = new Sidecar({ url: "http://127.0.0.1:9", timeoutMs: 3000 });
  for (const ask of [
    () => away.authorize(RECORDING),
    () => away.batch([RECORDING]),
    () => away.consume(RECORDING),
    () => away.reserve(RECORDING),
    () => away.entitlements(MIA),
    () => all(away.workspacesOf("mia")),
  ]) {
    await assert.rejects(ask, (error) => error instanceof Unavailable && error.code === "sidecar_unreachable");
  }
  const [error] = await against(problem(503, "facts_unavailable"), (client) => client.authorize(RECORDING));
  assert.ok(error instanceof Unavailable);
  assert.equal(error.code, "facts_unavailable");
});

test("silence ends at the timeout", async () => {
  const began = performance.now();
  const [error, heard] = await against(() => {}, (client) => client.authorize(RECORDING), { timeoutMs: 200 });

  assert.ok(error instanceof Unavailable);
  assert.ok(performance.now() - began < 2000);
  assert.equal(heard.length, 1);
});

test("a body that never ends is cut at the timeout", async () => {
  const [error] = await against(
    (request, response) => {
      response.writeHead(200, { "Content-Type": "application/json", "X-Request-ID": request.headers["x-request-id"] });
      response.write("{");
    },
    (client) => client.authorize(RECORDING),
    { timeoutMs: 200 },
  );

  assert.ok(error instanceof Unavailable);
});

test("what is no answer is none", async () => {
  const answers = [
    json("<html>", { type: "text/html" }),
    json("{", {}),
    json("null", {}),
    json([grant], {}),
    json(grant, { type: "text/plain" }),
    json(grant, { headers: { "X-Request-ID": "another" } }),
    json(grant, { status: 201, type: "application/json" }),
    json(grant, { status: 302, headers: { Location: "/" }, type: "application/json" }),
    json({ code: "x" }, { status: 403 }),
    json({ code: "x", status: 404 }, { status: 403 }),
    json({ code: "x", status: 302 }, { status: 302 }),
  ];
  for (const [index, answer] of answers.entries()) {
    const [error, heard] = await against(answer, (client) => client.authorize(RECORDING));
    assert.ok(error instanceof Unavailable, `${index}: ${JSON.stringify(error)}`);
    assert.equal(heard.length, 1, "what answers is not asked again");
  }
});

test("an answer that lies anywhere is none", async () => {
  assert.ok(lies.length > 30);
  const [errors] = await against(
    (request, response, body) => json(lies[JSON.parse(body).amounts.n])(request, response),
    (client) => Promise.all(lies.map((_, n) => client.authorize({ ...RECORDING, amounts: { n } }).catch((error) => error))),
  );
  for (const [index, error] of errors.entries()) {
    assert.ok(error instanceof Unavailable, `${JSON.stringify(lies[index])} was taken for an answer`);
  }
  const [answer] = await against(json({ ...grant, hint: "of a newer sidecar" }), (client) => client.authorize(RECORDING));
  assert.equal(answer.allow, true);
});

test("a batch with another number of answers is none", async () => {
  const [error] = await against(json({ answers: [grant] }), (client) => client.batch([RECORDING, RECORDING]));

  assert.ok(error instanceof Unavailable);
});

test("nothing that takes is sent twice without a key", async () => {
  const key = { idempotency_key: "k" };
  for (const [ask, times] of [
    [(client) => client.authorize(RECORDING), 2],
    [(client) => client.entitlements(MIA), 2],
    [(client) => client.batch([RECORDING]), 2],
    [(client) => client.consume(RECORDING), 1],
    [(client) => client.reserve(RECORDING), 1],
    [(client) => client.authorize({ ...RECORDING, mode: "consume" }), 1],
    [(client) => client.consume({ ...RECORDING, ...key }), 2],
    [(client) => client.reserve({ ...RECORDING, ...key }), 2],
  ]) {
    const [error, heard] = await against(hangsUp, ask);
    assert.ok(error instanceof Unavailable, `${error}`);
    assert.equal(error.uncertain, true);
    assert.equal(heard.length, times, `${ask}`);
    assert.equal(new Set(heard.map(({ headers }) => headers["x-request-id"])).size, 1);
  }
});

test("a commit without an answer leaves the hold to its time to live", async () => {
  const reservation = { id: "r/1", expires_at: "2026-11-24T12:01:00Z", amounts: { minutes: 3 }, state: "held" };
  const [, heard] = await against(
    (request, response) => (request.url === "/v1/authorize" ? json({ ...grant, reservation })(request, response) : problem(503, "x")(request, response)),
    async (client) => {
      const hold = await client.reserve(RECORDING);
      await assert.rejects(hold.commit(), Unavailable);
      await hold[Symbol.asyncDispose]();
    },
  );

  assert.deepEqual(heard.map(({ url }) => url), ["/v1/authorize", "/v1/reservations/r%2F1/commit"]);
});

test("the request id is passed on, and one is made where none is given", async () => {
  const [, heard] = await against(json(grant), async (client) => {
    await client.authorize(RECORDING, { requestId: "req-1:a/b" });
    await client.authorize(RECORDING);
  });

  assert.equal(heard[0].headers["x-request-id"], "req-1:a/b");
  assert.match(heard[1].headers["x-request-id"], /^[0-9a-f-]{36}$/);
  await assert.rejects(sidecar.authorize(RECORDING, { requestId: "a b" }), TypeError);
});

test("the token is sent, and shown nowhere", async () => {
  const [error, heard] = await against(problem(401, "unauthenticated"), (client) => client.authorize(RECORDING), { token: "sct_secret" });

  assert.equal(heard[0].headers.authorization, "Bearer sct_secret");
  assert.ok(!String(error.stack).includes("sct_secret"));
  for (const token of ["", "x y", "x\r\nX: y", "ä"]) {
    assert.throws(() => new Sidecar({ url: "http://x", token }), (error) => error instanceof TypeError && (!token || !error.message.includes(token)));
  }
});

test("the wire's fields are sent as they are", async () => {
  const question = { ...RECORDING, amounts: { minutes: 5 }, idempotency_key: "k", ttl_seconds: 60, resource: "r", context: { country: "de" } };
  const [, heard] = await against(json(grant), (client) => client.reserve(question));

  assert.deepEqual(JSON.parse(heard[0].body), { ...question, mode: "reserve" });
  await assert.rejects(sidecar.authorize({ ...RECORDING, context: { x: Number.NaN } }), TypeError);
});

test("what is no address or no time is refused when it is given", () => {
  for (const url of ["", "localhost:8080", "unix:///run/x", "http://", "http://u@x", "http://x?y", "ftp://x"]) {
    assert.throws(() => new Sidecar({ url }), TypeError, url);
  }
  for (const timeoutMs of [0, -1, Number.NaN, Number.POSITIVE_INFINITY, "x"]) {
    assert.throws(() => new Sidecar({ url: "http://x", timeoutMs }), TypeError);
  }
});

async function all(iterable) {
  const found = [];
  for await (const each of iterable) found.push(each);
  return found;
}
