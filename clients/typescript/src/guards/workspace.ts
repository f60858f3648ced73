/**
 * The workspace of one request, as the decisions about it see it.
 */

import type { ActionOf, AnyCatalog, Entitlements, Granted } from "../answers.js";
import type { Sidecar } from "../sidecar.js";
import { Denied } from "./errors.js";

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

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

  /** Known behind `requireWorkspace`, after `load()`, and where the request names it by its id. */
  get id(): string {
    return UUID.test(this.asked) ? this.asked.toLowerCase() : this.#loaded.workspace.id;
  }

  /** Known behind `requireWorkspace`, and after `load()`. */
  get slug(): string {
    return this.#loaded.workspace.slug;
  }

  /** As `slug`. */
  get name(): string {
    return this.#loaded.workspace.name;
  }

  /** As `slug`. */
  get entitlements(): Entitlements {
    return this.#loaded;
  }

  /** Ask for what is not in a decision: one call, once. */
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
    return { user, asked, role, plan, ...this.#entitlements?.workspace };
  }

  get #decision(): Granted {
    const [first] = Object.values(this.decisions) as Granted[];
    if (first === undefined) throw new Error("no decision was asked for this workspace");
    return first;
  }

  get #loaded(): Entitlements {
    if (this.#entitlements === undefined) {
      throw new Error(
        "id, slug, name and entitlements are in no decision: put requireWorkspace among the guards of this route, " +
          "or await workspace.load()",
      );
    }
    return this.#entitlements;
  }
}
