/**
 * What is sold, as `GET /plans` says: open to everybody, cached by the browser.
 */

import { useEffect, useState } from "react";

import type { components } from "../openapi.js";
import { useShared } from "./state.js";

export type Plans = components["schemas"]["Plans"];
export type SoldPlan = Plans["plans"][number];
export type Price = SoldPlan["price"];

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
