/**
 * What a request meets instead of its handler, beside Refused and Unavailable.
 */

import type { Denial, NotAMember } from "../answers.js";

export class Denied extends Error {
  override readonly name = "Denied";
  /** The end user's response is to tell the limits, as RateLimit header fields. */
  showsLimits = false;

  constructor(readonly denial: Denial | NotAMember) {
    super(`${denial.reason}: ${denial.message}`);
  }
}

/** The end user's request names no user. */
export class Unauthenticated extends Error {
  override readonly name = "Unauthenticated";
}

/** The end user's request names no workspace, or one that is not valid. */
export class BadRequest extends Error {
  override readonly name = "BadRequest";
}

/** A duplicate: a request with this idempotency key was carried out before. */
export class Repeated extends Error {
  override readonly name = "Repeated";
}

/** The guards of a route cannot be asked as they stand, or ask for what plans.yaml does not declare: a mistake. */
export class Misconfigured extends Error {
  override readonly name = "Misconfigured";
}
