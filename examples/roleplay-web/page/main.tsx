import { WorkspaceProvider } from "policy-sidecar/react";
import { useState } from "react";
import { createRoot } from "react-dom/client";

import { Ask, answerOf } from "./asking.js";
import "./style.css";
import { Trainer } from "./trainer.js";

/** What the backend's `/api/sign-in` answers; *sidecar* is where the browser reaches it. */
export type Session = { name: string; token: string; sidecar: string };

const KEPT_AS = "roleplay-web.session";
const DEMO_USERS = { olivia: "owner of Acme", mia: "member of Acme", pia: "owner of Piano", sam: "owner of Solo" };

function App() {
  const [session, setSession] = useState<Session | null>(() => JSON.parse(sessionStorage.getItem(KEPT_AS) ?? "null"));
  const change = (next: Session | null) => {
    sessionStorage.setItem(KEPT_AS, JSON.stringify(next));
    setSession(next);
  };

  if (session === null) return <SignIn onSession={change} />;
  return (
    <WorkspaceProvider key={session.name} url={session.sidecar} token={session.token}>
      <Trainer session={session} onSignOut={() => change(null)} />
    </WorkspaceProvider>
  );
}

function SignIn({ onSession }: { onSession: (session: Session) => void }) {
  const [said, say] = useState("");

  async function signIn(name: string) {
    const { ok, body, says } = await answerOf(fetch("/api/sign-in", { method: "POST", body: JSON.stringify({ name }) }));
    if (ok) onSession(body);
    else say(says);
  }
  return (
    <main>
      <h1>Roleplay trainer</h1>
      {location.hash.startsWith("#join=") && <p>You are invited. Sign in as whom the link was sent to.</p>}
      <h2>Sign in</h2>
      <ul>
        {Object.entries(DEMO_USERS).map(([name, who]) => (
          <li key={name}>
            <button onClick={() => signIn(name)}>{name}</button> {who}
          </li>
        ))}
      </ul>
      <h2>Or sign up</h2>
      <Ask label="Name" button="Sign up" send={signIn} maxLength={40} autoComplete="off" />
      <p>A demo: nobody is asked for a password, and the e-mail of NAME is NAME@example.com.</p>
      <p role="status">{said}</p>
    </main>
  );
}

createRoot(document.getElementById("root")!).render(<App />);
