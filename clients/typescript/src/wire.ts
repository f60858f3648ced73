/**
 * One call of the sidecar over `fetch`: a deadline, a request id that comes back, and a document or what is thrown.
 */

import type { Problem } from "./answers.js";
import { Refused, Unavailable, misbehaved } from "./errors.js";

const TOKEN = /^[A-Za-z0-9._~+/=-]{1,4096}$/;
const REQUEST_ID = /^[A-Za-z0-9._:/+=@-]{1,128}$/; // what the sidecar takes; any other it would replace

export interface Call {
  method: "GET" | "POST";
  /** Path and query. */
  target: string;
  body?: unknown;
  requestId?: string | undefined;
  /** May be sent twice: it takes nothing, or its key says that it is the same. */
  repeatable: boolean;
  extraMs?: number;
}

/** The id, if the sidecar would take it as it is. */
export function usableRequestId(text: string | null | undefined): string | undefined {
  return text != null && REQUEST_ID.test(text) ? text : undefined;
}

export class Wire {
  readonly #base: string;
  readonly #headers: Record<string, string>;
  readonly #timeoutMs: number;

  constructor(url: string, token: string | undefined, timeoutMs: number) {
    this.#base = base(url);
    if (token !== undefined && !TOKEN.test(token)) {
      throw new TypeError("the token holds what no token of `sidecar token` has: a blank, a line break?");
    }
    if (!(timeoutMs > 0 && timeoutMs <= 2 ** 31 - 1)) {
      throw new TypeError(`timeoutMs is a number of milliseconds, more than 0, got ${timeoutMs}`);
    }
    this.#headers = token === undefined ? {} : { Authorization: `Bearer ${token}` };
    this.#timeoutMs = timeoutMs;
  }

  /** The document of an answer with 200. A problem below 500 is Refused, everything else Unavailable. */
  async document(call: Call): Promise<unknown> {
    if (call.requestId !== undefined && !usableRequestId(call.requestId)) {
      throw new TypeError("requestId is 1 to 128 letters, digits and ._:/+=@-");
    }
    const requestId = call.requestId ?? crypto.randomUUID();
    const body = call.body === undefined ? null : JSON.stringify(call.body, finite);
    const request: RequestInit = {
      method: call.method,
      body,
      headers: {
        ...this.#headers,
        ...(body === null ? {} : { "Content-Type": "application/json" }),
        "X-Request-ID": requestId,
      },
      redirect: "manual", // a token does not follow one
      signal: AbortSignal.timeout(this.#timeoutMs + (call.extraMs ?? 0)),
    };
    const [response, text] = await this.#exchange(call, request);
    if (response.headers.get("X-Request-ID") !== requestId) {
      throw misbehaved(`status ${response.status} without the X-Request-ID of this question`);
    }
    const document = json(response, text);
    if (response.status !== 200) throw problemFrom(response.status, document);
    return document;
  }

  async #exchange(call: Call, request: RequestInit): Promise<[Response, string]> {
    for (let again = call.repeatable; ; again = false) {
      try {
        const response = await fetch(this.#base + call.target, request);
        return [response, await response.text()];
      } catch (error) {
        const late = request.signal?.aborted ?? false;
        // A server may close an idle connection in the moment of its use.
        if (again && !late) continue;
        const why = late ? "no answer in time" : "no answer";
        throw new Unavailable("sidecar_unreachable", `${why} from the sidecar at ${this.#base}`, { cause: error });
      }
    }
  }
}

function base(url: string): string {
  const wrong = (why: string) => new TypeError(`${JSON.stringify(url)} is no address of a sidecar: ${why}`);
  let found: URL;
  try {
    found = new URL(url);
  } catch {
    throw wrong("expected http://HOST:PORT or https://HOST");
  }
  if (found.protocol !== "http:" && found.protocol !== "https:") throw wrong("fetch speaks http:// and https:// alone");
  if (found.username || found.password) throw wrong("a token is given as `token`");
  if (found.search || found.hash) throw wrong("it has a query or a fragment");
  return found.href.replace(/\/+$/, "");
}

function finite(_: string, value: unknown): unknown {
  // JSON would write null, which means something else.
  if (typeof value === "number" && !Number.isFinite(value)) throw new TypeError(`${value} is no number in JSON`);
  return value;
}

function json(response: Response, text: string): unknown {
  const [type = ""] = (response.headers.get("Content-Type") ?? "").split(";");
  if (type.trim().toLowerCase() !== (response.status === 200 ? "application/json" : "application/problem+json")) {
    throw misbehaved(`status ${response.status} with ${type || "no content type"}`);
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw misbehaved(`status ${response.status} with what is not JSON`, error);
  }
}

/** What a problem of the sidecar's means here; *status* is that of the answer, or of its place in a batch. */
export function problemFrom(status: unknown, document: unknown): Refused | Unavailable {
  const problem = (typeof document === "object" && document !== null ? document : {}) as Partial<Problem>;
  if (typeof problem.code !== "string" || typeof problem.status !== "number" || problem.status !== status) {
    return misbehaved(`status ${status} with what is no problem of the sidecar's`);
  }
  if (problem.status >= 400 && problem.status < 500) return new Refused(problem as Problem);
  if (problem.status >= 500 && problem.status < 600) {
    return new Unavailable(problem.code, problem.detail ?? problem.title ?? problem.code);
  }
  return misbehaved(`status ${status} is none that the sidecar has`);
}
