import { type FormEvent, useState } from "react";

/** What the backend's `/api/sign-in` answers; *sidecar* is where the browser reaches it. */
export type Session = { name: string; email: string; token: string; sidecar: string };

const DEMO_USERS = { olivia: "owner of Acme", mia: "member of Acme", pia: "owner of Piano", sam: "owner of Solo" };

export function SignIn({ onSession }: { onSession: (session: Session) => void }) {
  const [said, say] = useState("");

  async function signIn(name: FormDataEntryValue | null) {
    try {
      const response = await fetch("/api/sign-in", { method: "POST", body: JSON.stringify({ name }) });
      const answer = await response.json();
      if (response.ok) onSession(answer);
      else say(answer.detail);
    } catch {
      say("The trainer does not answer: try again.");
    }
  }

  function signUp(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    void signIn(new FormData(event.currentTarget).get("name"));
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
      <form onSubmit={signUp}>
        <label htmlFor="name">Name</label>
        <input id="name" name="name" required maxLength={40} autoComplete="off" />
        <button>Sign up</button>
      </form>
      <p>A demo: nobody is asked for a password, and the e-mail of NAME is NAME@example.com.</p>
      <p role="status">{said}</p>
    </main>
  );
}
