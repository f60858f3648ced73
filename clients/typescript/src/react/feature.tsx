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
  const features = useEntitlements()?.features;
  // An own field: `constructor` is no feature.
  const enabled = features !== undefined && Object.hasOwn(features, name) && features[name]?.enabled === true;
  return <>{enabled ? children : fallback}</>;
}
