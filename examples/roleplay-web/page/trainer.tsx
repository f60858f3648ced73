import { Feature, UpgradeDialog, type UpgradeProblem, WorkspaceSwitcher } from "policy-sidecar/react";
import { useEntitlements, useWorkspace } from "policy-sidecar/react";
import { useState } from "react";

import { Ask, answerOf } from "./asking.js";
import { useLinks } from "./links.js";
import type { Session } from "./main.js";
import { Scenarios } from "./scenarios.js";

/** *call* gives the answer of a route; undefined if it was denied: then a 402 opens the dialog, or the page says why. */
export type Speaks = {
  call: <T>(method: string, target: string, sent?: object) => Promise<T | undefined>;
  say: (text: string) => void;
};

export function Trainer({ session, onSignOut }: { session: Session; onSignOut: () => void }) {
  const { currentWorkspace, fetch, reload, error } = useWorkspace();
  const entitlements = useEntitlements();
  const [problem, setProblem] = useState<UpgradeProblem>();
  const [said, say] = useState("");

  const call: Speaks["call"] = async (method, target, sent) => {
    if (method !== "GET") say("");
    const document = sent && { headers: { "Content-Type": "application/json" }, body: JSON.stringify(sent) };
    const { ok, status, body, says } = await answerOf(fetch(target, { method, ...document }));
    if (ok) return body;
    if (status === 401) onSignOut();
    else if (status === 402) setProblem(body);
    else say(says);
    return undefined;
  };
  useLinks(session, { call, say });

  async function choose(plan: string) {
    if (!(await call("POST", "/api/checkout", { plan }))) return;
    say(`The plan is ${plan} now.`);
    reload();
  }

  async function invite(email: string) {
    const url = `${session.sidecar}/workspaces/${currentWorkspace?.id}/invite`; // the sidecar's own route
    const invitation = await call<{ token: string }>("POST", url, { email, role: "member" });
    if (invitation) say(`Send ${email} this link: ${location.origin}/#join=${invitation.token}`); // it sends no mail
    return invitation;
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
        {role !== "member" && <Ask label="Invite by e-mail" button="Invite" type="email" send={invite} />}
      </main>
      <UpgradeDialog
        problem={problem}
        onClose={() => setProblem(undefined)}
        {...(entitlements?.actions["billing.manage"] && { onChoose: choose })}
      />
    </>
  );
}
