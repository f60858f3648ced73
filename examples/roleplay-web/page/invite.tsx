import { type FormEvent, useState } from "react";

import type { Speaks } from "./trainer.js";

/** *url* is the sidecar's own route, which the page asks itself. */
export function Invite({ url, call, say }: Speaks & { url: string }) {
  const [email, setEmail] = useState("");

  async function invite(event: FormEvent) {
    event.preventDefault();
    const invitation = await call<{ token: string }>("POST", url, { email, role: "member" });
    if (!invitation) return;
    say(`Send ${email} this link: ${location.origin}/#join=${invitation.token}`); // the sidecar sends no mail
    setEmail("");
  }

  return (
    <form onSubmit={invite}>
      <label htmlFor="email">Invite by e-mail</label>
      <input id="email" type="email" required value={email} onChange={(event) => setEmail(event.target.value)} />
      <button>Invite</button>
    </form>
  );
}
