import type { ReactElement, ReactNode } from "react";

import { useEntitlements } from "./state.js";

export interface FeatureProps {
  name: string;
  /** What stands there without the feature, and until it is known. */
  fallback?: ReactNode;
  children?: ReactNode;
}

/** Its children, where the current workspace has the feature. It draws; the route behind it needs a guard. */
export function Feature({ name, fallback = null, children }: FeatureProps): ReactElement {
  const feature = useEntitlements()?.features[name];
  return <>{feature?.enabled === true ? children : fallback}</>;
}
