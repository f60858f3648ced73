// The page of docs/react.md, used: as a browser would, with the proxy of its vite.config.ts. The real sidecar answers.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { act, until, window } from "./dom.mjs";

const { BACKEND_URL, TOKEN, MAIN, SELL } = process.env;
const real = globalThis.fetch;

window.location.hash = `token=${TOKEN}`;
globalThis.fetch = async (input, init = {}) => {
  const url = new URL(String(input), window.location.href);
  const headers = new Headers(init.headers);
  if (url.pathname.startsWith("/api/")) {
    assert.match(headers.get("X-Workspace-Id"), /^[0-9a-f-]{36}$/);
    headers.set("X-User", "sam");
    return real(BACKEND_URL + url.pathname.slice(4), { ...init, headers });
  }
  return real(input, init);
};

const { document } = window;
document.body.innerHTML = '<div id="root"></div>';
const text = () => document.body.textContent;
const button = (name) => [...document.querySelectorAll("button")].find((each) => each.textContent === name);

await act(async () => import(MAIN));
await until(() => text().includes("You are owner of Solo, on the plan starter."));
assert.deepEqual([...document.querySelectorAll("option")].map((each) => each.textContent), ["Solo"]);
assert.ok(text().includes("Avatars are not in your plan."));

await act(async () => button("Start with an avatar").click());
await until(() => document.querySelector("dialog")?.open);
assert.ok(text().includes("The Starter plan does not include Video avatar; Pro and Team do."));
assert.deepEqual([...document.querySelectorAll("li")].map((each) => each.textContent), ["Pro €149 / month", "Team €299 / month"]);
await act(async () => button("Close").click());
assert.equal(document.querySelector("dialog"), null);

execFileSync("bash", ["-euc", SELL], { timeout: 20_000 });
await act(async () => document.dispatchEvent(new window.Event("visibilitychange")));
await until(() => text().includes("Avatars are in your plan."));
await act(async () => button("Start with an avatar").click());
await until(() => document.querySelector("[role=status]").textContent === "It has started.");
process.exit(0);
