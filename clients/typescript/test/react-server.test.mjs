// Where there is no page: a server draws the components before any workspace is known.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Feature, UpgradeDialog, WorkspaceProvider, WorkspaceSwitcher } from "policy-sidecar/react";
import { createElement as h } from "react";
import { renderToString } from "react-dom/server";

test("a server draws them without a window", () => {
  const html = renderToString(
    h(
      WorkspaceProvider,
      { url: "http://x", token: "t" },
      h(WorkspaceSwitcher),
      h(Feature, { name: "a", fallback: "locked" }, "open"),
      h(UpgradeDialog, { problem: undefined }),
    ),
  );

  assert.match(html, /<select aria-label="Workspace" disabled="">/);
  assert.match(html, /locked/);
  assert.doesNotMatch(html, /open<|dialog/);
});
