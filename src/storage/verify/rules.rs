//! What one statement can check. Each yields one text per violation: which row, and what it says where what was expected.

/// One statement of the books.
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) says: &'static str,
    pub(super) next_step: &'static str,
    pub(super) statement: &'static str,
}

const RESTORE: &str =
    "restore the newest backup beside this file, compare the rows named here, and keep the damaged file";
const REPORT: &str =
    "compare the rows named here with a backup; if nobody changed the file by hand, report it as a bug";

pub(super) const CHECKS: [Check; 12] = [
    Check {
        name: "file",
        says: "the database file is whole",
        next_step: RESTORE,
        statement: "SELECT integrity_check AS example FROM pragma_integrity_check WHERE integrity_check <> 'ok'",
    },
    Check {
        name: "references",
        says: "every attempt belongs to a request, every key's user exists",
        next_step: RESTORE,
        statement: "SELECT 'table ' || \"table\" || ' names a missing row of ' || parent AS example \
                    FROM pragma_foreign_key_check",
    },
    Check {
        name: "unique",
        says: "every request has exactly one row",
        next_step: RESTORE,
        statement: "SELECT 'req_' || lower(hex(id)) || ' has ' || COUNT(*) || ' rows' AS example FROM requests \
                    GROUP BY id HAVING COUNT(*) > 1",
    },
    Check {
        name: "attempts",
        says: "a request has as many attempts as its row counts, and none twice",
        next_step: REPORT,
        statement: "SELECT 'req_' || lower(hex(r.id)) || ' counts ' || r.attempts || ' attempts, and ' \
                    || COALESCE(a.filed, 0) || ' are filed beside it' AS example FROM requests AS r \
                    LEFT JOIN (SELECT request, COUNT(*) AS filed, MAX(n) AS last FROM attempts GROUP BY request) AS a \
                    ON a.request = r.id \
                    WHERE (a.request IS NULL AND r.attempts > 1) \
                    OR a.filed NOT IN (r.attempts, r.attempts - 1) OR a.last <> a.filed - 1",
    },
    Check {
        name: "closed once",
        says: "a closed request has a state, a status and one set of tokens; a recovered one is marked as estimated",
        next_step: REPORT,
        statement: "SELECT 'req_' || lower(hex(id)) || ' is ' || state || ' with status ' || COALESCE(status, 'none') \
                    || ', duration ' || COALESCE(duration_us, 'none') || ' and estimated = ' || estimated AS example \
                    FROM requests WHERE (state <> 'open' AND state <> 'recovered' \
                    AND (status IS NULL OR duration_us IS NULL)) OR (state = 'recovered' AND estimated = 0)",
    },
    Check {
        name: "charged once",
        says: "the caller is charged for exactly one attempt, one that Azure may have billed, or for nothing",
        next_step: REPORT,
        // The last attempt is what the request's own row says, unless it stands beside it.
        statement: "SELECT 'req_' || lower(hex(r.id)) || ' is charged ' || r.input_tokens || ' + ' || r.output_tokens \
                    || ' tokens, and none of its ' || r.attempts || ' attempts was billed that' AS example \
                    FROM requests AS r WHERE r.state <> 'open' AND r.state <> 'recovered' \
                    AND (r.input_tokens > 0 OR r.output_tokens > 0 OR r.cost > 0) \
                    AND (r.attempts = 0 OR r.charge = 'none' OR EXISTS \
                    (SELECT 1 FROM attempts AS a WHERE a.request = r.id AND a.n = r.attempts - 1)) AND NOT EXISTS \
                    (SELECT 1 FROM attempts AS a WHERE a.request = r.id AND a.charge <> 'none' \
                    AND a.input_tokens = r.input_tokens AND a.output_tokens = r.output_tokens \
                    AND a.cached_input_tokens = r.cached_input_tokens AND a.reasoning_tokens = r.reasoning_tokens \
                    AND a.audio_input_tokens = r.audio_input_tokens AND a.audio_output_tokens = r.audio_output_tokens)",
    },
    Check {
        name: "estimates",
        says: "a settled request is an estimate if its last attempt is, and exact if Azure told the figures",
        next_step: REPORT,
        statement: "SELECT 'req_' || lower(hex(id)) || ' says estimated = ' || estimated || ' and its attempt says ' \
                    || charge AS example FROM requests WHERE state = 'settled' \
                    AND ((estimated = 0 AND charge = 'estimated') OR (estimated <> 0 AND charge = 'exact'))",
    },
    Check {
        name: "prices",
        says: "a request costs what its tokens cost at the prices that it names, each token once",
        next_step: REPORT,
        // What is reported of a part may be more than what is left of the whole.
        statement: "SELECT 'req_' || lower(hex(id)) || ' costs ' || cost || ' picodollars, and its tokens cost ' || due \
                    AS example FROM (SELECT id, cost, (r.input_tokens - cached - heard) * p.input \
                    + cached * p.cached_input + heard * COALESCE(p.audio_input, p.input) \
                    + (r.output_tokens - thought - said) * p.output + thought * COALESCE(p.reasoning, p.output) \
                    + said * COALESCE(p.audio_output, p.output) AS due FROM (SELECT *, \
                    MIN(audio_input_tokens, input_tokens - cached) AS heard, \
                    MIN(audio_output_tokens, output_tokens - thought) AS said FROM (SELECT *, \
                    MIN(cached_input_tokens, input_tokens) AS cached, MIN(reasoning_tokens, output_tokens) AS thought \
                    FROM requests WHERE state <> 'open' AND flat_cost = 0)) AS r \
                    JOIN prices AS p ON p.version = r.price_version) WHERE cost <> due",
    },
    Check {
        name: "flat cost",
        says: "a request that capacity of a flat rate served costs nothing",
        next_step: REPORT,
        statement: "SELECT 'req_' || lower(hex(id)) || ' costs ' || cost || ' picodollars at a flat rate' AS example \
                    FROM requests WHERE flat_cost <> 0 AND cost > 0",
    },
    Check {
        name: "not negative",
        says: "no count of tokens and no amount of money is below zero",
        next_step: RESTORE,
        statement: "SELECT 'req_' || lower(hex(id)) || ' has one below zero' AS example FROM requests \
                    WHERE MIN(input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, audio_input_tokens, \
                    audio_output_tokens, cost, attempts) < 0 \
                    UNION ALL SELECT 'the roll-up of hour ' || datetime(hour / 1000000, 'unixepoch') \
                    || ' has one below zero' FROM usage_hourly WHERE MIN(requests, input_tokens, \
                    cached_input_tokens, output_tokens, reasoning_tokens, cost, errors, cancelled, estimated, \
                    flat_cost, audio_input_tokens, audio_output_tokens) < 0",
    },
    // Hours of which rows were removed because they were old hold more than the rows that are left.
    Check {
        name: "roll-ups",
        says: "every roll-up equals the sum of its closed requests (holds at least that, where old ones were removed)",
        next_step: REPORT,
        statement: "SELECT 'hour ' || datetime(hour / 1000000, 'unixepoch') || ', key key_' || lower(hex(key_id)) \
                    || ', model ' || model || ', resource ' || resource || ': the roll-up minus its rows is ' \
                    || SUM(requests) || ' requests, ' || SUM(input_tokens) || ' + ' || SUM(output_tokens) \
                    || ' tokens, ' || SUM(cost) || ' picodollars' AS example FROM ( \
                    SELECT hour, key_id, user_id, model, resource, requests, input_tokens, cached_input_tokens, \
                    output_tokens, reasoning_tokens, cost, errors, cancelled, estimated, flat_cost, audio_input_tokens, \
                    audio_output_tokens FROM usage_hourly \
                    UNION ALL \
                    SELECT started_at - started_at % 3600000000, key_id, COALESCE(user_id, x''), model, resource, -1, \
                    -input_tokens, -cached_input_tokens, -output_tokens, -reasoning_tokens, -cost, \
                    -(state = 'failed' OR (state = 'settled' AND status >= 400)), -(state = 'cancelled'), -estimated, \
                    -flat_cost, -audio_input_tokens, -audio_output_tokens FROM requests WHERE state <> 'open') \
                    GROUP BY hour, key_id, user_id, model, resource \
                    HAVING MIN(SUM(requests), SUM(input_tokens), SUM(cached_input_tokens), SUM(output_tokens), \
                    SUM(reasoning_tokens), SUM(cost), SUM(errors), SUM(cancelled), SUM(estimated), SUM(flat_cost), \
                    SUM(audio_input_tokens), SUM(audio_output_tokens)) < 0 \
                    OR (MAX(SUM(requests), SUM(input_tokens), SUM(cached_input_tokens), SUM(output_tokens), \
                    SUM(reasoning_tokens), SUM(cost), SUM(errors), SUM(cancelled), SUM(estimated), SUM(flat_cost), \
                    SUM(audio_input_tokens), SUM(audio_output_tokens)) > 0 \
                    AND hour >= COALESCE((SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'kept_from'), hour))",
    },
    Check {
        name: "days and months",
        says: "every day and month equals the sum of its hours, as far as they are folded",
        next_step: REPORT,
        statement: "SELECT CASE unit WHEN 1 THEN 'day ' ELSE 'month ' END || date(start / 1000000, 'unixepoch') \
                    || ', key key_' || lower(hex(key_id)) || ', model ' || model || ', resource ' || resource \
                    || ': it minus its hours is ' || SUM(requests) || ' requests, ' || SUM(input_tokens) || ' + ' \
                    || SUM(output_tokens) || ' tokens, ' || SUM(cost) || ' picodollars' AS example FROM ( \
                    SELECT unit, start, key_id, user_id, model, resource, requests, input_tokens, \
                    cached_input_tokens, output_tokens, reasoning_tokens, cost, errors, cancelled, estimated, flat_cost, \
                    audio_input_tokens, audio_output_tokens FROM usage_folded UNION ALL \
                    SELECT unit, CASE unit WHEN 1 THEN hour - hour % 86400000000 ELSE CAST(strftime('%s', \
                    hour / 1000000, 'unixepoch', 'start of month') AS INTEGER) * 1000000 END, key_id, user_id, model, \
                    resource, -requests, -input_tokens, -cached_input_tokens, -output_tokens, -reasoning_tokens, -cost, \
                    -errors, -cancelled, -estimated, -flat_cost, -audio_input_tokens, -audio_output_tokens FROM usage_hourly \
                    CROSS JOIN (SELECT 1 AS unit UNION ALL SELECT 2) \
                    WHERE hour < (SELECT until FROM usage_fold)) \
                    GROUP BY unit, start, key_id, user_id, model, resource \
                    HAVING SUM(requests) <> 0 OR SUM(input_tokens) <> 0 OR SUM(cached_input_tokens) <> 0 \
                    OR SUM(output_tokens) <> 0 OR SUM(reasoning_tokens) <> 0 OR SUM(cost) <> 0 OR SUM(errors) <> 0 \
                    OR SUM(cancelled) <> 0 OR SUM(estimated) <> 0 OR SUM(flat_cost) <> 0 \
                    OR SUM(audio_input_tokens) <> 0 OR SUM(audio_output_tokens) <> 0",
    },
];
