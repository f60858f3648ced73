/**
 * What is sold, as `GET /plans` says: open to everybody, cached by the browser.
 */

import { useEffect, useState } from "react";

import { useShared } from "./state.js";

export interface Currency {
  amount: number;
  currency: string;
  per: string;
}

export interface SoldPlan {
  plan: string;
  title: string;
  price: Currency;
  features: Record<string, boolean>;
  /** Null is unlimited. */
  limits: Record<string, number | null>;
}

export interface Plans {
  currency: string;
  /** In order of price. */
  plans: SoldPlan[];
  features: Record<string, { title: string }>;
  meters: Record<string, { title: string; kind: string; per: string | null }>;
}

/** Undefined until they are known. */
export function usePlans(wanted = true): Plans | undefined {
  const { url } = useShared();
  const [plans, setPlans] = useState<Plans | undefined>(undefined);
  useEffect(() => {
    if (!wanted) return;
    const controller = new AbortController();
    globalThis
      .fetch(`${url}/plans`, { signal: controller.signal })
      .then((response) => (response.ok ? response.json() : undefined))
      .catch(() => undefined)
      .then((document: Plans | undefined) => {
        if (!controller.signal.aborted) setPlans(document);
      });
    return () => controller.abort();
  }, [url, wanted]);
  return plans;
}
