import { useWorkspace } from "policy-sidecar/react";
import { useEffect } from "react";

import { answerOf } from "./asking.js";
import type { Session } from "./main.js";
import type { Speaks } from "./trainer.js";

addEventListener("hashchange", () => location.reload()); // a link that is opened in an open page

/** Follows a link that somebody was sent: #join=inv_… is an invitation, #workspace=… the id of a workspace. */
export function useLinks({ sidecar, token }: Session, { call, say }: Speaks) {
  const { currentWorkspace, workspaces, setWorkspace } = useWorkspace();
  const isKnown = currentWorkspace !== undefined;

  async function join(invitation: string) {
    const joined = await call<{ id: string }>("POST", `${sidecar}/invitations/accept`, { token: invitation });
    if (joined) location.hash = `workspace=${joined.id}`;
  }

  async function enter(workspace: string) {
    const known = workspaces.find(({ id }) => id === workspace);
    if (known) {
      setWorkspace(known.id);
      return say(`Welcome to ${known.name}.`);
    }
    // Not by the provider's fetch, which names the current workspace.
    const headers = { Authorization: `Bearer ${token}`, "X-Workspace-Id": workspace };
    say((await answerOf(fetch("/api/scenarios", { headers }))).says);
  }

  useEffect(() => {
    if (!isKnown) return;
    const link = new URLSearchParams(location.hash.slice(1));
    history.replaceState(null, "", "/"); // it is followed once
    const [invitation, workspace] = [link.get("join"), link.get("workspace")];
    if (invitation) void join(invitation);
    else if (workspace) void enter(workspace);
  }, [isKnown]);
}
