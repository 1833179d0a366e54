-- The facts of all windows that have closed, from three files of events, in one go.

CREATE TEMP TABLE exposure AS
SELECT DISTINCT flagKey, unitId, variation, "timestamp" AS t, fallbackUsed
FROM read_json(
    getvariable('exposures'), format = 'newline_delimited', columns = {
        event: 'VARCHAR', flagKey: 'VARCHAR', unitId: 'VARCHAR', variation: 'VARCHAR', "timestamp": 'TIMESTAMPTZ',
        assignmentUnit: 'VARCHAR', modelRoute: 'VARCHAR', promptVersion: 'VARCHAR', retrievalProfile: 'VARCHAR',
        fallbackUsed: 'BOOLEAN'
    }
);

CREATE TEMP TABLE outcome AS
SELECT DISTINCT
    flagKey, unitId, variation, "timestamp" AS t, resolvedWithoutEscalation, humanCorrection, latencyMs, estimatedCost
FROM read_json(
    getvariable('outcomes'), format = 'newline_delimited', columns = {
        event: 'VARCHAR', flagKey: 'VARCHAR', unitId: 'VARCHAR', variation: 'VARCHAR', "timestamp": 'TIMESTAMPTZ',
        resolvedWithoutEscalation: 'BOOLEAN', humanCorrection: 'BOOLEAN', latencyMs: 'DOUBLE', estimatedCost: 'DOUBLE'
    }
);

CREATE TEMP TABLE guardrail AS
SELECT DISTINCT flagKey, unitId, variation, "timestamp" AS t, guardrail, value
FROM read_json(
    getvariable('guardrails'), format = 'newline_delimited', columns = {
        event: 'VARCHAR', flagKey: 'VARCHAR', unitId: 'VARCHAR', variation: 'VARCHAR', "timestamp": 'TIMESTAMPTZ',
        guardrail: 'VARCHAR', value: 'DOUBLE', severity: 'VARCHAR', confirmed: 'BOOLEAN'
    }
);

SET VARIABLE watermark = (
    SELECT max(t) - INTERVAL 1 MINUTE
    FROM (SELECT t FROM exposure UNION ALL SELECT t FROM outcome UNION ALL SELECT t FROM guardrail)
);

-- one row a unit whose window has closed
CREATE TEMP TABLE opened AS
SELECT
    flagKey, unitId,
    arg_min(variation, t) AS variation,
    min(t) AS starts,
    count(*) AS exposures,
    count(*) FILTER (fallbackUsed) AS fallbacks
FROM exposure
GROUP BY flagKey, unitId
HAVING min(t) + INTERVAL 25 HOUR <= getvariable('watermark');

CREATE TEMP TABLE measured AS
SELECT
    flagKey, unitId,
    count(*) AS outcomes,
    bool_or(outcome.variation <> opened.variation) AS mismatched,
    arg_max(resolvedWithoutEscalation, t) FILTER (outcome.variation = opened.variation) AS resolved,
    bool_or(humanCorrection) FILTER (outcome.variation = opened.variation) AS human_correction,
    max(latencyMs) FILTER (outcome.variation = opened.variation AND t < starts + INTERVAL 1 HOUR) AS latency,
    sum(estimatedCost) FILTER (outcome.variation = opened.variation) AS cost
FROM outcome JOIN opened USING (flagKey, unitId)
WHERE t >= starts AND t < starts + INTERVAL 24 HOUR
GROUP BY flagKey, unitId;

CREATE TEMP TABLE guarded AS
SELECT flagKey, unitId, count(*) AS guardrails
FROM guardrail JOIN opened USING (flagKey, unitId)
WHERE t >= starts AND t < starts + INTERVAL 24 HOUR
GROUP BY flagKey, unitId;

CREATE TEMP VIEW facts AS
SELECT
    flagKey AS flag_key, unitId AS unit_id, variation, starts AS window_start,
    exposures, fallbacks, coalesce(outcomes, 0) AS outcomes, coalesce(guardrails, 0) AS guardrails,
    resolved::DOUBLE AS resolved, human_correction::DOUBLE AS human_correction, latency, cost,
    fallbacks = 0 AND NOT coalesce(mismatched, false) AS clean
FROM opened LEFT JOIN measured USING (flagKey, unitId) LEFT JOIN guarded USING (flagKey, unitId);
