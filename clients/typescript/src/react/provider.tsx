import { type ReactElement, type ReactNode, useCallback, useEffect, useMemo, useRef, useState } from "react";

import { type OwnWorkspace, type Shared, SharedContext, type UserEntitlements } from "./state.js";

const KEPT_AS = "policy-sidecar.workspace";

export interface WorkspaceProviderProps {
  /** Where the browser reaches the sidecar, or the gateway before it. */
  url: string;
  /** The user's own token, or a function that gives it, which is asked before every call. */
  token: string | (() => string | null | undefined | Promise<string | null | undefined>);
  children?: ReactNode;
}

/** Knows the user's workspaces and which of them is the current one. */
export function WorkspaceProvider({ url, token, children }: WorkspaceProviderProps): ReactElement {
  const base = url.replace(/\/+$/, "");
  const [workspaces, setWorkspaces] = useState<OwnWorkspace[]>([]);
  const [chosen, setChosen] = useState<string | undefined>(undefined);
  const [known, setKnown] = useState<UserEntitlements | undefined>(undefined);
  const [error, setError] = useState<Error | undefined>(undefined);
  const [round, setRound] = useState(0);

  // A function is often made anew by each render: what it is now is asked, and no change of it asks anew.
  const latest = useRef(token);
  latest.current = token;
  const session = typeof token === "string" ? token : "";

  const authorized = useCallback(async (input: RequestInfo | URL, init: RequestInit, workspace?: string) => {
    const given = latest.current;
    const bearer = typeof given === "function" ? await given() : given;
    const headers = new Headers(init.headers ?? (input instanceof Request ? input.headers : undefined));
    if (bearer && !headers.has("Authorization")) headers.set("Authorization", `Bearer ${bearer}`);
    if (workspace !== undefined) headers.set("X-Workspace-Id", workspace);
    return globalThis.fetch(input, { ...init, headers });
  }, []);

  useEffect(() => {
    const { signal, abort } = cancellable();
    pages(base, (target) => authorized(target, { signal })).then(
      (rows) => {
        if (signal.aborted) return;
        setWorkspaces(rows);
        setChosen((before) => before ?? kept());
        setError(undefined);
      },
      (failure: unknown) => {
        if (signal.aborted) return;
        setError(failure instanceof Error ? failure : new Error(String(failure)));
      },
    );
    return abort;
  }, [base, session, round, authorized]);

  const currentWorkspace = workspaces.find(({ id }) => id === chosen) ?? workspaces[0];
  const id = currentWorkspace?.id;

  useEffect(() => {
    if (id === undefined) return;
    const { signal, abort } = cancellable();
    const ask = async () => {
      let found: UserEntitlements | undefined;
      try {
        const response = await authorized(`${base}/workspaces/${encodeURIComponent(id)}/entitlements`, { signal }, id);
        if (response.status >= 500) return;
        found = response.ok ? ((await response.json()) as UserEntitlements) : undefined;
      } catch {
        return; // an outage is no answer: what was known of this workspace stays
      }
      if (!signal.aborted) setKnown(found);
    };
    void ask();
    // They may have paid in another tab.
    const again = () => {
      if (document.visibilityState === "visible") void ask();
    };
    document.addEventListener("visibilitychange", again);
    return () => {
      document.removeEventListener("visibilitychange", again);
      abort();
    };
  }, [base, session, round, id, authorized]);

  const setWorkspace = useCallback(
    (idOrSlug: string) => {
      const found = workspaces.find((each) => each.id === idOrSlug) ?? workspaces.find(({ slug }) => slug === idOrSlug);
      if (found === undefined) throw new RangeError(`${JSON.stringify(idOrSlug)} is none of the user's workspaces`);
      keep(found.id);
      setChosen(found.id);
    },
    [workspaces],
  );
  const fetch = useCallback<typeof globalThis.fetch>(
    async (input, init = {}) => {
      // A server would have to guess whom it is about.
      if (id === undefined) throw new Error("no workspace is known yet: wait for currentWorkspace");
      return authorized(input, init, id);
    },
    [authorized, id],
  );
  const reload = useCallback(() => setRound((before) => before + 1), []);

  const shared = useMemo<Shared>(
    () => ({
      url: base,
      workspaces,
      currentWorkspace,
      setWorkspace,
      fetch,
      reload,
      error,
      // Never those of the workspace before.
      entitlements: known?.workspace.id === id ? known : undefined,
    }),
    [base, workspaces, currentWorkspace, setWorkspace, fetch, reload, error, known, id],
  );
  return <SharedContext.Provider value={shared}>{children}</SharedContext.Provider>;
}

/** All the user's workspaces, page by page. */
async function pages(base: string, get: (target: string) => Promise<Response>): Promise<OwnWorkspace[]> {
  const rows: OwnWorkspace[] = [];
  for (let after: string | undefined; ; ) {
    const response = await get(`${base}/workspaces${after === undefined ? "" : `?after=${encodeURIComponent(after)}`}`);
    if (!response.ok) throw new Error(`the workspaces are not known: status ${response.status}`);
    const page = (await response.json()) as { workspaces: OwnWorkspace[]; next?: string };
    rows.push(...page.workspaces);
    if (page.next === undefined || page.next === after) return rows;
    after = page.next;
  }
}

function cancellable(): { signal: AbortSignal; abort: () => void } {
  const controller = new AbortController();
  return { signal: controller.signal, abort: () => controller.abort() };
}

// A browser may forbid the storage: then the choice lasts as long as the page.
function kept(): string | undefined {
  try {
    return globalThis.localStorage.getItem(KEPT_AS) ?? undefined;
  } catch {
    return undefined;
  }
}

function keep(id: string): void {
  try {
    globalThis.localStorage.setItem(KEPT_AS, id);
  } catch {
    // as above
  }
}
