import type { ComponentPropsWithoutRef, ReactElement } from "react";

import { type OwnWorkspace, useWorkspace } from "./state.js";

export type WorkspaceSwitcherProps = Omit<
  ComponentPropsWithoutRef<"select">,
  "value" | "defaultValue" | "children" | "multiple"
>;

/** A native select of the user's workspaces. Its name is "Workspace", unless `aria-label` or a `<label>` has one. */
export function WorkspaceSwitcher({ onChange, disabled, ...props }: WorkspaceSwitcherProps): ReactElement {
  const { workspaces, currentWorkspace, setWorkspace } = useWorkspace();
  const named = "aria-label" in props || "aria-labelledby" in props || "id" in props;
  return (
    <select
      {...(named ? {} : { "aria-label": "Workspace" })}
      {...props}
      disabled={disabled ?? workspaces.length === 0}
      value={currentWorkspace?.id ?? ""}
      onChange={(event) => {
        setWorkspace(event.target.value);
        onChange?.(event);
      }}
    >
      {workspaces.map((each) => (
        <option key={each.id} value={each.id}>
          {label(each, workspaces)}
        </option>
      ))}
    </select>
  );
}

/** The name, with the slug where two have the same. */
function label({ id, name, slug }: OwnWorkspace, all: OwnWorkspace[]): string {
  return all.some((other) => other.id !== id && other.name === name) ? `${name} (${slug})` : name;
}
