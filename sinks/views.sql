-- Views over the lake, made anew at each connection. What they stand on is there before: the table views `facts` (with the
-- epoch of each fact), `events`, `unjoined` and `refused`; `contract_versions`, a row a text that the lake keeps;
-- `exported_dead_letters`, a row a record of a dead-letter topic; `segment_rows`, the rows of all live segments with their
-- partition; and from the newest manifests `manifests`, `topics` (a row is a topic and partition)
-- and `undelivered` (a row is a range of offsets).

-- A row is a record that was read and is not decided: its window is open, or no close has judged it yet. Segments may still
-- hold rows that a close has decided.
CREATE VIEW open_events AS
WITH decided AS (
    SELECT topic, "partition", "offset" FROM events WHERE "offset" >= getvariable('first_live_offset')
    UNION ALL
    SELECT topic, "partition", "offset" FROM unjoined WHERE "offset" >= getvariable('first_live_offset')
)
SELECT segment_rows.* FROM segment_rows ANTI JOIN decided USING (topic, "partition", "offset");

-- A row is an exposure whose window is still open.
CREATE VIEW exposures_open AS
SELECT
    flag_key, unit_id, variation, event_time, topic, "partition", "offset", event, event_id, assignment_unit, model_route,
    prompt_version, retrieval_profile, fallback_used, attributes, segments, contract_version
FROM open_events
WHERE kind = 'exposure';

-- A row is an offset and its fate. Only offsets that the newest manifests cover are there, so that a worker that goes on
-- meanwhile does not show half a checkpoint.
CREATE VIEW account_offsets AS
WITH fates AS (
    SELECT topic, "partition", "offset", 'joined' AS fate, CAST(NULL AS VARCHAR) AS reason FROM events
    UNION ALL
    SELECT topic, "partition", "offset", 'unjoined', reason FROM unjoined
    UNION ALL
    SELECT topic, "partition", "offset", 'refused', reason FROM refused
    UNION ALL
    SELECT topic, "partition", "offset", 'open', NULL FROM open_events
    UNION ALL
    SELECT topic, "partition", unnest(range(first_offset, next_offset)), 'undelivered', NULL FROM undelivered
)
SELECT fates.topic, fates."partition", fates."offset", fates.fate, fates.reason
FROM fates
JOIN topics USING (topic, "partition")
WHERE fates."offset" >= topics.first_offset AND fates."offset" < topics.next_offset;

-- A row is a topic and partition: how many of its offsets have each fate, and how many have none.
CREATE VIEW account AS
SELECT
    topics.topic,
    topics."partition",
    topics.first_offset,
    topics.next_offset,
    count(*) FILTER (fate = 'joined') AS joined,
    count(*) FILTER (fate = 'unjoined' AND reason = 'late') AS late,
    count(*) FILTER (fate = 'unjoined' AND reason = 'duplicate') AS duplicate,
    count(*) FILTER (fate = 'unjoined' AND reason = 'outside_window') AS outside_window,
    count(*) FILTER (fate = 'unjoined' AND reason = 'no_exposure') AS no_exposure,
    count(*) FILTER (fate = 'refused' AND reason = 'tombstone') AS tombstone,
    count(*) FILTER (fate = 'refused' AND reason = 'not_json') AS not_json,
    count(*) FILTER (fate = 'refused' AND reason = 'bad_framing') AS bad_framing,
    count(*) FILTER (fate = 'refused' AND reason = 'too_large') AS too_large,
    count(*) FILTER (fate = 'refused' AND reason = 'schema_violation') AS schema_violation,
    count(*) FILTER (fate = 'refused' AND reason = 'unknown_flag') AS unknown_flag,
    count(*) FILTER (fate = 'refused' AND reason = 'unknown_variation') AS unknown_variation,
    count(*) FILTER (fate = 'refused' AND reason = 'future_timestamp') AS future_timestamp,
    count(*) FILTER (fate = 'refused' AND reason = 'misplaced') AS misplaced,
    count(*) FILTER (fate = 'refused' AND reason = 'internal') AS internal,
    count(*) FILTER (fate = 'refused' AND reason = 'rerouted') AS rerouted,
    count(*) FILTER (fate = 'undelivered') AS undelivered,
    count(*) FILTER (fate = 'open') AS "open",
    topics.next_offset - topics.first_offset - count(fate) AS unaccounted
FROM topics
LEFT JOIN account_offsets USING (topic, "partition")
GROUP BY topics.topic, topics."partition", topics.first_offset, topics.next_offset
ORDER BY topics.topic, topics."partition";

-- A row is a contract version: its epoch, and when and how often facts used it.
CREATE VIEW contracts AS
WITH used AS (
    SELECT
        contract_version,
        min(window_start) AS first_used,
        max(window_start) AS last_used,
        count(*) AS facts,
        count(*) FILTER (clean) AS clean
    FROM facts
    GROUP BY contract_version
)
SELECT
    contract_versions.flag_key,
    contract_versions.epoch,
    contract_version,
    contract_versions.experiment_key,
    used.first_used,
    used.last_used,
    coalesce(used.facts, 0) AS facts,
    coalesce(used.clean, 0) AS clean,
    contract_versions.text
FROM contract_versions
LEFT JOIN used USING (contract_version)
ORDER BY contract_versions.flag_key, contract_versions.epoch, used.first_used, contract_version;

-- A row is a flag, epoch and variation: its facts, and how many of them carry each flag of doubt. Facts of different epochs
-- answer different questions, so no row counts both.
CREATE VIEW facts_by_variation AS
SELECT
    flag_key,
    epoch,
    variation,
    count(*) AS facts,
    count(*) FILTER (clean) AS clean,
    count(*) FILTER (list_contains(flags, 'fallback_contaminated')) AS fallback_contaminated,
    count(*) FILTER (list_contains(flags, 'variation_mismatch')) AS variation_mismatch,
    count(*) FILTER (list_contains(flags, 'route_drift')) AS route_drift,
    count(*) FILTER (list_contains(flags, 'crossover')) AS crossover,
    count(*) FILTER (list_contains(flags, 'assignment_unit_mismatch')) AS assignment_unit_mismatch,
    count(*) FILTER (list_contains(flags, 'excluded_unit')) AS excluded_unit,
    count(*) FILTER (list_contains(flags, 'wrong_state')) AS wrong_state
FROM facts
GROUP BY flag_key, epoch, variation
ORDER BY flag_key, epoch, variation;

-- A row is a dead letter: the first that came of a record, however often it was sent.
CREATE VIEW dead_letters AS
SELECT *
FROM exported_dead_letters
QUALIFY row_number() OVER (
    PARTITION BY
        coalesce(topic, dlq_topic),
        coalesce("partition", dlq_partition),
        coalesce("offset", dlq_offset),
        "offset" IS NULL,
        consumer_group
    ORDER BY dlq_topic, dlq_partition, dlq_offset
) = 1;
