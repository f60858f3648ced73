"""The endpoints under /v1, for gateways and backends: questions, usage, administration."""
