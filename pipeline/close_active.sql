-- The first part of a close: the units of which it may decide something, and where their events lie.
--
-- Given, as tables or views
--   open_event     one row an event as it was read: columns of contracts.columns.EVENT, maps as lists of entries;
--                  `place` is a number for the row, `source` one for the file or table that has it; of those numbered
--                  from `first_new` on no earlier close has judged any event
--   residue        one row a window that an earlier close has closed
--   contract       one row a contract version; `version` is its number in this script
--   horizon        one row a flag: its longest window, and the time through which old events are decided
-- and, as variables, `first_new`, `sources` (how many), `closed_through` (of the close before), `watermark` (of this one),
-- `allowed_lateness`, `never` (before any event) and `every_unit`: look at all units, not just at those for which
-- something is decided.
--
-- Left behind: the tables `reach`, `unit` and `touched`, and the variables `touched_sources` and `few`. Times are
-- microseconds since the epoch, intervals half-open.

CREATE TEMP MACRO ripens_at(t, longest) AS t + longest + getvariable('allowed_lateness');

-- one row a flag; an old event at or before `decided_through` is decided, a new one at or before `late_through` late
CREATE TEMP TABLE reach AS
SELECT
    flag_key,
    longest_window,
    coalesce(decided_through, getvariable('never')) AS decided_through,
    greatest(
        decided_through,
        getvariable('closed_through') - longest_window - getvariable('allowed_lateness')
    ) AS late_through
FROM horizon;

-- no later event can be ripe
SET VARIABLE ripe_through = (
    SELECT CASE
        WHEN getvariable('every_unit') THEN 'infinity'::TIMESTAMPTZ
        ELSE make_timestamptz(greatest(
            max(late_through), getvariable('watermark') - getvariable('allowed_lateness') - (SELECT min(window_us) FROM contract)
        ))
    END
    FROM reach
);

-- one row an active unit of a flag
CREATE TEMP TABLE unit AS
WITH

-- one row an event that would now be late, close its window, or expire without one
ripe AS (
    SELECT flag_key, unit_id
    FROM open_event
    JOIN reach USING (flag_key)
    JOIN contract USING (flag_key, contract_version)
    WHERE
        event_time <= getvariable('ripe_through')
        AND (source >= getvariable('first_new') OR epoch_us(event_time) > decided_through)
        AND (
            getvariable('every_unit')
            OR epoch_us(event_time) <= late_through
            OR ripens_at(epoch_us(event_time), CASE kind WHEN 'exposure' THEN window_us ELSE longest_window END)
                <= getvariable('watermark')
        )
),

-- one row a new event of a unit with closed windows: it may be late
returning_event AS (
    SELECT flag_key, unit_id
    FROM open_event SEMI JOIN residue USING (flag_key, unit_id)
    WHERE source >= getvariable('first_new')
),

active AS (FROM ripe UNION FROM returning_event)

SELECT flag_key, unit_id, longest_window, decided_through, late_through, row_number() OVER () AS unit
FROM active JOIN reach USING (flag_key);

SET VARIABLE open_events = (SELECT count(*) FROM open_event);

-- whether the units alone tell that their events are many; to count those reads all events once more
SET VARIABLE many = (SELECT count(*) FROM unit) * 10 >= getvariable('open_events');

-- one row an event of an active unit, unless they are many
CREATE TEMP TABLE touched AS
SELECT source, place FROM open_event SEMI JOIN unit USING (unit_id)
WHERE NOT getvariable('many');

-- the second part reads no other sources: a filter on this keeps them shut
SET VARIABLE touched_sources = CASE
    WHEN getvariable('many') THEN range(getvariable('sources'))::UBIGINT[]
    ELSE (SELECT coalesce(list(DISTINCT source), []) FROM touched)
END;

-- whether the events of active units are few among many, so that they are better picked out once
SET VARIABLE few = NOT getvariable('many')
    AND (SELECT count(*) FROM touched) * 10 < getvariable('open_events');
