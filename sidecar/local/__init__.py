"""What `sidecar dev` starts on one machine: PostgreSQL, OPA and child processes.

Production does not use it.
"""
