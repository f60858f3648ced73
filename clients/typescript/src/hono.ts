/**
 * Guards for Hono: middleware of routes. The workspace is then `c.get("workspace")`.
 */

import type { Context, MiddlewareHandler } from "hono";

import type { ActionOf, AnyCatalog, Denial, NotAMember } from "./answers.js";
import { type GuardOptions, Guards, type Layer, problemOf } from "./guards/guards.js";
import type { ProblemReply } from "./guards/problems.js";
import { type ActionOptions, type Requirement, action, feature, roles } from "./guards/requirement.js";
import type { CurrentWorkspace } from "./guards/workspace.js";

export type { CurrentWorkspace } from "./guards/workspace.js";
export type { ActionOptions, GuardOptions };

type AnyContext = Context<any>; // of any environment
export type GuardMiddleware<C extends AnyCatalog = AnyCatalog> = MiddlewareHandler<{
  Variables: { workspace: CurrentWorkspace<C> };
}>;

export interface HonoGuards<C extends AnyCatalog> {
  /** The user is a member of the workspace of the request. */
  requireWorkspace: GuardMiddleware<C>;
  /** The user has one of *roles*, or one that includes it. */
  requireRole: (...roles: C["role"][]) => GuardMiddleware<C>;
  requireFeature: (feature: C["feature"]) => GuardMiddleware<C>;
  /** The user may perform *action*. With `mode: "consume"` it takes its amounts before the handler begins. */
  requireAction: (action: ActionOf<C>, options?: ActionOptions<AnyContext, C>) => GuardMiddleware<C>;
}

/** Guards that stand next to each other in a route are asked in one call; the one that takes is asked last. */
export function guards<C extends AnyCatalog = AnyCatalog>(options: GuardOptions<AnyContext, C>): HonoGuards<C> {
  const of = new Guards<AnyContext>(options as unknown as GuardOptions<AnyContext, never>, {
    header: (c, name) => c.req.header(name),
    param: (c, name) => c.req.param(name),
    view: viewOf,
  });
  const asked = new WeakMap<AnyContext, number>(); // the place up to which the guards of a request were asked

  function guard(requirement: Requirement<AnyContext>): GuardMiddleware<C> {
    const middleware: GuardMiddleware<C> = async (c, next) => {
      const layers = layersFrom(c, middleware);
      const at = c.req.routeIndex;
      if (layers !== undefined && at < (asked.get(c) ?? 0)) return next();
      const outcome = await of.outcome(c, () => {
        if (layers === undefined) return [requirement];
        const together = of.together(layers);
        asked.set(c, at + together.length);
        return together;
      });
      if (outcome.problem !== undefined) return response(outcome.problem);
      c.set("workspace", outcome.workspace as unknown as CurrentWorkspace<C>);
      await next();
      for (const [name, value] of Object.entries(outcome.headers)) {
        if (!c.res.headers.has(name)) c.header(name, value);
      }
      return undefined;
    };
    return of.mark(middleware, requirement);
  }

  return {
    requireWorkspace: guard({ actions: [] }),
    requireRole: (...names) => guard(roles(names)),
    requireFeature: (name) => guard(feature(name)),
    requireAction: (name, more) => guard(action(name, more as ActionOptions<AnyContext>)),
  };
}

/**
 * The response that tells the end user of a denial or of an error of the client's; undefined for any other error. The
 * log names the route of *c* where the mistake is the developer's.
 */
export function problem(what: Denial | NotAMember, c?: AnyContext): Response;
export function problem(what: unknown, c?: AnyContext): Response | undefined;
export function problem(what: unknown, c?: AnyContext): Response | undefined {
  const found = problemOf(what, console, c && viewOf(c));
  return found && response(found);
}

function viewOf(c: AnyContext): string {
  const { matchedRoutes, routeIndex, method, path } = c.req;
  return `${method} ${matchedRoutes?.[routeIndex]?.path ?? path}`;
}

function response({ status, headers, body }: ProblemReply): Response {
  return new Response(body, { status, headers });
}

/** *self* and the handlers behind it that the request will reach; undefined where Hono does not show them. */
function layersFrom(c: AnyContext, self: unknown): Layer[] | undefined {
  const { routeIndex, matchedRoutes } = c.req;
  const layers = matchedRoutes
    ?.slice(routeIndex)
    .map(({ handler, method, path }) => ({ handler: unwrapped(handler), place: `${method} ${path}` }));
  return layers?.[0]?.handler === self ? layers : undefined;
}

/** Hono wraps the handlers of an application that route() mounts, if it has an error handler of its own. */
function unwrapped(handler: unknown): unknown {
  const inner = (handler as { __COMPOSED_HANDLER?: unknown }).__COMPOSED_HANDLER;
  return inner === undefined ? handler : unwrapped(inner);
}
