// What plans.yaml declares, written by `sidecar types --ts`: do not edit it, write it anew.

export type Action =
  | "platform.use"
  | "data.view_own"
  | "scenarios.create"
  | "team_analytics.view"
  | "members.invite"
  | "members.remove"
  | "members.change_role"
  | "workspace.update"
  | "billing.manage"
  | "workspace.delete"
  | "roleplay.start"
  | "roleplay.start_with_avatar"
  | "coaching.start"
  | "analytics.view"
  | "team_sessions.start"
  | "recording.start";

export type Feature =
  | "scenario_builder"
  | "video_avatar"
  | "live_coaching"
  | "analytics"
  | "team_sessions"
  | "team_analytics";

export type Meter =
  | "minutes"
  | "members"
  | "scenarios";

export type Plan =
  | "starter"
  | "pro"
  | "team";

export type Role =
  | "member"
  | "admin"
  | "owner";

export interface Catalog {
  action: Action;
  feature: Feature;
  meter: Meter;
  plan: Plan;
  role: Role;
}
