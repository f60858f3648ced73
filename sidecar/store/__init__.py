"""PostgreSQL: facts, the ledger, people, workspaces, migrations, and connections that keep deadlines.

It answers through the ports of the core. It does not know the policy or HTTP.
"""
