/**
 * The workspace of one request, as the decisions about it see it.
 */

import type { ActionOf, AnyCatalog, Entitlements, Granted } from "../answers.js";
import type { Sidecar } from "../sidecar.js";
import { Denied } from "./errors.js";

export class CurrentWorkspace<C extends AnyCatalog = AnyCatalog> {
  readonly #sidecar: Sidecar<C>;
  readonly #requestId: string | undefined;
  #entitlements: Entitlements | undefined;

  /** *asked*: as the request names it, by id or slug. *decisions*: what the guards were told, by action. */
  constructor(
    sidecar: Sidecar<C>,
    readonly user: string,
    readonly asked: string,
    readonly decisions: Partial<Record<ActionOf<C>, Granted>>,
    requestId: string | undefined,
  ) {
    this.#sidecar = sidecar;
    this.#requestId = requestId;
  }

  get role(): C["role"] {
    return this.#decision.role;
  }

  get plan(): C["plan"] {
    return this.#decision.plan;
  }

  get id(): string {
    return this.#decided.id;
  }

  get slug(): string {
    return this.#decided.slug;
  }

  /** Known after `load()`. */
  get name(): string {
    return this.#loaded.workspace.name;
  }

  /** Known after `load()`. */
  get entitlements(): Entitlements {
    return this.#loaded;
  }

  /** Ask for what is in no decision, `name` and `entitlements`: one call, once. */
  async load(): Promise<this> {
    if (this.#entitlements !== undefined) return this;
    const found = await this.#sidecar.entitlements(
      { user: this.user, workspace: this.asked },
      { requestId: this.#requestId },
    );
    if (found.allow === false) throw new Denied(found);
    this.#entitlements = found;
    return this;
  }

  toJSON(): Record<string, unknown> {
    const { user, asked, role, plan } = this;
    return { user, asked, role, plan, ...this.#decision.workspace, ...this.#entitlements?.workspace };
  }

  get #decision(): Granted {
    const [first] = Object.values(this.decisions) as Granted[];
    if (first === undefined) throw new Error("no decision was asked for this workspace");
    return first;
  }

  get #decided(): { id: string; slug: string } {
    return this.#decision.workspace ?? this.#loaded.workspace; // an older sidecar does not tell it
  }

  get #loaded(): Entitlements {
    if (this.#entitlements === undefined) {
      throw new Error("what no decision tells, as name and entitlements, is known after await workspace.load()");
    }
    return this.#entitlements;
  }
}
