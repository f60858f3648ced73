/**
 * The sidecar's answers: their types, and what checks that an answer is one. Anything unexpected is no answer.
 */

import { misbehaved } from "./errors.js";
import type { components, paths } from "./openapi.js";

type Schemas = components["schemas"];
type Decision = Schemas["Decision"];

export type Problem = Schemas["Problem"];
export type Quota = Schemas["Quota"];
export type Reservation = Schemas["Reservation"];
export type Settled = Schemas["Settled"];
export type Entitlements = Schemas["Entitlements"] & { allow?: never };
export type Workspace = Schemas["Workspaces"]["workspaces"][number];
export type Upgrade = NonNullable<Decision["upgrade"]>[number];
/** Amounts by meter. */
export type Amounts = Record<string, number>;

type WireQuestion = paths["/v1/authorize"]["post"]["requestBody"]["content"]["application/json"];

/** What plans.yaml declares; `sidecar types --ts` writes one in which a typo does not compile. */
export interface AnyCatalog {
  action: string;
  feature: string;
  meter: string;
  plan: string;
  role: string;
}

/** An action, or `role:…` or `feature:…`. */
export type ActionOf<C extends AnyCatalog> = C["action"] | `role:${C["role"]}` | `feature:${C["feature"]}`;

export type Question<C extends AnyCatalog = AnyCatalog> = Omit<WireQuestion, "action" | "amounts"> & {
  action: ActionOf<C>;
  amounts?: Partial<Record<C["meter"], number>>;
};

export type Granted = Decision & { allow: true; status: 200; role: string; plan: string };
export type Denial = Decision & { allow: false; status: 402 | 403 | 429 };
export type Answer = Granted | Denial;

/** What a stranger gets where there is no decision. */
export interface NotAMember {
  allow: false;
  status: 403;
  reason: "not_a_member";
  message: string;
}

type Fields = Record<string, unknown>;
type Kind = "string" | "boolean" | "number" | "object";

const STATUSES = [200, 402, 403, 429];
// RFC 3339, with its time zone.
const MOMENT = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/;

class Misread extends Error {}

/** *document* itself, once *check* has found nothing wrong with it; else Unavailable. */
function read<T>(document: unknown, name: string, check: (fields: Fields) => void): T {
  try {
    check(fields(document, name));
  } catch (error) {
    if (error instanceof Misread) throw misbehaved(error.message, error);
    throw error;
  }
  return document as T;
}

export function answerFrom(document: unknown): Answer {
  return read(document, "the decision", (answer) => {
    need(answer, "allow", "boolean");
    need(answer, "status", "number");
    for (const name of ["reason", "message", "decision_id", "policy_revision"]) need(answer, name, "string");
    for (const name of ["role", "plan"]) may(answer, name, "string");
    if ("workspace" in answer) {
      const workspace = fields(answer["workspace"], "workspace");
      for (const name of ["id", "slug"]) need(workspace, name, "string");
    }
    const facts = fields(answer["facts"], "facts");
    moment(facts, "at");
    need(facts, "cached", "boolean");
    if ("lag_ms" in facts) whole(facts, "lag_ms");
    const needs = fields(answer["needs"] ?? {}, "needs");
    may(needs, "feature", "string");
    for (const role of array(needs["roles"] ?? [], "needs.roles")) {
      if (typeof role !== "string") throw wrong("needs.roles", role);
    }
    for (const upgrade of array("upgrade" in answer ? answer["upgrade"] : [], "upgrade")) checkUpgrade(upgrade);
    checkQuotas("quota" in answer ? answer["quota"] : {});
    if ("retry_after" in answer) whole(answer, "retry_after");
    may(answer, "replayed", "boolean");
    if (answer["reservation"] !== null) checkReservation(answer["reservation"]);
    checkAgreement(answer);
  });
}

/** The fields of a decision agree, above all those that allow. */
function checkAgreement(answer: Fields): void {
  const { allow, status, reason, role, plan } = answer;
  if (!STATUSES.includes(status as number) || allow !== (status === 200) || allow !== (reason === "granted")) {
    throw new Misread(`allow ${allow}, status ${status} and reason ${reason} do not agree`);
  }
  const upgrades = ((answer["upgrade"] ?? []) as unknown[]).length;
  if ((status === 402) !== upgrades > 0) throw new Misread(`status ${status} with ${upgrades} plans to upgrade to`);
  const waits = "retry_after" in answer;
  if (waits ? status !== 402 && status !== 429 : status === 429) {
    throw new Misread(`status ${status} with retry_after ${answer["retry_after"]}`);
  }
  if (allow && (role === undefined || plan === undefined)) {
    throw new Misread("it allows somebody without a role or a plan");
  }
  if (!allow && answer["reservation"] !== null) throw new Misread("it denies, and holds a reservation");
}

export function settledFrom(document: unknown): Settled {
  return read(document, "the settlement", (answer) => {
    const reservation = fields(answer["reservation"], "reservation");
    checkReservation(reservation);
    if (reservation["committed"] !== null) checkAmounts(reservation["committed"], "committed");
    checkQuotas(answer["quota"]);
    may(answer, "replayed", "boolean");
  });
}

export function entitlementsFrom(document: unknown): Entitlements {
  return read(document, "the entitlements", (answer) => {
    const workspace = fields(answer["workspace"], "workspace");
    for (const name of ["id", "slug", "name"]) need(workspace, name, "string");
    for (const name of ["role", "plan", "policy_revision"]) need(answer, name, "string");
    for (const name of ["features", "actions"]) {
      const may = fields(answer[name], name);
      for (const each of Object.keys(may)) need(may, each, "boolean");
    }
    checkQuotas(answer["quotas"]);
  });
}

export function pageFrom(document: unknown): { workspaces: Workspace[]; next: string | null } {
  return read(document, "the page", (page) => {
    for (const row of array(page["workspaces"], "workspaces")) {
      const workspace = fields(row, "a workspace");
      for (const name of ["id", "slug", "name", "role", "plan"]) need(workspace, name, "string");
    }
    if (page["next"] !== null) need(page, "next", "string");
  });
}

function checkUpgrade(value: unknown): void {
  const upgrade = fields(value, "an upgrade");
  need(upgrade, "plan", "string");
  need(upgrade, "title", "string");
  const price = fields(upgrade["price"], "price");
  whole(price, "amount");
  need(price, "currency", "string");
  need(price, "per", "string");
}

function checkReservation(value: unknown): void {
  const reservation = fields(value, "reservation");
  need(reservation, "id", "string");
  moment(reservation, "expires_at");
  checkAmounts(reservation["amounts"], "reservation.amounts");
  may(reservation, "state", "string");
}

function checkAmounts(value: unknown, name: string): void {
  const amounts = fields(value, name);
  for (const meter of Object.keys(amounts)) whole(amounts, meter);
}

function checkQuotas(value: unknown): void {
  for (const [meter, each] of Object.entries(fields(value, "the quotas"))) {
    const quota = fields(each, `the quota of ${meter}`);
    for (const name of ["used", "reserved"]) whole(quota, name);
    for (const name of ["limit", "remaining"]) if (quota[name] !== null) whole(quota, name);
    if (quota["resets_at"] !== null) moment(quota, "resets_at");
    if ("grows_at" in quota) moment(quota, "grows_at");
    if ("over_by" in quota) whole(quota, "over_by");
  }
}

function fields(value: unknown, name: string): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw wrong(name, value);
  return value as Fields;
}

function array(value: unknown, name: string): unknown[] {
  if (!Array.isArray(value)) throw wrong(name, value);
  return value;
}

function need(value: Fields, name: string, kind: Kind): void {
  // An own field: what stands in a prototype was not sent.
  if (!Object.hasOwn(value, name) || typeof value[name] !== kind) throw wrong(name, value[name]);
}

function may(value: Fields, name: string, kind: Kind): void {
  if (name in value) need(value, name, kind);
}

function whole(value: Fields, name: string): void {
  if (!Number.isInteger(value[name])) throw wrong(name, value[name]);
}

function moment(value: Fields, name: string): void {
  const text = value[name];
  if (typeof text !== "string" || !MOMENT.test(text) || Number.isNaN(Date.parse(text))) throw wrong(name, text);
}

function wrong(name: string, value: unknown): Misread {
  return new Misread(`${name} is ${(JSON.stringify(value) ?? "missing").slice(0, 60)}`);
}
