/// <reference lib="esnext.disposable" preserve="true" />
/**
 * The sidecar as a backend sees it: questions in, answers out.
 */

import {
  type AnyCatalog,
  type ActionOf,
  type Answer,
  type Denial,
  type Entitlements,
  type Granted,
  type NotAMember,
  type Question,
  type Reservation,
  type Settled,
  type Workspace,
  answerFrom,
  entitlementsFrom,
  pageFrom,
  settledFrom,
} from "./answers.js";
import { Refused, Unavailable, misbehaved } from "./errors.js";
import { Wire, problemFrom } from "./wire.js";

const PER_QUESTION_MS = 2; // as the sidecar gives each further question of a batch

export interface Options {
  /** `http://HOST:PORT`, or `https://HOST`. */
  url: string;
  /** A caller's token, of `sidecar token`. It never goes to a browser. */
  token?: string | undefined;
  /** For a whole call, by default 1000. */
  timeoutMs?: number | undefined;
}

export interface CallOptions {
  /** Sent as X-Request-ID, so that one id leads through all logs: 1 to 128 letters, digits and `._:/+=@-`. */
  requestId?: string | undefined;
}

/** What is held, until it is committed, released, or expires. Disposed of, it is released if nobody has committed. */
export interface Hold extends Granted {
  reservation: Reservation;
  /**
   * Take *amounts* and give the rest back; other meters are taken in full, without amounts all of them. All zero is a
   * release. After Unavailable it may have been carried out: call it again.
   */
  commit(options?: { amounts?: Record<string, number> } & CallOptions): Promise<Settled>;
  /** Give all of it back. */
  release(options?: CallOptions): Promise<Settled>;
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Safe to share. A denial is a value, `{allow: false, status, reason, …}`. Unavailable is thrown when there is no
 * well-formed answer, and Refused for every other problem below 500.
 *
 * A call whose connection breaks is sent once more, unless it takes something and has no `idempotency_key`.
 */
export class Sidecar<C extends AnyCatalog = AnyCatalog> {
  readonly #wire: Wire;

  constructor({ url, token, timeoutMs = 1000 }: Options) {
    this.#wire = new Wire(url, token, timeoutMs);
  }

  /** Whether the user may. Nothing is taken, unless the question says another `mode`. */
  async authorize(question: Question<C>, options: CallOptions = {}): Promise<Answer> {
    const takes = question.mode !== undefined && question.mode !== "check";
    return answerFrom(
      await this.#wire.document({
        method: "POST",
        target: "/v1/authorize",
        body: question,
        requestId: options.requestId,
        repeatable: !takes || question.idempotency_key !== undefined,
      }),
    );
  }

  /** Check up to 1,000 questions in one call; the answers are in their order. Refused if one of them is not valid. */
  async batch(questions: readonly Question<C>[], options: CallOptions = {}): Promise<Answer[]> {
    if (questions.length === 0) return [];
    const document = await this.#wire.document({
      method: "POST",
      target: "/v1/authorize/batch",
      body: { questions },
      requestId: options.requestId,
      repeatable: true,
      extraMs: (questions.length - 1) * PER_QUESTION_MS,
    });
    const answers = (document as { answers?: unknown } | null)?.answers;
    if (!Array.isArray(answers) || answers.length !== questions.length) {
      throw misbehaved(`${questions.length} questions have not as many answers`);
    }
    for (const each of answers) {
      if (typeof each === "object" && each !== null && !("allow" in each)) throw problemFrom(each.status, each);
    }
    return answers.map(answerFrom);
  }

  /** Take it now. With an `idempotency_key` a retry takes nothing more, and its answer is `replayed`. */
  async consume(question: Question<C>, options: CallOptions = {}): Promise<Answer> {
    return this.authorize({ ...question, mode: "consume" }, options);
  }

  /** Hold it for `ttl_seconds`, by default 60. The answer is a Hold, or a denial. */
  async reserve(question: Question<C>, options: CallOptions = {}): Promise<Hold | Denial> {
    const answer = await this.authorize({ ...question, mode: "reserve" }, options);
    if (!answer.allow) return answer;
    if (answer.reservation === null) throw misbehaved("a reservation was granted, and there is none in the answer");
    return this.#hold(answer, answer.reservation);
  }

  /** All that a member may and has: to draw with, not to guard by. A stranger's is a denial. */
  async entitlements(
    { user, workspace }: { user: string; workspace: string },
    options: CallOptions = {},
  ): Promise<Entitlements | NotAMember> {
    const target = `/v1/workspaces/${encodeURIComponent(workspace)}/entitlements?user=${encodeURIComponent(user)}`;
    try {
      return entitlementsFrom(
        await this.#wire.document({ method: "GET", target, requestId: options.requestId, repeatable: true }),
      );
    } catch (error) {
      if (error instanceof Refused && error.status === 403 && error.problem.code === "not_a_member") {
        const message = error.problem.detail ?? error.problem.title;
        return { allow: false, status: 403, reason: "not_a_member", message };
      }
      throw error;
    }
  }

  /** Where *user* may perform *action* now; by default all their workspaces. Fetches pages as needed. */
  async *workspacesOf(
    user: string,
    options: { action?: ActionOf<C> } & CallOptions = {},
  ): AsyncGenerator<Workspace, void, undefined> {
    const query = new URLSearchParams(options.action === undefined ? {} : { action: options.action });
    for (;;) {
      const target = `/v1/users/${encodeURIComponent(user)}/workspaces?${query}`;
      const page = pageFrom(
        await this.#wire.document({ method: "GET", target, requestId: options.requestId, repeatable: true }),
      );
      yield* page.workspaces;
      if (page.next === null) return;
      if (page.next === query.get("after")) throw misbehaved("the next page is the same page");
      query.set("after", page.next);
    }
  }

  #hold(answer: Granted, reservation: Reservation): Hold {
    let open = true;
    const settle = async (effect: "commit" | "release", body: unknown, options: CallOptions) =>
      settledFrom(
        await this.#wire.document({
          method: "POST",
          target: `/v1/reservations/${encodeURIComponent(reservation.id)}/${effect}`,
          body,
          requestId: options.requestId,
          repeatable: true,
        }),
      );
    const release: Hold["release"] = async (options = {}) => {
      const settled = await settle("release", undefined, options);
      open = false;
      return settled;
    };
    const commit: Hold["commit"] = async ({ amounts, ...options } = {}) => {
      if (amounts !== undefined && isAllZero(amounts, reservation.amounts)) return release(options);
      try {
        const settled = await settle("commit", amounts === undefined ? undefined : { amounts }, options);
        open = false;
        return settled;
      } catch (error) {
        // It may have succeeded, and what was used must not be given back: the hold expires by itself.
        if (error instanceof Unavailable) open = false;
        throw error;
      }
    };
    const dispose = async () => {
      if (!open) return;
      try {
        await release();
      } catch (error) {
        if (!(error instanceof Unavailable || error instanceof Refused)) throw error;
        // The block's own error matters more; the hold expires by itself.
        console.warn(`sidecar: reservation ${reservation.id} was left to its time to live: ${error.message}`);
      }
    };
    return { ...answer, reservation, commit, release, [asyncDispose]: dispose } as Hold;
  }
}

// In a runtime without the symbol, compilers look for this one.
const asyncDispose: typeof Symbol.asyncDispose = Symbol.asyncDispose ?? Symbol.for("Symbol.asyncDispose");

function isAllZero(amounts: Record<string, number>, held: Record<string, number>): boolean {
  const meters = [...Object.keys(held), ...Object.keys(amounts)];
  return meters.length > 0 && meters.every((meter) => amounts[meter] === 0);
}
