"""The end users' own endpoints: workspaces, members and invitations."""
