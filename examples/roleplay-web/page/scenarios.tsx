import { Feature } from "policy-sidecar/react";
import { useEffect, useState } from "react";

import type { Scenario } from "../server/scenarios.js";
import { Ask } from "./asking.js";
import type { Speaks } from "./trainer.js";

export function Scenarios({ call, say }: Speaks) {
  const [scenarios, setScenarios] = useState<Scenario[]>([]);

  async function load() {
    const found = await call<{ scenarios: Scenario[] }>("GET", "/api/scenarios");
    if (found) setScenarios(found.scenarios);
  }
  useEffect(() => void load(), []);

  /** Whether it was not denied. */
  async function change(target: string, done: string, sent?: object) {
    if (!(await call("POST", `/api/scenarios${target}`, sent))) return false;
    say(done);
    await load();
    return true;
  }

  return (
    <>
      <h2>Scenarios</h2>
      <ul>
        {scenarios.map(({ id, title, plays, played_by }) => (
          <li key={id}>
            <strong id={id}>{title}</strong>
            <small>{plays > 0 && `plays: ${plays}, last by ${played_by}`}</small>
            <button aria-describedby={id} onClick={() => change(`/${id}/roleplays`, `“${title}” has started.`)}>
              Start
            </button>
            <button
              aria-describedby={id}
              onClick={() => change(`/${id}/avatar-roleplays`, `“${title}” has started with an avatar.`)}
            >
              Start with an avatar
            </button>
            <Feature name="video_avatar" fallback={<small>not in this plan</small>} />
          </li>
        ))}
      </ul>
      <Ask
        label="New scenario"
        button="Add"
        send={(title) => change("", `“${title}” was added.`, { title })}
        maxLength={200}
      />
    </>
  );
}
