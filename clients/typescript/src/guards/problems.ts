/**
 * What the end user gets instead of the handler's response: problems as RFC 9457 writes them, the same as those of the
 * Python guards and of the sidecar's own routes.
 */

import type { Denial } from "../answers.js";
import { Refused, Unavailable } from "../errors.js";
import { BadRequest, Denied, Misconfigured, Repeated, Unauthenticated } from "./errors.js";
import { limitFields } from "./limits.js";
import { UNDECLARED } from "./requirement.js";

export type Log = Pick<Console, "warn" | "error">;

export interface ProblemReply {
  status: number;
  headers: Record<string, string>;
  body: string;
}

const OUTAGE_RETRY_S = "1";
const CONFLICT = 409;

/** Titles of denials by reason. That an action is not declared is none: the guards ask for it, not the user. */
export const DENIALS: Record<string, string> = {
  not_a_member: "The user is not a member of this workspace",
  workspace_suspended: "The workspace is suspended",
  role_insufficient: "The user's role does not allow this",
  feature_not_in_plan: "The plan does not include this",
  quota_exceeded: "There is no room left",
  denied_by_policy: "A rule of the company's own denies this",
};
/** Titles of conflicts by code. */
export const CONFLICTS: Record<string, string> = {
  idempotency_key_reused: "The key was used for another request",
  reservation_settled: "The reservation was settled otherwise",
  reservation_expired: "The reservation has expired, and it does not fit any more",
  commit_exceeds_reservation: "More was committed than is reserved",
  refund_exceeds_use: "More was given back than was taken",
};

/**
 * The problem that *error* is for an end user, undefined if it is none of a guard's or a client's. What is not the end
 * user's mistake goes to the log only, with the *view*.
 */
export function problemReply(error: unknown, log: Log, view: string | undefined): ProblemReply | undefined {
  if (error instanceof Denied) {
    // Of a call that the handler makes itself.
    if (error.denial.reason === UNDECLARED) return defect(error.denial.message, log, view);
    return denial(error);
  }
  if (error instanceof Unauthenticated) {
    const advice = "sign in, and send what proves it with the request";
    return reply(401, "unauthenticated", "Sign in first", advice, { "WWW-Authenticate": "Bearer" });
  }
  if (error instanceof BadRequest) {
    return reply(400, "invalid_request", "The request is not right", error.message);
  }
  if (error instanceof Repeated) {
    const advice = "leave it as it is: the first request has been answered; a new one needs a new key";
    return reply(409, "request_repeated", "This was done before", advice);
  }
  if (error instanceof Unavailable) {
    log.warn(inOneLine(`sidecar: nothing was decided: ${error.message}`));
    const advice = "it is not known whether this is allowed: send the same again after a second";
    const title = "It cannot be decided now whether this is allowed";
    return reply(503, "authorization_unavailable", title, advice, { "Retry-After": OUTAGE_RETRY_S });
  }
  if (error instanceof Refused && error.status === CONFLICT) {
    const { code, detail, title } = error.problem;
    return reply(CONFLICT, code, CONFLICTS[code] ?? "It was settled otherwise before", detail ?? title);
  }
  if (error instanceof Refused || error instanceof Misconfigured) return defect(error.message, log, view);
  return undefined;
}

function defect(cause: string, log: Log, view: string | undefined): ProblemReply {
  const who = view === undefined ? "this backend" : `the view "${view}"`;
  log.error(inOneLine(`sidecar: ${who} asks for what cannot be answered: ${cause}`));
  const advice = "tell the operator: the log of this backend has the cause";
  return reply(500, "authorization_misconfigured", "The server has a defect", advice);
}

/** Names of meters, and paths, may be the end user's, who must not write lines of their own into the log. */
function inOneLine(says: string): string {
  return says.replace(/[\p{Cc}\p{Zl}\p{Zp}]/gu, " ");
}

function denial({ denial, showsLimits }: Denied): ProblemReply {
  const title = DENIALS[denial.reason] ?? "This is not allowed"; // for a reason of a newer sidecar
  const more = "decision_id" in denial ? helpOf(denial) : {};
  const answer = reply(denial.status, denial.reason, title, denial.message, {}, more);
  if ("retry_after" in denial) answer.headers["Retry-After"] = String(denial.retry_after);
  if (showsLimits && "decision_id" in denial) Object.assign(answer.headers, limitFields([denial]));
  return answer;
}

/** What would change the denial, in so far as anything would. */
function helpOf({ needs, upgrade, quota, retry_after, decision_id }: Denial): Record<string, unknown> {
  const help: Record<string, unknown> = {};
  if (needs !== undefined && Object.keys(needs).length > 0) help["needs"] = needs;
  if (upgrade !== undefined) help["upgrade"] = upgrade;
  if (quota !== undefined && Object.keys(quota).length > 0) help["quota"] = quota;
  if (retry_after !== undefined) help["retry_after"] = retry_after;
  return { ...help, decision_id };
}

function reply(
  status: number,
  code: string,
  title: string,
  detail: string,
  headers: Record<string, string> = {},
  more: Record<string, unknown> = {},
): ProblemReply {
  return {
    status,
    headers: { "Content-Type": "application/problem+json", "Cache-Control": "no-store", ...headers },
    body: JSON.stringify({ type: `urn:policy-sidecar:problem:${code}`, title, status, code, detail, ...more }),
  };
}
