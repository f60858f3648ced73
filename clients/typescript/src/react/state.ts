/**
 * What the provider gives to everything below it.
 */

import { createContext, useContext } from "react";

import type { components } from "../openapi.js";

type Schemas = components["schemas"];

/** A row of `GET /workspaces`. */
export type OwnWorkspace = Schemas["Place"];
/** `GET /workspaces/{id}/entitlements`, by the user's own token. */
export type UserEntitlements = Schemas["OwnEntitlements"];
export type UserFeature = UserEntitlements["features"][string];

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
