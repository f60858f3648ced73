"""AuthZEN's endpoints, over our workspaces or another domain's policy."""
