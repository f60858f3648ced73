/**
 * What is thrown. A denial is not: it is an answer, with `allow: false`.
 */

import type { Problem } from "./answers.js";

/**
 * There is no answer: nothing was decided. Treat it as no, and tell the user that it is not their fault.
 *
 * `code` is that of the sidecar's problem, or `sidecar_unreachable` or `sidecar_misbehaved`. `uncertain`: the call may
 * have taken effect all the same.
 */
export class Unavailable extends Error {
  override readonly name = "Unavailable";
  readonly code: string;
  readonly uncertain: boolean;

  constructor(code: string, detail: string, options: { uncertain?: boolean; cause?: unknown } = {}) {
    super(`${code}: ${detail}`, "cause" in options ? { cause: options.cause } : undefined);
    this.code = code;
    this.uncertain = options.uncertain ?? true;
  }
}

/** The sidecar refuses this call, by a problem below 500 that is no denial: a mistake of the backend, or a conflict. */
export class Refused extends Error {
  override readonly name = "Refused";
  readonly status: number;
  readonly problem: Problem;

  constructor(problem: Problem) {
    const errors = (problem.errors ?? []).map(
      ({ pointer, detail, suggestion }) =>
        `${pointer} ${detail}${suggestion === undefined ? "" : `; did you mean "${suggestion}"?`}`,
    );
    super([`${problem.status} ${problem.code}: ${problem.detail ?? problem.title}`, ...errors].join("; "));
    this.status = problem.status;
    this.problem = problem;
  }
}

export function misbehaved(detail: string, cause?: unknown): Unavailable {
  return new Unavailable("sidecar_misbehaved", detail, { cause });
}
