-- The ledger is large and in use: its new indexes are built beside those who write.
-- transaction: none

-- It finds the part of the table that is old. Each use of quota writes nothing into it but a page's range now and then.
CREATE INDEX CONCURRENTLY usage_ledger_at_idx ON authz.usage_ledger USING brin (at) WITH (autosummarize = on);
COMMENT ON INDEX authz.usage_ledger_at_idx IS 'Finds lines that are old, for sidecar tidy.';

CREATE INDEX CONCURRENTLY usage_ledger_carried_idx ON authz.usage_ledger (workspace_id, meter, period_start) WHERE kind = 'carried';
COMMENT ON INDEX authz.usage_ledger_carried_idx IS 'Finds the line that carries the sum of a period, for authz.fold_usage.';
