-- The third part of a close: from joined events to facts.
--
-- Given, beside what close_active.sql and close_fates.sql were given and left behind, as tables or views
--   joined_event   one row a joined event as it was read: as `record`, but for its `values`, which are two lists, the
--                  names as `fields` and the `numbers`
--   ladder         one row a state of a version's experiment, valid in [begins, until)
--   metric         one row a metric of a version; numbers have the order of the names
--
-- The last statement returns the facts, and tells the opening exposure of each by its `place`. Times are microseconds
-- since the epoch, intervals half-open.

-- `conversation`, `conversation_id` and `conversationId` name one unit
CREATE TEMP MACRO unit_name(name) AS lower(regexp_replace(name, '(_id|Id)$', ''));

-- one row a joined outcome of its window's variation: what it says to the metrics, in the order of their names
CREATE TEMP TABLE outcome AS
WITH

-- one row an event name of a version, with the metrics that read it
plan AS (
    SELECT
        version AS opened_under, event,
        list({
            number: number,
            field: field,
            window_us: window_us,
            counts: aggregate = 'count',
            yes_or_no: aggregate IN ('any', 'all')
        } ORDER BY number) AS metrics
    FROM metric
    GROUP BY version, event
),

measuring AS (
    SELECT place, metric_window, t, tie, t - starts AS since_start, opened_under
    FROM fate
    WHERE fate = 'joined' AND measures AND NOT is_mismatched
),

found AS (
    SELECT
        metric_window, t, tie, opened_under,
        [
            {
                key: metric.number,
                value: CASE
                    WHEN since_start >= metric.window_us THEN NULL
                    WHEN metric.counts THEN
                        CASE WHEN metric.field IS NULL OR list_contains(fields, metric.field) THEN 1 END
                    WHEN metric.yes_or_no THEN (numbers[list_position(fields, metric.field)] <> 0)::DOUBLE
                    ELSE numbers[list_position(fields, metric.field)]
                END
            }
            for metric in metrics
        ] AS readings
    FROM joined_event
    JOIN measuring USING (place)
    JOIN plan USING (opened_under, event)
)

SELECT metric_window, t, tie, opened_under, list_filter(readings, lambda each: each.value IS NOT NULL) AS readings
FROM found;

-- one row a closing window with outcomes of its variation
CREATE TEMP VIEW measured AS
WITH

several AS (SELECT metric_window FROM outcome GROUP BY metric_window HAVING count(*) > 1),

-- a reading alone is its own aggregate
from_one AS (SELECT metric_window, readings AS metrics FROM outcome ANTI JOIN several USING (metric_window)),

reading AS (
    SELECT metric_window, opened_under AS version, t, tie, unnest(readings, max_depth := 2)
    FROM outcome SEMI JOIN several USING (metric_window)
),

-- one row a metric of such a window: the readings in the order of the events
series AS (
    SELECT metric_window, key, aggregate, list(value ORDER BY t, tie) AS numbers
    FROM reading JOIN metric USING (version)
    WHERE key = number
    GROUP BY metric_window, key, aggregate
),

aggregated AS (
    SELECT
        metric_window, key,
        CASE aggregate
            WHEN 'first' THEN numbers[1]
            WHEN 'last' THEN numbers[-1]
            WHEN 'sum' THEN list_sum(numbers)
            WHEN 'count' THEN list_sum(numbers)
            WHEN 'mean' THEN list_avg(numbers)
            WHEN 'max' THEN list_max(numbers)
            WHEN 'any' THEN list_max(numbers)
            WHEN 'min' THEN list_min(numbers)
            WHEN 'all' THEN list_min(numbers)
        END AS value
    FROM series
),

from_several AS (
    SELECT metric_window, list({key: key, value: value} ORDER BY key) AS metrics FROM aggregated GROUP BY metric_window
)

FROM from_one UNION ALL FROM from_several;

-- one row a closing window with outcomes or guardrails
CREATE TEMP TABLE followed AS
SELECT
    metric_window,
    count(*) FILTER (measures) AS outcomes,
    count(*) FILTER (NOT measures) AS guardrails,
    bool_or(is_mismatched) AS has_mismatched
FROM fate
WHERE fate = 'joined' AND NOT exposes
GROUP BY metric_window;

-- one row a closing window that overlaps a window of another variation
CREATE TEMP TABLE crossing AS
WITH

several AS (SELECT unit FROM metric_window GROUP BY unit HAVING min(variation) < max(variation)),

candidate AS (FROM metric_window SEMI JOIN several USING (unit))

SELECT DISTINCT this.metric_window
FROM candidate AS this JOIN candidate AS other USING (unit)
WHERE
    this.stage = 'closing'
    AND this.variation <> other.variation
    AND crosses(this.starts, this.ends, other.starts, other.ends);

-- one row a joined exposure: how it departs from the contract of its window
CREATE TEMP VIEW run AS
SELECT
    place,
    metric_window,
    opened_under,
    opens,
    t,
    starts,
    record.attributes,
    fallback_used,
    NOT fallback_used AND (
        coalesce(record.model_route <> route.model_route, false)
        OR coalesce(record.prompt_version <> route.prompt_version, false)
        OR coalesce(record.retrieval_profile <> route.retrieval_profile, false)
    ) AS drifts,
    CASE
        WHEN contract.assignment_unit IS NULL THEN false
        WHEN record.assignment_unit IN (contract.assignment_unit, contract.unit_name) THEN false
        ELSE unit_name(record.assignment_unit) <> contract.unit_name
    END AS mistaken_unit,
    CASE
        WHEN segments IS NULL THEN false
        ELSE list_has_any(segments, exclusions)
            OR coalesce(len(segments) > 0 AND NOT list_contains(segments, eligible_segment), false)
    END AS excluded
FROM joined_event AS record
JOIN fate USING (place)
JOIN (SELECT *, unit_name(assignment_unit) AS unit_name FROM contract) AS contract ON contract.version = opened_under
JOIN route ON route.version = opened_under AND route.variation = record.variation
WHERE exposes;

-- one row a closing window with more exposures than its first
CREATE TEMP TABLE exposed_again AS
SELECT
    metric_window,
    count(*) AS exposures,
    count(*) FILTER (fallback_used) AS fallbacks,
    max(t) AS last_t,
    bool_or(drifts) AS drifts,
    bool_or(mistaken_unit) AS mistaken_unit,
    bool_or(excluded) AS excluded
FROM run
WHERE NOT opens
GROUP BY metric_window;

-- one row a closing window, beside which its fact has what its opening exposure says
WITH

flagged AS (
    SELECT
        run.*,
        contract.attributes AS kept_attributes,
        starts + window_us AS ends,
        ladder.state,
        coalesce(last_t, t) AS last_exposure_at,
        1 + coalesce(again.exposures, 0) AS exposures,
        fallback_used::BIGINT + coalesce(again.fallbacks, 0) AS fallbacks,
        coalesce(outcomes, 0) AS outcomes,
        coalesce(guardrails, 0) AS guardrails,
        coalesce(metrics, []) AS metrics,
        fallback_used OR coalesce(again.fallbacks > 0, false) AS fallback_contaminated,
        coalesce(has_mismatched, false) AS variation_mismatch,
        run.drifts OR coalesce(again.drifts, false) AS route_drift,
        crossing.metric_window IS NOT NULL AS crossover,
        run.mistaken_unit OR coalesce(again.mistaken_unit, false) AS assignment_unit_mismatch,
        run.excluded OR coalesce(again.excluded, false) AS excluded_unit,
        has_states AND (ladder.state IS NULL OR ladder.state IN ('offline', 'cleanup')) AS wrong_state,
        NOT (
            fallback_contaminated OR variation_mismatch OR route_drift OR crossover
            OR assignment_unit_mismatch OR excluded_unit OR wrong_state
        ) AS clean
    FROM run
    JOIN contract ON contract.version = opened_under
    LEFT JOIN ladder ON ladder.version = opened_under AND starts >= begins AND starts < until
    LEFT JOIN exposed_again AS again USING (metric_window)
    LEFT JOIN followed USING (metric_window)
    LEFT JOIN measured USING (metric_window)
    LEFT JOIN crossing USING (metric_window)
    WHERE opens
)

SELECT
    place,
    opened_under,
    state,
    make_timestamptz(starts) AS window_start,
    make_timestamptz(ends) AS window_end,
    make_timestamptz(last_exposure_at) AS last_exposure_at,
    exposures,
    fallbacks,
    outcomes,
    guardrails,
    metrics,
    CASE
        WHEN clean THEN []
        ELSE list_filter([
            CASE WHEN fallback_contaminated THEN 'fallback_contaminated' END,
            CASE WHEN variation_mismatch THEN 'variation_mismatch' END,
            CASE WHEN route_drift THEN 'route_drift' END,
            CASE WHEN crossover THEN 'crossover' END,
            CASE WHEN assignment_unit_mismatch THEN 'assignment_unit_mismatch' END,
            CASE WHEN excluded_unit THEN 'excluded_unit' END,
            CASE WHEN wrong_state THEN 'wrong_state' END
        ], lambda flag: flag IS NOT NULL)
    END AS flags,
    clean,
    CASE
        WHEN attributes IS NULL THEN []
        WHEN kept_attributes IS NULL THEN attributes
        ELSE list_filter(attributes, lambda entry: list_contains(kept_attributes, entry.key))
    END AS attributes
FROM flagged;
