/**
 * What the guards of all frameworks share: who asks, which guards stand together, and what the end user gets.
 */

import type { ActionOf, AnyCatalog, Denial, NotAMember } from "../answers.js";
import type { Sidecar } from "../sidecar.js";
import { usableRequestId } from "../wire.js";
import { Denied, Misconfigured } from "./errors.js";
import { limitFields } from "./limits.js";
import { type Log, type ProblemReply, problemReply } from "./problems.js";
import { type Requirement, admit, checkJoined, namedUser, namedWorkspace, shown, theOneOf } from "./requirement.js";
import type { CurrentWorkspace } from "./workspace.js";

export interface GuardOptions<K, C extends AnyCatalog = AnyCatalog> {
  sidecar: Sidecar<C>;
  /** The user of the request, null where nobody has signed in. */
  user: (context: K) => string | null | undefined | Promise<string | null | undefined>;
  /**
   * The workspace of the request, by id or slug; by default the path's `workspace`, `workspace_id` or `workspaceId`, or
   * the header X-Workspace-Id.
   */
  workspace?: (context: K) => string | null | undefined | Promise<string | null | undefined>;
  /** What `requireWorkspace` asks where nothing else is required; by default `role:member`. */
  membership?: ActionOf<C>;
  /** By default the console. */
  log?: Log;
}

/** How a framework shows a request. */
export interface Framework<K> {
  header(context: K, name: string): string | undefined;
  param(context: K, name: string): string | undefined;
  /** Method and path of its route, for the log. */
  view(context: K): string;
}

export type Outcome =
  | { workspace: CurrentWorkspace; headers: Record<string, string>; problem?: never }
  | { problem: ProblemReply; workspace?: never };

/** One handler of a route. Only those with the same *place* are called with the same path parameters. */
export interface Layer {
  handler: unknown;
  place: string;
}

const PATH_NAMES = ["workspace", "workspace_id", "workspaceId"];
const guardOf = new WeakMap<object, { of: object; requirement: Requirement<never> }>();

export class Guards<K> {
  readonly #options: GuardOptions<K>;
  readonly #framework: Framework<K>;

  constructor(options: GuardOptions<K, never>, framework: Framework<K>) {
    // A sidecar of a narrower catalog takes what was compiled against that catalog.
    this.#options = options as unknown as GuardOptions<K>;
    this.#framework = framework;
  }

  /** Remember that *handler* is a guard. */
  mark<H extends object>(handler: H, requirement: Requirement<K>): H {
    guardOf.set(handler, { of: this, requirement: requirement as Requirement<never> });
    return handler;
  }

  /**
   * What is required by the guards at the head of *layers* that stand next to each other: they are asked in one call.
   * Misconfigured if quota would be lost because a later guard may still deny.
   */
  together(layers: readonly Layer[]): Requirement<K>[] {
    const requirements: Requirement<K>[] = [];
    for (const { handler, place } of layers) {
      const guard = guardOf.get(handler as object);
      if (guard?.of !== this || place !== layers[0]?.place) break;
      requirements.push(guard.requirement as unknown as Requirement<K>);
    }
    checkJoined(requirements as unknown as Requirement<never>[]);
    const later = layers.slice(requirements.length).some(({ handler }) => guardOf.has(handler as object));
    if (later && requirements.some(({ mode }) => mode === "consume")) {
      throw new Misconfigured(
        "what consumes stands next to the route's other guards, or behind them: " +
          "what it takes would be lost when one of them denies",
      );
    }
    return requirements;
  }

  /** The problem that the request is answered with, or its workspace. Throws what is no mistake of the request's. */
  async outcome(context: K, find: () => readonly Requirement<K>[]): Promise<Outcome> {
    const { sidecar, membership = "role:member", log = console } = this.#options;
    const header = (name: string) => this.#framework.header(context, name);
    try {
      const requirements = find();
      const workspace = await admit(requirements, {
        sidecar,
        context,
        user: namedUser(await this.#options.user(context)),
        workspace: namedWorkspace(await this.#workspace(context)),
        idempotencyKey: header("Idempotency-Key"),
        membership,
        requestId: usableRequestId(header("X-Request-ID")),
      });
      return { workspace, headers: limitFields(shown(requirements, workspace)) };
    } catch (error) {
      const problem = problemReply(error, log, this.#framework.view(context));
      if (problem === undefined) throw error;
      return { problem };
    }
  }

  async #workspace(context: K): Promise<string | null | undefined> {
    if (this.#options.workspace !== undefined) return this.#options.workspace(context);
    const inPath = PATH_NAMES.map((name) => this.#framework.param(context, name)).find((each) => each !== undefined);
    return theOneOf(inPath, this.#framework.header(context, "X-Workspace-Id"));
  }
}

/** The problem of a denial, or of an error of the client's; undefined for any other error. */
export function problemOf(what: unknown, log: Log, view: string | undefined): ProblemReply | undefined {
  const isDenial = typeof what === "object" && what !== null && "allow" in what && what.allow === false;
  return problemReply(isDenial ? new Denied(what as Denial | NotAMember) : what, log, view);
}
