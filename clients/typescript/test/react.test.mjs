// What the components promise, in React 18 and 19: tests/typescript/test_promises.py runs it, with a real sidecar at
// SIDECAR_URL. Where a test says so, entitlements are late, or an outage: they are answered here.
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { act, createElement as h, shown, until, window } from "./dom.mjs";

const { Feature, UpgradeDialog, WorkspaceProvider, WorkspaceSwitcher, useEntitlements, usePlans, useWorkspace } = await import("policy-sidecar/react");

const URL_ = process.env.SIDECAR_URL;
const TOKEN = process.env.OLIVIA; // of acme, and of another that is made below
const real = globalThis.fetch;
const own = await workspacesOf(TOKEN);
const ACME = own.find(({ slug }) => slug === "acme");
const SECOND = own.find(({ slug }) => slug !== "acme") ?? (await made("Second"));
const PRICE = { amount: 149, currency: "EUR", per: "month" };
const PROBLEM = { status: 402, code: "feature_not_in_plan", title: "The plan does not include this", detail: "Starter has no Video avatar.", upgrade: [{ plan: "pro", title: "Pro", price: PRICE }] };

let requests; // all that the page has sent
let entitlementsOf; // undefined: the sidecar answers. Else (id) => a Response, or a promise of one
let seen; // what a component below the provider has last seen
let first; // and what it saw before anything was known

beforeEach(() => {
  window.localStorage.clear();
  requests = [];
  seen = first = undefined;
  entitlementsOf = undefined;
  globalThis.fetch = async (input, init = {}) => {
    const url = new URL(String(input));
    requests.push({ url, headers: new Headers(init.headers), signal: init.signal });
    const [, id] = /^\/workspaces\/([^/]+)\/entitlements$/.exec(url.pathname) ?? [];
    if (id !== undefined && entitlementsOf !== undefined) return entitlementsOf(id);
    if (url.hostname === "api.example.com") return Response.json({});
    return real(input, init);
  };
});
afterEach(() => {
  window.document.body.innerHTML = "";
});

async function workspacesOf(token) {
  const response = await real(`${URL_}/workspaces`, { headers: { Authorization: `Bearer ${token}` } });
  assert.equal(response.status, 200);
  return (await response.json()).workspaces;
}

async function made(name) {
  const headers = { Authorization: `Bearer ${TOKEN}`, "Content-Type": "application/json" };
  const response = await real(`${URL_}/workspaces`, { method: "POST", headers, body: JSON.stringify({ name }) });
  assert.equal(response.status, 201);
  return response.json();
}

function entitlements(id, enabled) {
  const features = { video_avatar: { enabled, title: "Video avatar", unlocked_by: enabled ? [] : ["pro", "team"] } };
  const workspace = { id, slug: "s", name: "N" };
  return { workspace, role: "owner", plan: "team", features, quotas: {}, actions: {}, policy_revision: "r" };
}

function See() {
  seen = { ...useWorkspace(), entitlements: useEntitlements() };
  first ??= seen;
  return null;
}

const page = (...children) => h(WorkspaceProvider, { url: URL_, token: TOKEN }, h(See), ...children);
const feature = h(Feature, { name: "video_avatar", fallback: "locked" }, "avatar");
const isAcme = () => seen?.currentWorkspace?.id === ACME.id;

test("the workspaces of the user are those of the sidecar, and the first is the current one", async () => {
  const { end } = await shown(page());
  await until(() => seen.workspaces.length > 0);

  assert.deepEqual([first.workspaces, first.currentWorkspace, first.entitlements], [[], undefined, undefined]);
  assert.deepEqual(seen.workspaces, await workspacesOf(TOKEN));
  assert.ok(isAcme());
  assert.equal(seen.error, undefined);
  await end();
});

test("a component without a provider says what is missing", async () => {
  const complain = console.error;
  console.error = () => {};
  await assert.rejects(shown(h(See)), /WorkspaceProvider/).finally(() => (console.error = complain));
});

test("the switcher is a native select with a name, and changes the workspace", async () => {
  const { place, end } = await shown(page(h(WorkspaceSwitcher, { className: "mine" })));
  await until(() => place.querySelectorAll("option").length >= 2);
  const select = place.querySelector("select");

  assert.equal(select.getAttribute("aria-label"), "Workspace");
  assert.equal(select.className, "mine");
  assert.deepEqual([...place.querySelectorAll("option")].map((each) => each.textContent), ["Acme", SECOND.name]);
  assert.equal(select.value, ACME.id);
  await act(async () => {
    select.value = SECOND.id;
    select.dispatchEvent(new window.Event("change", { bubbles: true }));
  });
  assert.equal(seen.currentWorkspace.id, SECOND.id);
  await end();
});

test("a label of the page's own names the switcher", async () => {
  const { place, end } = await shown(page(h(WorkspaceSwitcher, { id: "where" })));

  assert.equal(place.querySelector("select").hasAttribute("aria-label"), false);
  await end();
});

test("the choice is kept in the browser, by its id", async () => {
  const first = await shown(page());
  await until(isAcme);
  await act(async () => seen.setWorkspace(SECOND.slug));
  await first.end();
  const second = await shown(page());
  await until(() => seen.workspaces.length > 0 && seen.currentWorkspace !== undefined);

  assert.equal(seen.currentWorkspace.id, SECOND.id);
  await second.end();
});

test("a choice that is none of the user's is not kept, and cannot be made", async () => {
  window.localStorage.setItem("policy-sidecar.workspace", "somebody-elses");
  const { end } = await shown(page());
  await until(isAcme);

  assert.throws(() => seen.setWorkspace("piano"), RangeError);
  assert.ok(isAcme());
  await end();
});

test("a browser without storage keeps the choice for the page", async () => {
  const storage = globalThis.localStorage;
  Object.defineProperty(globalThis, "localStorage", { configurable: true, get: () => { throw new Error("forbidden"); } });
  try {
    const { end } = await shown(page());
    await until(isAcme);
    await act(async () => seen.setWorkspace(SECOND.id));
    assert.equal(seen.currentWorkspace.id, SECOND.id);
    await end();
  } finally {
    Object.defineProperty(globalThis, "localStorage", { configurable: true, writable: true, value: storage });
  }
});

test("every call of its fetch says the workspace and the user", async () => {
  const { end } = await shown(page());
  await until(isAcme);
  await seen.fetch("https://api.example.com/x", { method: "POST", headers: { "Content-Type": "text/plain" } });
  await act(async () => seen.setWorkspace(SECOND.id));
  await seen.fetch("https://api.example.com/y", { headers: { Authorization: "Mine", "X-Workspace-Id": "other" } });
  const [x, y] = requests.filter(({ url }) => url.hostname === "api.example.com").map(({ headers }) => Object.fromEntries(headers));

  assert.deepEqual(x, { authorization: `Bearer ${TOKEN}`, "content-type": "text/plain", "x-workspace-id": ACME.id });
  assert.deepEqual(y, { authorization: "Mine", "x-workspace-id": SECOND.id });
  await end();
});

test("before a workspace is known, its fetch sends nothing", async () => {
  const { end } = await shown(page());
  await until(isAcme);

  await assert.rejects(first.fetch("https://api.example.com/"), /no workspace is known yet/);
  assert.equal(requests.some(({ url }) => url.hostname === "api.example.com"), false);
  await end();
});

test("a token that is a function is asked before every call", async () => {
  let turn = 0;
  const { end } = await shown(h(WorkspaceProvider, { url: `${URL_}/`, token: async () => (turn++, TOKEN) }, h(See)));
  await until(() => seen.entitlements !== undefined);
  const before = turn;
  await seen.fetch("https://api.example.com/");

  assert.equal(turn, before + 1);
  assert.equal(requests.filter(({ url }) => url.pathname === "/workspaces").length, 1, "a render is no reason to ask again");
  await end();
});

test("who is not signed in has no workspaces, and the error says so", async () => {
  const { end } = await shown(h(WorkspaceProvider, { url: URL_, token: "wrong" }, h(See)));
  await until(() => seen.error !== undefined);

  assert.match(seen.error.message, /401/);
  assert.deepEqual([seen.workspaces, seen.currentWorkspace], [[], undefined]);
  await end();
});

test("what the user may and has is what the sidecar says, of each workspace", async () => {
  const { place, end } = await shown(page(feature));
  await until(() => seen.entitlements !== undefined);
  assert.deepEqual(seen.entitlements.features.video_avatar, { enabled: true, title: "Video avatar", unlocked_by: [] });
  assert.deepEqual([seen.entitlements.workspace.slug, place.textContent], ["acme", "avatar"]);
  await act(async () => seen.setWorkspace(SECOND.id));
  await until(() => seen.entitlements?.workspace.id === SECOND.id);

  assert.deepEqual(seen.entitlements.features.video_avatar.unlocked_by, ["pro", "team"]);
  assert.equal(place.textContent, "locked");
  await end();
});

test("a feature is drawn once it is known, and not in a workspace without it", async () => {
  let answer;
  const hold = () => new Promise((done) => (answer = done));
  let known = hold();
  entitlementsOf = async (id) => (await known, Response.json(entitlements(id, id === ACME.id)));
  const { place, end } = await shown(page(feature));
  await until(isAcme);
  assert.equal(place.textContent, "locked");
  answer();
  await until(() => place.textContent === "avatar");
  known = hold();
  await act(async () => seen.setWorkspace(SECOND.id));
  assert.equal(place.textContent, "locked", "at once: what is known is of the workspace before");
  answer();
  await until(() => seen.entitlements?.workspace.id === SECOND.id);

  assert.equal(place.textContent, "locked");
  await end();
});

test("an answer that comes late is never the other workspace's", async () => {
  let answer;
  entitlementsOf = (id) => (id === ACME.id ? new Promise((done) => (answer = () => done(Response.json(entitlements(id, true))))) : Response.json(entitlements(id, false)));
  const { place, end } = await shown(page(feature));
  await until(() => answer !== undefined);
  await act(async () => seen.setWorkspace(SECOND.id));
  await until(() => seen.entitlements?.workspace.id === SECOND.id);
  await act(async () => answer());

  assert.equal(place.textContent, "locked");
  assert.equal(seen.entitlements.workspace.id, SECOND.id);
  await end();
});

test("names of JavaScript's own are no features", async () => {
  const { place, end } = await shown(page(h(Feature, { name: "constructor" }, "drawn"), h(Feature, { name: "toString" }, "drawn")));
  await until(() => seen.entitlements !== undefined);

  assert.equal(place.textContent, "");
  await end();
});

test("an outage leaves what is known, a denial takes it away", async () => {
  const { place, end } = await shown(page(feature));
  await until(() => place.textContent === "avatar");
  const asked = () => requests.filter(({ url }) => url.pathname.endsWith("/entitlements")).length;
  for (const [status, expected] of [[503, "avatar"], [403, "locked"]]) {
    const before = asked();
    entitlementsOf = () => new Response("{}", { status });
    await act(async () => window.document.dispatchEvent(new window.Event("visibilitychange")));
    await until(() => asked() > before);
    await until(() => place.textContent === expected);
  }
  await end();
});

test("after an upgrade, reload asks again", async () => {
  entitlementsOf = (id) => Response.json(entitlements(id, false));
  const { place, end } = await shown(page(feature));
  await until(() => seen.entitlements !== undefined);
  entitlementsOf = (id) => Response.json(entitlements(id, true));
  await act(async () => seen.reload());

  await until(() => place.textContent === "avatar");
  await end();
});

test("the dialog opens on a 402, modal, with a name and a description, and lists plans with their prices", async () => {
  const { place, end } = await shown(page(h(UpgradeDialog, { problem: PROBLEM })));
  const dialog = place.querySelector("dialog");

  assert.equal(dialog.open, true);
  assert.equal(window.document.getElementById(dialog.getAttribute("aria-labelledby")).textContent, "Your plan does not include this");
  assert.equal(window.document.getElementById(dialog.getAttribute("aria-describedby")).textContent, PROBLEM.detail);
  assert.match(place.querySelector("li").textContent, /^Pro €149 \/ month$/);
  assert.deepEqual([...place.querySelectorAll("button")].map((each) => each.textContent), ["Close"]);
  assert.ok([...place.querySelectorAll("button")].every((each) => each.type === "button"));
  await end();
});

test("the dialog follows the color scheme and CSS variables alone", async () => {
  const { place, end } = await shown(page(h(UpgradeDialog, { problem: PROBLEM, className: "mine" })));
  const dialog = place.querySelector("dialog");

  assert.equal(dialog.className, "mine");
  assert.match(dialog.getAttribute("style"), /color-scheme: var\(--policy-sidecar-color-scheme, light dark\)/);
  assert.doesNotMatch(dialog.outerHTML, /#[0-9a-f]{3}|rgb/i);
  await end();
});

test("the dialog does not open on other denials", async () => {
  for (const problem of [undefined, null, { ...PROBLEM, status: 403 }, { ...PROBLEM, status: 429 }]) {
    const { place, end } = await shown(page(h(UpgradeDialog, { problem })));
    assert.equal(place.querySelector("dialog"), null);
    await end();
  }
});

test("the dialog is closed by its button, tells so, and opens for the next denial alone", async () => {
  let closed = 0;
  const dialogOf = (problem) => page(h(UpgradeDialog, { problem, onClose: () => closed++ }));
  const { place, show, end } = await shown(dialogOf(PROBLEM));
  await act(async () => place.querySelector("button").click());
  assert.deepEqual([closed, place.querySelector("dialog").open], [1, false]);
  await show(dialogOf(PROBLEM));
  assert.equal(place.querySelector("dialog").open, false);
  await show(dialogOf({ ...PROBLEM }));
  assert.equal(place.querySelector("dialog").open, true);
  await end();
});

test("a plan can be chosen", async () => {
  const chosen = [];
  const { place, end } = await shown(page(h(UpgradeDialog, { problem: PROBLEM, onChoose: (plan) => chosen.push(plan), words: { choose: (title) => `${title} nehmen` } })));
  const [choose] = place.querySelectorAll("button");
  assert.equal(choose.textContent, "Pro nehmen");
  await act(async () => choose.click());

  assert.deepEqual(chosen, ["pro"]);
  assert.equal(place.querySelector("dialog").open, false);
  await end();
});

test("titles and prices that a problem does not say are those of GET /plans", async () => {
  const { place, end } = await shown(page(h(UpgradeDialog, { problem: { ...PROBLEM, upgrade: [{ plan: "pro" }] } })));

  await until(() => place.querySelector("li")?.textContent === "Pro €149 / month");
  await end();
});

test("plans are asked for once, and without a token", async () => {
  let plans;
  const Plans = () => ((plans = usePlans()), null);
  const { end } = await shown(page(h(Plans)));
  await until(() => plans !== undefined);
  const [asked, ...more] = requests.filter(({ url }) => url.pathname === "/plans");

  assert.deepEqual([plans.plans.map(({ title }) => title), asked.headers.has("Authorization"), more], [["Starter", "Pro", "Team"], false, []]);
  await end();
});
