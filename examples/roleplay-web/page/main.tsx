import { WorkspaceProvider } from "policy-sidecar/react";
import { useState } from "react";
import { createRoot } from "react-dom/client";

import { type Session, SignIn } from "./sign-in.js";
import "./style.css";
import { Trainer } from "./trainer.js";

const KEPT_AS = "roleplay-web.session";

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

createRoot(document.getElementById("root")!).render(<App />);
