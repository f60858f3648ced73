/**
 * Guards for Express 4 and 5: middleware of routes. The workspace is then `req.workspace`.
 */

import type { Request, RequestHandler, Response } from "express";

import type { ActionOf, AnyCatalog } from "./answers.js";
import { type GuardOptions, Guards, type Layer, problemOf } from "./guards/guards.js";
import type { ProblemReply } from "./guards/problems.js";
import { type ActionOptions, type Requirement, action, feature, roles } from "./guards/requirement.js";
import type { CurrentWorkspace } from "./guards/workspace.js";

export type { CurrentWorkspace } from "./guards/workspace.js";
export type { ActionOptions, GuardOptions };

declare global {
  namespace Express {
    interface Request {
      /** There behind a guard; undefined in a route without one. */
      workspace: CurrentWorkspace;
    }
  }
}

export interface ExpressGuards<C extends AnyCatalog> {
  /** The user is a member of the workspace of the request. */
  requireWorkspace: RequestHandler;
  /** The user has one of *roles*, or one that includes it. */
  requireRole: (...roles: C["role"][]) => RequestHandler;
  requireFeature: (feature: C["feature"]) => RequestHandler;
  /** The user may perform *action*. With `mode: "consume"` it takes its amounts before the handler begins. */
  requireAction: (action: ActionOf<C>, options?: ActionOptions<Request, C>) => RequestHandler;
}

/** How far the guards of one route were asked, and which of its handlers runs now. */
interface Progress {
  route: unknown;
  at: number;
  asked: number;
}

/** Guards that stand next to each other in a route are asked in one call; the one that takes is asked last. */
export function guards<C extends AnyCatalog = AnyCatalog>(options: GuardOptions<Request, C>): ExpressGuards<C> {
  const of = new Guards<Request>(options as unknown as GuardOptions<Request, never>, {
    header: (req, name) => req.get(name),
    param: (req, name) => {
      const found = req.params[name];
      return Array.isArray(found) ? found.join("/") : found; // of a wildcard
    },
    view: viewOf,
  });
  const progress = new WeakMap<Request, Progress>();

  function guard(requirement: Requirement<Request>): RequestHandler {
    const middleware: RequestHandler = async (req, res, next) => {
      try {
        const layers = layersOf(req);
        let now = progress.get(req);
        if (now === undefined || now.route !== req.route) {
          now = { route: req.route, at: -1, asked: 0 };
          progress.set(req, now);
        }
        now.at = layers.findIndex(({ handler }, index) => index > (now?.at ?? -1) && handler === middleware);
        if (now.at >= 0 && now.at < now.asked) return next();
        const { at } = now;
        const outcome = await of.outcome(req, () => {
          if (at < 0) return [requirement]; // by use(), outside of any route
          const together = of.together(layers.slice(at));
          now.asked = at + together.length;
          return together;
        });
        if (outcome.problem !== undefined) return send(res, outcome.problem);
        req.workspace = outcome.workspace;
        for (const [name, value] of Object.entries(outcome.headers)) res.setHeader(name, value);
      } catch (error) {
        return next(error);
      }
      return next();
    };
    return of.mark(middleware, requirement);
  }

  return {
    requireWorkspace: guard({ actions: [] }),
    requireRole: (...names) => guard(roles(names)),
    requireFeature: (name) => guard(feature(name)),
    requireAction: (name, more) => guard(action(name, more as ActionOptions<Request>)),
  };
}

/** Tell the end user of a denial, or of an error of the client's. False for any other error: nothing was sent. */
export function problem(res: Response, what: unknown): boolean {
  const found = problemOf(what, console, viewOf(res.req));
  if (found !== undefined) send(res, found);
  return found !== undefined;
}

function viewOf(req: Request): string {
  return `${req.method} ${req.baseUrl}${req.route?.path ?? req.path}`;
}

function send(res: Response, { status, headers, body }: ProblemReply): void {
  res.status(status);
  for (const [name, value] of Object.entries(headers)) res.setHeader(name, value);
  res.end(body);
}

/** The handlers of the request's route that its method reaches. */
function layersOf(req: Request): Layer[] {
  const stack: { handle: unknown; method?: string }[] = req.route?.stack ?? [];
  const method = req.method.toLowerCase();
  const methods = [undefined, method, ...(method === "head" ? ["get"] : [])];
  return stack.filter((layer) => methods.includes(layer.method)).map(({ handle }) => ({ handler: handle, place: "" }));
}
