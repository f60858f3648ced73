// Guarded routes, one for each case of tests/guard/cases.yaml, in Hono or Express; tests/guard/backends.py starts it.
import { readFileSync } from "node:fs";
import { serve } from "@hono/node-server";
import express from "express";
import { Hono } from "hono";
import { Sidecar } from "policy-sidecar";
import * as forExpress from "policy-sidecar/express";
import * as forHono from "policy-sidecar/hono";

const { framework, cases, urls } = JSON.parse(readFileSync(process.argv[2], "utf8"));
const log = { warn() {}, error: console.error };

const FRAMEWORKS = {
  hono: {
    guards: forHono.guards,
    user: (c) => c.req.header("X-User") ?? null,
    query: (c, name) => c.req.query(name),
    tea: async (c, next) => (c.req.header("X-Tea") ? c.body(null, 418) : next()),
    app() {
      const app = new Hono();
      const view = (names) => (c) => c.json(shown(c.get("workspace"), names));
      return {
        post: (path, guards, names) => app.post(path, ...guards, view(names)),
        listen: (said) => serve({ fetch: app.fetch, port: 0, hostname: "127.0.0.1" }, ({ port }) => said(port)),
      };
    },
  },
  express: {
    guards: forExpress.guards,
    user: (req) => req.get("X-User") ?? null,
    query: (req, name) => req.query[name],
    tea: (req, res, next) => (req.get("X-Tea") ? res.status(418).end() : next()),
    app() {
      const app = express();
      const view = (names) => (req, res) => res.json(shown(req.workspace, names));
      return {
        post: (path, guards, names) => app.post(path, ...guards, view(names)),
        listen: (said) => {
          const server = app.listen(0, "127.0.0.1", () => said(server.address().port));
        },
      };
    },
  },
};

const { guards, user, query, tea, app } = FRAMEWORKS[framework];
const of = Object.fromEntries(
  Object.entries(urls).map(([name, url]) => {
    const sidecar = new Sidecar({ url, timeoutMs: 15_000 });
    return [name, guards({ sidecar, user, log })];
  }),
);

const server = app();
for (const [number, { guards: listed, route = "/{workspace}", sidecar = "real" }] of cases.entries()) {
  const by = of[typeof sidecar === "string" ? sidecar : "scripted"];
  const names = ["user", "asked", "role", "plan", ...(listed.includes("workspace") ? ["id", "slug"] : [])];
  server.post(`/${number}${route.replace(/{(\w+)}/, ":$1")}`, listed.map((each) => required(each, by)), names);
}
server.listen((port) => console.log(port));

function required(guard, by) {
  if (guard === "tea") return tea;
  if (guard === "workspace") return by.requireWorkspace;
  if ("role" in guard) return by.requireRole(...guard.role);
  if ("feature" in guard) return by.requireFeature(guard.feature);
  const { action, key, amounts, resource, context, ...options } = guard;
  const whole = given(amounts);
  return by.requireAction(action, {
    ...options,
    ...(amounts === undefined ? {} : { amounts: typeof whole === "function" ? whole : mapped(amounts) }),
    resource: given(resource),
    context: given(context),
    idempotencyKey: given(key, (text) => text),
  });
}

function mapped(amounts) {
  return Object.fromEntries(Object.entries(amounts).map(([meter, amount]) => [meter, given(amount)]));
}

// A value of a case; {query: NAME} reads it from the request.
function given(value, parse = JSON.parse) {
  const isRead = typeof value === "object" && value !== null && Object.keys(value).join() === "query";
  if (!isRead) return value;
  return (request) => {
    const text = query(request, value.query);
    return text === undefined ? undefined : parse(text);
  };
}

function shown(workspace, names) {
  return Object.fromEntries(names.map((name) => [name, workspace[name]]));
}
