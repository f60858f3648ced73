/**
 * What a guard requires of a request, and the calls that check it.
 */

import type { ActionOf, Answer, AnyCatalog, Granted, Question } from "../answers.js";
import type { Sidecar } from "../sidecar.js";
import { BadRequest, Denied, Misconfigured, Repeated, Unauthenticated } from "./errors.js";
import { CurrentWorkspace } from "./workspace.js";

const LONGEST_TEXT = 256;
const LONGEST_KEY = 255;
const MOST_AMOUNT = 10 ** 12;
/** The reason of a denial that is no answer to the user, but the developer's mistake. */
export const UNDECLARED = "unknown_action";

type Awaitable<T> = T | Promise<T>;
/** A value, or a function that reads it from the request. */
export type Given<K, T> = T | ((context: K) => Awaitable<T>);

export interface ActionOptions<K, C extends AnyCatalog = AnyCatalog> {
  /** `consume` takes the amounts before the handler begins; by default `check`. */
  mode?: "check" | "consume";
  amounts?: ((context: K) => unknown) | Partial<Record<C["meter"], number | ((context: K) => unknown)>>;
  resource?: Given<K, string | undefined>;
  context?: Given<K, Record<string, unknown> | undefined>;
  /** By default the header Idempotency-Key. */
  idempotencyKey?: Given<K, string | undefined | null>;
  /** A duplicate, whose key has taken before, is refused; with `run` it reaches the handler, which is idempotent. */
  replays?: "refuse" | "run";
  /** The response has RateLimit header fields. */
  ratelimit?: boolean;
}

/** At least one of *actions* is granted; without any, membership is enough. */
export interface Requirement<K> extends ActionOptions<K> {
  actions: readonly string[];
}

/** What a framework knows of one request. */
export interface Asker<K> {
  sidecar: Sidecar;
  context: K;
  user: string;
  workspace: string;
  idempotencyKey: string | undefined;
  membership: string;
  requestId: string | undefined;
}

export function action<K>(name: string, options: ActionOptions<K> = {}): Requirement<K> {
  const { mode = "check", replays = "refuse", amounts = {} } = options;
  if (typeof name !== "string") throw new TypeError(`an action is text, got ${typeof name}`);
  if (mode !== "check" && mode !== "consume") {
    throw new RangeError(`mode is check or consume, got ${mode}: a handler reserves by sidecar.reserve(…)`);
  }
  if (replays !== "refuse" && replays !== "run") throw new RangeError(`replays is refuse or run, got ${replays}`);
  for (const [meter, amount] of typeof amounts === "function" ? [] : Object.entries(amounts)) {
    if (typeof amount !== "function" && !isAmount(amount)) {
      throw new RangeError(`${meter} is a whole number from 1 to ${MOST_AMOUNT}, got ${amount}`);
    }
  }
  return { ...options, actions: [name] };
}

export function roles<K>(names: readonly string[]): Requirement<K> {
  if (names.length === 0 || !names.every((name) => typeof name === "string")) {
    throw new TypeError('requireRole needs the roles of which one is enough: requireRole("owner", "admin")');
  }
  return { actions: names.map((name) => `role:${name}`) };
}

export function feature<K>(name: string): Requirement<K> {
  if (typeof name !== "string") throw new TypeError('requireFeature needs the feature: requireFeature("video_avatar")');
  return { actions: [`feature:${name}`] };
}

/** Misconfigured unless at most one of *requirements* takes: its quota would be lost when another one denies. */
export function checkJoined(requirements: readonly Requirement<never>[]): void {
  if (requirements.filter(({ mode }) => mode === "consume").length > 1) {
    throw new Misconfigured(
      "a route consumes once: let one action take both meters in plans.yaml, or reserve in the handler",
    );
  }
}

/**
 * The workspace, when all *requirements* hold. All checks together are one call; the one that takes comes last.
 * Misconfigured if one of them asks for a name that nobody declares, even where others deny, or one role of several
 * would do: the mistake shows whoever sends the first request.
 */
export async function admit<K>(
  requirements: readonly Requirement<K>[],
  asker: Asker<K>,
): Promise<CurrentWorkspace> {
  const acting = requirements.filter(({ actions }) => actions.length > 0);
  const asking: readonly Requirement<K>[] = acting.length > 0 ? acting : [{ actions: [asker.membership] }];
  const decisions: Record<string, Granted> = {};
  const checks = asking.filter(({ mode }) => mode !== "consume");
  const answered = await check(checks, asker);
  for (const answer of answered.flat()) checkDeclared(answer);
  for (const [index, answers] of answered.entries()) {
    const requirement = checks[index] as Requirement<K>;
    for (const [at, answer] of answers.entries()) {
      if (answer.allow) decisions[requirement.actions[at] as string] = answer;
    }
    if (!answers.some(({ allow }) => allow)) throw denied(nearest(answers), requirement);
  }
  for (const requirement of asking) {
    if (requirement.mode === "consume") decisions[requirement.actions[0] as string] = await consume(requirement, asker);
  }
  return new CurrentWorkspace(asker.sidecar, asker.user, asker.workspace, decisions, asker.requestId);
}

function checkDeclared(answer: Answer): void {
  if (answer.reason === UNDECLARED) throw new Misconfigured(answer.message);
}

/** The answers whose limits the end user's response tells. */
export function shown<K>(requirements: readonly Requirement<K>[], workspace: CurrentWorkspace): Answer[] {
  return requirements
    .filter(({ ratelimit }) => ratelimit)
    .flatMap(({ actions }) => actions)
    .flatMap((each) => workspace.decisions[each as ActionOf<AnyCatalog>] ?? []);
}

export function namedUser(value: unknown): string {
  if (value === null || value === undefined || value === "") throw new Unauthenticated("the request names no user");
  if (typeof value !== "string") {
    throw new TypeError(`user(…) returns text, or null where there is no user; got ${typeof value}`);
  }
  return value;
}

export function namedWorkspace(value: unknown): string {
  if (value === null || value === undefined || value === "") {
    throw new BadRequest("the request names no workspace: in its path, or in X-Workspace-Id");
  }
  return clean(String(value), "the workspace", LONGEST_TEXT);
}

/** The workspace from path or header. BadRequest if they differ, before any call. */
export function theOneOf(inPath: string | undefined, inHeader: string | undefined): string | undefined {
  if (inPath !== undefined && inHeader !== undefined && inPath !== inHeader) {
    throw new BadRequest("the path and X-Workspace-Id name different workspaces");
  }
  return inPath ?? inHeader;
}

async function check<K>(checks: readonly Requirement<K>[], asker: Asker<K>): Promise<Answer[][]> {
  const questions: Question[] = [];
  for (const requirement of checks) {
    for (const action of requirement.actions) questions.push(await question(requirement, action, asker));
  }
  const { requestId } = asker;
  const [only] = questions;
  const answers =
    questions.length === 1 && only !== undefined
      ? [await asker.sidecar.authorize(only, { requestId })]
      : await asker.sidecar.batch(questions, { requestId });
  return checks.map(({ actions }) => answers.splice(0, actions.length));
}

async function consume<K>(requirement: Requirement<K>, asker: Asker<K>): Promise<Granted> {
  const given = (await found(requirement.idempotencyKey, asker.context)) || asker.idempotencyKey;
  const key = given == null ? undefined : clean(String(given), "the Idempotency-Key", LONGEST_KEY);
  const asked = await question(requirement, requirement.actions[0] as string, asker);
  // With a key of its own each request allows a retry when its connection breaks, and a refund.
  const question_ = { ...asked, idempotency_key: key ?? crypto.randomUUID() };
  const answer = await asker.sidecar.consume(question_, { requestId: asker.requestId });
  checkDeclared(answer);
  if (!answer.allow) throw denied(answer, requirement);
  if (answer.replayed && key !== undefined && requirement.replays !== "run") {
    // Else a client could send one key with every request, pay for the first and be served for ever.
    throw new Repeated("a request with this Idempotency-Key was carried out before");
  }
  return answer;
}

async function question<K>(requirement: Requirement<K>, action: string, asker: Asker<K>): Promise<Question> {
  const { user, workspace, context } = asker;
  const details = {
    amounts: await foundAmounts(requirement.amounts ?? {}, context),
    resource: await found(requirement.resource, context),
    context: await found(requirement.context, context),
  };
  const given = Object.entries(details).filter(([, value]) => value !== undefined && value !== null);
  return { user, workspace, action, ...Object.fromEntries(given) } as Question;
}

async function foundAmounts<K>(
  amounts: NonNullable<ActionOptions<K>["amounts"]>,
  context: K,
): Promise<Record<string, number> | undefined> {
  const given: unknown = typeof amounts === "function" ? await amounts(context) : amounts;
  if (typeof given !== "object" || given === null || Array.isArray(given)) {
    throw new BadRequest("the amounts are no mapping of meters to whole numbers");
  }
  const values: Record<string, number> = {};
  for (const [meter, each] of Object.entries(given)) {
    const amount: unknown = await found(each as Given<K, unknown>, context);
    if (!isAmount(amount)) throw new BadRequest(`${meter} must be a whole number from 1 to ${MOST_AMOUNT}`);
    values[meter] = amount;
  }
  return Object.keys(values).length > 0 ? values : undefined;
}

async function found<K, T>(given: Given<K, T> | undefined, context: K): Promise<T | undefined> {
  return typeof given === "function" ? (given as (context: K) => Awaitable<T>)(context) : given;
}

/** The lowest role that would do: of several roles, the one that most roles include. */
function nearest(answers: readonly Answer[]): Answer {
  const rolesOf = (answer: Answer) => (answer.needs && "roles" in answer.needs ? answer.needs.roles.length : 0);
  return answers.reduce((best, each) => (rolesOf(each) > rolesOf(best) ? each : best));
}

function denied<K>(answer: Answer, requirement: Requirement<K>): Denied {
  if (answer.allow) throw new TypeError("a grant is no denial");
  const error = new Denied(answer);
  error.showsLimits = requirement.ratelimit ?? false;
  return error;
}

function isAmount(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 1 && (value as number) <= MOST_AMOUNT;
}

function clean(text: string, name: string, longest: number): string {
  if ([...text].length > longest) throw new BadRequest(`${name} is longer than ${longest} characters`);
  // With the flag u a surrogate matches only where it stands alone.
  if (text === "" || text.includes("\0") || /[\ud800-\udfff]/u.test(text)) {
    throw new BadRequest(`${name} is no text that could name anything`);
  }
  return text;
}
