"""What people and administrators do with workspaces: members, invitations, ownership, plan and status.

Each change asks the policy first. It does not know HTTP, tokens or SQL.
"""
