import { Feature, UpgradeDialog, type UpgradeProblem, WorkspaceSwitcher } from "policy-sidecar/react";
import { useEntitlements, useWorkspace } from "policy-sidecar/react";
import { useState } from "react";

import { Invite } from "./invite.js";
import { useLinks } from "./links.js";
import { Scenarios } from "./scenarios.js";
import type { Session } from "./sign-in.js";

/** The answer of a route; undefined if it was denied, and then a 402 has opened the dialog, or the page says why. */
export type Call = <T>(method: string, target: string, body?: object) => Promise<T | undefined>;
export type Speaks = { call: Call; say: (text: string) => void };

export function Trainer({ session, onSignOut }: { session: Session; onSignOut: () => void }) {
  const { currentWorkspace, fetch, reload, error } = useWorkspace();
  const entitlements = useEntitlements();
  const [problem, setProblem] = useState<UpgradeProblem>();
  const [said, say] = useState("");

  const call: Call = async (method, target, body) => {
    if (method !== "GET") say("");
    const sent = { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
    try {
      const response = await fetch(target, body === undefined ? { method } : { method, ...sent });
      const answer = await response.json();
      if (response.ok) return answer;
      if (response.status === 401) onSignOut();
      else if (response.status === 402) setProblem(answer);
      else say(answer.detail ?? answer.title);
    } catch {
      say("The trainer does not answer: try again.");
    }
    return undefined;
  };
  useLinks(session, call, say);

  async function choose(plan: string) {
    if (!(await call("POST", "/api/checkout", { plan }))) return;
    say(`The plan is ${plan} now.`);
    reload();
  }

  async function startTeamSession() {
    if (await call("POST", "/api/team-sessions")) say("The team session has started.");
  }

  if (!currentWorkspace) {
    return (
      <main>
        <p role="status">{error?.message ?? "One moment …"}</p>
        <button onClick={onSignOut}>Sign out</button>
      </main>
    );
  }
  const { id, name, role, plan_tier } = currentWorkspace;
  return (
    <>
      <header>
        <label htmlFor="workspace">Workspace</label>
        <WorkspaceSwitcher id="workspace" onChange={() => say("")} />
        <span>{session.name}</span>
        <button onClick={onSignOut}>Sign out</button>
      </header>
      <main key={id}>
        <h1>{name}</h1>
        <p>
          You are {role}, on the plan {plan_tier}. <a href={`#workspace=${id}`}>Link to here</a>
        </p>
        <p role="status">{said}</p>
        <Scenarios call={call} say={say} />
        <h2>Team</h2>
        <p>
          <button onClick={startTeamSession}>Start a team session</button>
          <Feature name="team_sessions" fallback={<small> not in this plan</small>} />
        </p>
        {role !== "member" && (
          <Invite url={`${session.sidecar}/workspaces/${id}/invite`} call={call} say={say} />
        )}
      </main>
      <UpgradeDialog
        problem={problem}
        onClose={() => setProblem(undefined)}
        {...(entitlements?.actions["billing.manage"] && { onChoose: choose })}
      />
    </>
  );
}
