-- Periods have no gap or overlap: each is computed from the anchor, clamped to the month's end, not from the one before.
BEGIN;

CREATE FUNCTION pg_temp.starts(per text, anchor text, at text) RETURNS text LANGUAGE sql
RETURN to_char(lower(authz.period_of(per, anchor::timestamptz, at::timestamptz)) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI');
CREATE FUNCTION pg_temp.ends(per text, anchor text, at text) RETURNS text LANGUAGE sql
RETURN to_char(upper(authz.period_of(per, anchor::timestamptz, at::timestamptz)) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI');

DO $$
DECLARE
    expected record;
    anchor timestamptz;
    period tstzrange;
    next_period tstzrange;
BEGIN
    FOR expected IN
        SELECT * FROM (VALUES
            ('month', '2023-01-31 10:00Z', '2023-02-28 09:59Z', '2023-01-31 10:00', '2023-02-28 10:00'),
            ('month', '2023-01-31 10:00Z', '2023-02-28 10:00Z', '2023-02-28 10:00', '2023-03-31 10:00'),
            ('month', '2023-01-31 10:00Z', '2024-02-29 10:00Z', '2024-02-29 10:00', '2024-03-31 10:00'),
            ('month', '2023-01-31 10:00Z', '2023-04-30 12:00Z', '2023-04-30 10:00', '2023-05-31 10:00'),
            ('month', '2024-02-29 00:00Z', '2025-02-28 00:00Z', '2025-02-28 00:00', '2025-03-29 00:00'),
            ('month', '2023-01-31 10:00Z', '2022-12-31 09:00Z', '2022-11-30 10:00', '2022-12-31 10:00'), -- before it
            ('month', '2000-01-01 00:00Z', '2026-11-30 23:59:59.999999Z', '2026-11-01 00:00', '2026-12-01 00:00'),
            ('month', '2000-01-01 00:00Z', '2026-12-01 00:00Z', '2026-12-01 00:00', '2027-01-01 00:00'),
            ('month', '2000-01-01 00:00Z', '2026-12-01 01:00+14', '2026-11-01 00:00', '2026-12-01 00:00'),
            ('day', '2000-01-01 00:00Z', '2026-03-29 02:30+02', '2026-03-29 00:00', '2026-03-30 00:00'),
            ('day', '2000-01-01 00:00Z', '2026-03-29 23:59:59.999999Z', '2026-03-29 00:00', '2026-03-30 00:00')
        ) AS e (per, anchor, at, starts, ends)
    LOOP
        ASSERT pg_temp.starts(expected.per, expected.anchor, expected.at) = expected.starts, expected::text;
        ASSERT pg_temp.ends(expected.per, expected.anchor, expected.at) = expected.ends, expected::text;
    END LOOP;

    -- Sixty periods of every anchor: each begins where the one before ends, and the boundary is the later one's.
    FOREACH anchor IN ARRAY ARRAY['2023-01-31 10:00Z', '2023-01-30 00:00Z', '2024-02-29 23:59:59Z', '2023-06-15Z']
    LOOP
        period := authz.period_of('month', anchor, anchor);
        ASSERT lower(period) = anchor, anchor::text;
        FOR step IN 1..60 LOOP
            next_period := authz.period_of('month', anchor, upper(period));
            ASSERT lower(next_period) = upper(period), format('%s %s', anchor, period);
            ASSERT authz.period_of('month', anchor, upper(period) - interval '1 microsecond') = period, period::text;
            period := next_period;
        END LOOP;
    END LOOP;

    ASSERT authz.period_of('ever', now(), now()) = tstzrange('-infinity', 'infinity');
    ASSERT authz.period_of(NULL, now(), now()) = tstzrange('-infinity', 'infinity');
END;
$$;

SET LOCAL TimeZone = 'Pacific/Kiritimati';
DO $$
BEGIN
    ASSERT pg_temp.starts('month', '2000-01-01 00:00Z', '2026-11-30 23:59Z') = '2026-11-01 00:00';
    ASSERT pg_temp.starts('day', '2000-01-01 00:00Z', '2026-11-30 23:59Z') = '2026-11-30 00:00';
END;
$$;

ROLLBACK;
