"""Policy engines: an OPA server, Rego inside the process, and the memo, a cache of their verdicts.

They see situations and answer verdicts. They do not know users, workspaces or HTTP callers.
"""
