"use client";
/**
 * For React 18 and 19, in the browser: the user's workspaces, what they may there, and what an upgrade would give.
 * It has the user's own token, never a caller's.
 */

export { Feature, type FeatureProps } from "./react/feature.js";
export { type Plans, type Price, type SoldPlan, usePlans } from "./react/plans.js";
export { WorkspaceProvider, type WorkspaceProviderProps } from "./react/provider.js";
export {
  type OwnWorkspace,
  type UserEntitlements,
  type UserFeature,
  type Workspaces,
  useEntitlements,
  useWorkspace,
} from "./react/state.js";
export { WorkspaceSwitcher, type WorkspaceSwitcherProps } from "./react/switcher.js";
export { type UpgradeProblem, UpgradeDialog, type UpgradeDialogProps } from "./react/upgrade.js";
