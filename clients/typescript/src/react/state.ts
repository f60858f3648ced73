/**
 * What the provider gives to everything below it.
 */

import { createContext, useContext } from "react";

import type { Quota } from "../answers.js";

/** A row of `GET /workspaces`. */
export interface OwnWorkspace {
  id: string;
  slug: string;
  name: string;
  plan_tier: string;
  role: string;
}

export interface UserFeature {
  enabled: boolean;
  title: string;
  /** The plans that have it, cheapest first. */
  unlocked_by: string[];
}

/** `GET /workspaces/{id}/entitlements`, by the user's own token. */
export interface UserEntitlements {
  workspace: { id: string; slug: string; name: string };
  role: string;
  plan: string;
  features: Record<string, UserFeature>;
  quotas: Record<string, Quota>;
  actions: Record<string, boolean>;
  policy_revision: string;
}

export interface Workspaces {
  /** By slug; empty until they are known. */
  workspaces: OwnWorkspace[];
  /** The one that was chosen before in this browser, else the first; undefined until they are known. */
  currentWorkspace: OwnWorkspace | undefined;
  /** By id or slug; one of the user's own. */
  setWorkspace: (idOrSlug: string) => void;
  /** As the browser's, with the user's token and X-Workspace-Id. For your own servers alone: they get the token. */
  fetch: typeof globalThis.fetch;
  /** Ask again for the workspaces and the entitlements: after an invitation, an upgrade. */
  reload: () => void;
  /** Why the workspaces are not known. */
  error: Error | undefined;
}

export interface Shared extends Workspaces {
  url: string;
  entitlements: UserEntitlements | undefined;
}

export const SharedContext = createContext<Shared | undefined>(undefined);

export function useShared(): Shared {
  const shared = useContext(SharedContext);
  if (shared === undefined) throw new Error("there is no <WorkspaceProvider url token> above this component");
  return shared;
}

export function useWorkspace(): Workspaces {
  return useShared();
}

/** All that the user may and has in the current workspace; undefined until it is known. Draw with it; guards decide. */
export function useEntitlements(): UserEntitlements | undefined {
  return useShared().entitlements;
}
