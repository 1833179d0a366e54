-- The second part of a close: from the events of active units to what becomes of each.
--
-- Given, beside what close_active.sql was given and left behind, as tables or views
--   record         one row an event as it was read, of all active units at least: as `open_event`
--   route          one row a variation of a version: what it is to run
--
-- Left behind: the temporary tables below, and the views `joined`, `unjoined`, `decided` and `last_ripening`, which tell
-- events by their `place`. Times are microseconds since the epoch, intervals half-open.

CREATE TEMP MACRO crosses(a_start, a_end, b_start, b_end) AS a_start < b_end AND b_start < a_end;
-- the order of events: time, then the rank among those of one time
CREATE TEMP MACRO moment(t, tie) AS (t::HUGEINT << 32) + tie;

CREATE TEMP TYPE STAGE AS ENUM ('closed', 'closing', 'open');
CREATE TEMP TYPE FATE AS ENUM ('joined', 'duplicate', 'outside_window', 'no_exposure', 'late', 'undecided');

-- one row a variation's name; numbers have the order of the names
CREATE TEMP TABLE variation AS
SELECT variation AS variation_name, row_number() OVER (ORDER BY variation) AS variation
FROM (SELECT variation FROM route UNION SELECT variation FROM residue);

-- one row a closed window of an active unit
CREATE TEMP TABLE closed_window AS
SELECT unit, variation.variation, epoch_us(window_start) AS starts, epoch_us(window_end) AS ends
FROM residue
JOIN unit USING (flag_key, unit_id)
JOIN variation ON variation_name = residue.variation;

-- one row an event of an active unit that is new, or old and not decided; `gone` ones are late
CREATE TEMP TABLE event AS
SELECT
    place,
    unit,
    variation.variation,
    version,
    kind = 'exposure' AS exposes,
    kind = 'outcome' AS measures,
    epoch_us(event_time) AS t,
    0 AS tie,
    CASE WHEN event_id IS NOT NULL THEN hash(event_id) END AS id_hash,
    source >= getvariable('first_new') AS is_new,
    t <= CASE WHEN is_new THEN late_through ELSE decided_through END AS gone
FROM record
JOIN unit USING (flag_key, unit_id)
JOIN variation ON variation_name = record.variation
JOIN contract USING (contract_version)
WHERE is_new OR NOT gone;


-- ── Order: event time, then value, topic and offset ───────────────────────────────────────────────────────────────────

-- one row an event that shares its event time with another of its unit; `tie` is its rank among them
CREATE TEMP TABLE tied AS
WITH

shared AS (SELECT unit, t FROM event GROUP BY unit, t HAVING count(*) > 1),

sharing AS (SELECT place, unit, t FROM event SEMI JOIN shared USING (unit, t))

SELECT place, topic, value, row_number() OVER (PARTITION BY unit, t ORDER BY value, topic, "offset") AS tie
FROM record JOIN sharing USING (place);

UPDATE event SET tie = tied.tie FROM tied WHERE tied.place = event.place;


-- ── Metric windows ────────────────────────────────────────────────────────────────────────────────────────────────────

-- one row a new exposure that comes too late: after its time, or over a window that is closed
CREATE TEMP TABLE late_exposure AS
SELECT place FROM event WHERE exposes AND gone
UNION
SELECT place
FROM event
JOIN unit USING (unit)
JOIN closed_window USING (unit)
WHERE exposes AND is_new AND crosses(t, t + longest_window, starts, ends);

-- one row an old exposure that a closed window of its variation holds
CREATE TEMP TABLE spent_exposure AS
SELECT place
FROM event JOIN closed_window USING (unit, variation)
WHERE exposes AND NOT is_new AND t >= starts AND t < ends;

-- one row an exposure that opens a window or belongs to one
CREATE TEMP TABLE exposure AS
SELECT place, unit, variation, version, t, moment(t, tie) AS moment, t + window_us AS ends
FROM event
JOIN contract USING (version)
ANTI JOIN late_exposure USING (place)
ANTI JOIN spent_exposure USING (place)
WHERE exposes;

-- one row a unit and variation: its first exposure, with the end of the window that it opens
CREATE TEMP TABLE first_opener AS
SELECT unit, variation, arg_min(place, moment) AS place, arg_min(ends, moment) AS ends, max(t) AS last_t
FROM exposure
GROUP BY unit, variation;

-- one row an exposure, and the first at or after the end of the window that it would open
CREATE TEMP TABLE following AS
WITH going_on AS (FROM exposure SEMI JOIN (FROM first_opener WHERE last_t >= ends) USING (unit, variation))

SELECT this.place, next.place AS next_place
FROM going_on AS this ASOF JOIN going_on AS next
    ON this.unit = next.unit AND this.variation = next.variation AND moment(this.ends, 0) <= next.moment;

-- one row an exposure that opens a window: round by round, the earliest one not yet covered
CREATE TEMP TABLE opener AS
WITH RECURSIVE next_opener AS (
    SELECT place FROM first_opener
    UNION ALL
    SELECT next_place FROM next_opener JOIN following USING (place)
)

FROM next_opener;

-- one row a window of an active unit: closed by an earlier close, closing in this one, or left open
CREATE TEMP TABLE metric_window AS
WITH

opened AS (
    SELECT
        place AS opener, unit, variation, version, t AS starts, ends,
        CASE
            WHEN ends + getvariable('allowed_lateness') <= getvariable('watermark') THEN 'closing'::STAGE
            ELSE 'open'::STAGE
        END AS stage
    FROM exposure SEMI JOIN opener USING (place)
),

all_windows AS (
    FROM opened
    UNION ALL BY NAME
    SELECT unit, variation, starts, ends, 'closed'::STAGE AS stage FROM closed_window
)

SELECT row_number() OVER () AS metric_window, * FROM all_windows;


-- ── Attachment ────────────────────────────────────────────────────────────────────────────────────────────────────────

-- one row an event that no earlier close has decided, with the window of its own variation that holds it
CREATE TEMP TABLE attached AS
SELECT
    place, event.unit, exposes, measures, t, tie, id_hash, is_new, gone,
    metric_window, metric_window.version AS opened_under, starts, stage, coalesce(place = opener, false) AS opens
FROM event
LEFT JOIN metric_window
    ON metric_window.unit = event.unit AND metric_window.variation = event.variation AND t >= starts AND t < ends
WHERE is_new OR stage IS NULL OR stage <> 'closed';

-- one row an outcome or guardrail that only a window of another variation holds: the earliest
CREATE TEMP TABLE mismatched AS
WITH

astray AS (SELECT place, unit, t FROM attached WHERE metric_window IS NULL AND NOT exposes)

SELECT place, metric_window, starts, stage, variation
FROM astray JOIN metric_window USING (unit)
WHERE t >= starts AND t < ends
QUALIFY row_number() OVER (PARTITION BY place ORDER BY starts, variation) = 1;

-- one row an event that no earlier close has decided, with the window that it falls to
CREATE TEMP VIEW held AS
WITH

falling AS (
    SELECT
        attached.* EXCLUDE (metric_window, starts, stage),
        coalesce(attached.metric_window, mismatched.metric_window) AS metric_window,
        coalesce(attached.starts, mismatched.starts) AS starts,
        coalesce(attached.stage, mismatched.stage) AS stage,
        mismatched.place IS NOT NULL AS is_mismatched,
        late_exposure.place IS NOT NULL AS is_late_exposure
    FROM attached
    LEFT JOIN mismatched USING (place)
    LEFT JOIN late_exposure USING (place)
)

SELECT *, gone OR is_late_exposure OR coalesce(stage = 'closed', false) AS late
FROM falling
WHERE is_new OR stage IS NULL OR stage <> 'closed';

-- one row an event that repeats an earlier one of its closing window and topic
CREATE TEMP TABLE duplicate AS
WITH

closing AS (SELECT place, metric_window, t, tie, id_hash FROM held WHERE stage = 'closing' AND NOT late),

-- one row an ID that may occur more than once
shared_id AS (
    SELECT metric_window, id_hash FROM closing WHERE id_hash IS NOT NULL
    GROUP BY metric_window, id_hash HAVING count(*) > 1
),

sharing AS (FROM closing SEMI JOIN shared_id USING (metric_window, id_hash)),

same_id AS (
    SELECT place FROM record JOIN sharing USING (place)
    QUALIFY row_number() OVER (PARTITION BY metric_window, topic, event_id ORDER BY t, sharing.tie) > 1
),

same_bytes AS (
    SELECT place FROM tied JOIN closing USING (place)
    WHERE id_hash IS NULL
    QUALIFY row_number() OVER (PARTITION BY metric_window, topic, t, value ORDER BY closing.tie) > 1
)

FROM same_id UNION ALL FROM same_bytes;


-- ── Fates ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

-- one row an outcome or guardrail that expires without a window; `after_window` where one of its unit had just ended
CREATE TEMP TABLE windowless AS
SELECT
    place,
    EXISTS (
        FROM metric_window
        WHERE metric_window.unit = held.unit
            AND ends > held.t - longest_window AND ends <= held.t
    ) AS after_window
FROM held JOIN unit USING (unit)
WHERE stage IS NULL AND NOT exposes AND ripens_at(t, longest_window) <= getvariable('watermark');

-- one row an event that no earlier close has decided, and what becomes of it
CREATE TEMP TABLE fate AS
SELECT
    place, unit, exposes, measures, is_new, opens, t, tie, metric_window, opened_under, starts, is_mismatched,
    CASE
        WHEN late THEN 'late'
        WHEN stage = 'open' THEN 'undecided'
        WHEN duplicate.place IS NOT NULL THEN 'duplicate'
        WHEN stage = 'closing' THEN 'joined'
        WHEN after_window THEN 'outside_window'
        WHEN NOT after_window THEN 'no_exposure'
        ELSE 'undecided'
    END::FATE AS fate
FROM held
LEFT JOIN duplicate USING (place)
LEFT JOIN windowless USING (place);

-- the fates are all that the rest needs; the memory is better spent on it
DROP VIEW held;
DROP TABLE attached;
DROP TABLE event;
DROP TABLE exposure;


-- ── What is decided, and what is not ─────────────────────────────────────────────────────────────────────────────

-- one row a joined event; `window_variation` where that is another than its own
CREATE TEMP VIEW joined AS
SELECT place, make_timestamptz(starts) AS window_start, is_mismatched AS mismatched, window_variation
FROM fate
LEFT JOIN (
    SELECT place, variation_name AS window_variation FROM mismatched JOIN variation USING (variation)
) USING (place)
WHERE fate = 'joined';

-- one row an event that is decided and belongs to no fact
CREATE TEMP VIEW unjoined AS
SELECT place, fate::VARCHAR AS reason FROM fate WHERE fate NOT IN ('joined', 'undecided');

-- one row a new event that is decided; `forgotten` where neither its time nor a closed window will tell so later
CREATE TEMP VIEW decided AS
SELECT
    place,
    fate = 'late' AND exposes AND t > decided_through AND ripens_at(t, longest_window) > getvariable('watermark') AS forgotten
FROM fate JOIN unit USING (unit)
WHERE is_new AND fate <> 'undecided';

-- one row: the time at which the last open event will be decided
CREATE TEMP VIEW last_ripening AS
SELECT max(ripens_at(t, longest_window)) AS ripens
FROM fate JOIN unit USING (unit)
WHERE fate = 'undecided';
