export type {
  ActionOf,
  Amounts,
  Answer,
  AnyCatalog,
  Denial,
  Entitlements,
  Granted,
  NotAMember,
  Problem,
  Question,
  Quota,
  Reservation,
  Settled,
  Upgrade,
  Workspace,
} from "./answers.js";
export { Refused, Unavailable } from "./errors.js";
export { type CallOptions, type Hold, type Options, Sidecar } from "./sidecar.js";
