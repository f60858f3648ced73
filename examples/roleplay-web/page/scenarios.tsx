import { Feature } from "policy-sidecar/react";
import { type FormEvent, useEffect, useState } from "react";

import type { Scenario } from "../server/scenarios.js";
import type { Speaks } from "./trainer.js";

export function Scenarios({ call, say }: Speaks) {
  const [scenarios, setScenarios] = useState<Scenario[]>([]);
  const [title, setTitle] = useState("");

  async function load() {
    const found = await call<{ scenarios: Scenario[] }>("GET", "/api/scenarios");
    if (found) setScenarios(found.scenarios);
  }
  useEffect(() => void load(), []);

  async function add(event: FormEvent) {
    event.preventDefault();
    if (!(await call("POST", "/api/scenarios", { title }))) return;
    say(`“${title}” was added.`);
    setTitle("");
    await load();
  }

  async function start({ id, title }: Scenario, kind: "roleplays" | "avatar-roleplays") {
    if (!(await call("POST", `/api/scenarios/${id}/${kind}`))) return;
    say(`“${title}” has started${kind === "roleplays" ? "" : " with an avatar"}.`);
    await load();
  }

  return (
    <>
      <h2>Scenarios</h2>
      <ul>
        {scenarios.map((each) => (
          <li key={each.id}>
            <strong id={each.id}>{each.title}</strong>
            <small>{each.plays > 0 && `plays: ${each.plays}, last by ${each.played_by}`}</small>
            <button aria-describedby={each.id} onClick={() => start(each, "roleplays")}>
              Start
            </button>
            <button aria-describedby={each.id} onClick={() => start(each, "avatar-roleplays")}>
              Start with an avatar
            </button>
            <Feature name="video_avatar" fallback={<small>not in this plan</small>} />
          </li>
        ))}
      </ul>
      <form onSubmit={add}>
        <label htmlFor="title">New scenario</label>
        <input id="title" required maxLength={200} value={title} onChange={(event) => setTitle(event.target.value)} />
        <button>Add</button>
      </form>
    </>
  );
}
