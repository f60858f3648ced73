/**
 * RateLimit header fields: what of a quota is left, as draft-ietf-httpapi-ratelimit-headers writes it.
 */

import type { Answer } from "../answers.js";

const LARGEST = 10 ** 15 - 1; // a whole number in a structured field

/**
 * RateLimit-Policy and RateLimit, with one item for each meter that has a limit; none, no fields. `t` is when `r` grows
 * next: at the end of the first reservation or of the period.
 */
export function limitFields(answers: Iterable<Answer>): Record<string, string> {
  const policies = new Map<string, string>();
  const limits = new Map<string, string>();
  for (const answer of answers) {
    for (const [meter, quota] of Object.entries(answer.quota ?? {})) {
      if (quota.limit === null || quota.remaining === null) continue;
      const growsAt = quota.grows_at ?? quota.resets_at;
      const waitMs = growsAt === null ? undefined : Date.parse(growsAt) - Date.parse(answer.facts.at);
      const wait = waitMs === undefined ? "" : `;t=${Math.max(Math.ceil(waitMs / 1000), 0)}`;
      policies.set(meter, `"${meter}";q=${Math.min(quota.limit, LARGEST)}`);
      limits.set(meter, `"${meter}";r=${Math.min(Math.max(quota.remaining, 0), LARGEST)}${wait}`);
    }
  }
  if (limits.size === 0) return {};
  return { "RateLimit-Policy": [...policies.values()].join(", "), RateLimit: [...limits.values()].join(", ") };
}
