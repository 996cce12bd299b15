//! Checks of the shared database against this gateway's journal, and against itself.
//!
//! The journal comes first: it is read, then the server, and what differs is looked at again after asking whether it only
//! waits to be brought over. So it may be done beside a running gateway.

use std::collections::{HashMap, HashSet};

use diesel::prelude::*;
use diesel::sql_types::Text;

use super::connection::StoreConnection;
use super::requests::{AttemptRow, Row};
use super::schema::{attempts, requests, unprojected};
use super::verify::{Rule, shorten};
use super::{StorageError, Store, meta};

/// Requests looked at together.
const CHUNK: i64 = 1000;

/// A request and the attempts that it has apart.
type Whole = (Row, Vec<AttemptRow>);

/// Hours of which rows were removed because they were old hold more than the rows that are left.
const ROLLUPS: &str = "
    SELECT 'hour ' || to_timestamp(hour / 1000000) || ', key key_' || encode(key_id, 'hex') || ', model ' || model
        || ', resource ' || resource AS example
    FROM (
        SELECT hour, key_id, user_id, model, resource, requests, input_tokens, cached_input_tokens, output_tokens,
            reasoning_tokens, cost, errors, cancelled, estimated, flat_cost, audio_input_tokens, audio_output_tokens
        FROM usage_hourly
        UNION ALL
        SELECT started_at - started_at % 3600000000, key_id, COALESCE(user_id, ''), model, resource, -1, -input_tokens,
            -cached_input_tokens, -output_tokens, -reasoning_tokens, -cost,
            -CAST(state = 'failed' OR (state = 'settled' AND status >= 400) AS INTEGER),
            -CAST(state = 'cancelled' AS INTEGER), -CAST(estimated AS INTEGER), -CAST(flat_cost AS INTEGER),
            -audio_input_tokens, -audio_output_tokens
        FROM requests
    ) AS both_sides
    GROUP BY hour, key_id, user_id, model, resource
    HAVING LEAST(SUM(requests), SUM(input_tokens), SUM(cached_input_tokens), SUM(output_tokens), SUM(reasoning_tokens),
        SUM(cost), SUM(errors), SUM(cancelled), SUM(estimated), SUM(flat_cost), SUM(audio_input_tokens),
        SUM(audio_output_tokens)) < 0
        OR (GREATEST(SUM(requests), SUM(input_tokens), SUM(cached_input_tokens), SUM(output_tokens), SUM(reasoning_tokens),
        SUM(cost), SUM(errors), SUM(cancelled), SUM(estimated), SUM(flat_cost), SUM(audio_input_tokens),
        SUM(audio_output_tokens)) > 0
        AND hour >= COALESCE((SELECT CAST(value AS BIGINT) FROM meta WHERE name = 'kept_from'), hour))";

/// What is closed while it is looked at changes both sides in one transaction.
const FOLDED: &str = "
    SELECT 'the ' || CASE unit WHEN 1 THEN 'day' ELSE 'month' END || ' from ' || to_timestamp(start / 1000000) || ', key key_'
        || encode(key_id, 'hex') || ', model ' || model || ', resource ' || resource AS example
    FROM (
        SELECT unit, start, key_id, user_id, model, resource, requests, input_tokens, cached_input_tokens, output_tokens,
            reasoning_tokens, cost, errors, cancelled, estimated, flat_cost, audio_input_tokens, audio_output_tokens
        FROM usage_folded
        UNION ALL
        SELECT unit, CASE unit WHEN 1 THEN hour - hour % 86400000000
                ELSE CAST(EXTRACT(EPOCH FROM date_trunc('month', to_timestamp(hour / 1000000) AT TIME ZONE 'UTC'))
                    AS BIGINT) * 1000000 END,
            key_id, user_id, model, resource, -requests, -input_tokens, -cached_input_tokens, -output_tokens,
            -reasoning_tokens, -cost, -errors, -cancelled, -estimated, -flat_cost, -audio_input_tokens,
            -audio_output_tokens
        FROM usage_hourly CROSS JOIN (VALUES (1), (2)) AS units (unit)
        WHERE hour < (SELECT until FROM usage_fold)
    ) AS both_sides
    GROUP BY unit, start, key_id, user_id, model, resource
    HAVING SUM(requests) <> 0 OR SUM(input_tokens) <> 0 OR SUM(cached_input_tokens) <> 0 OR SUM(output_tokens) <> 0
        OR SUM(reasoning_tokens) <> 0 OR SUM(cost) <> 0 OR SUM(errors) <> 0 OR SUM(cancelled) <> 0
        OR SUM(estimated) <> 0 OR SUM(flat_cost) <> 0
        OR SUM(audio_input_tokens) <> 0 OR SUM(audio_output_tokens) <> 0";

/// The journal is checked so beside its own prices; where there is a server, the prices are there.
const PRICES: &str = "
    SELECT 'req_' || encode(id, 'hex') || ' costs ' || cost || ' picodollars, and its tokens cost ' || due AS example
    FROM (
        SELECT id, cost, (r.input_tokens - cached - heard) * p.input + cached * p.cached_input
            + heard * COALESCE(p.audio_input, p.input) + (r.output_tokens - thought - said) * p.output
            + thought * COALESCE(p.reasoning, p.output) + said * COALESCE(p.audio_output, p.output) AS due
        FROM (
            SELECT *, LEAST(audio_input_tokens, input_tokens - cached) AS heard,
                LEAST(audio_output_tokens, output_tokens - thought) AS said
            FROM (
                SELECT *, LEAST(cached_input_tokens, input_tokens) AS cached,
                    LEAST(reasoning_tokens, output_tokens) AS thought
                FROM requests WHERE NOT flat_cost
            ) AS parts
        ) AS r
        JOIN prices AS p ON p.version = r.price_version
    ) AS priced
    WHERE cost <> due";

#[derive(QueryableByName)]
struct Example {
    #[diesel(sql_type = Text)]
    example: String,
}

impl Store {
    /// What must be true of the shared database; nothing where there is none.
    pub(super) fn verify_shared(&self) -> Result<Vec<Rule>, StorageError> {
        if !self.is_shared() {
            return Ok(Vec::new());
        }
        let different = self.different_there()?.into_iter().map(|id| format!("req_{}", hex::encode(id)));
        let rollups: Vec<Example> = diesel::sql_query(ROLLUPS).load(&mut *self.reader()?)?;
        let folded: Vec<Example> = diesel::sql_query(FOLDED).load(&mut *self.reader()?)?;
        let priced: Vec<Example> = diesel::sql_query(PRICES).load(&mut *self.reader()?)?;
        Ok(vec![
            Rule {
                name: "projection",
                says: "the shared database has every request that this journal brought there, as it is here",
                broken: shorten(different.collect()),
                next_step: "somebody changed the rows there, or removed them: the journal has them as they were",
            },
            Rule {
                name: "shared roll-ups",
                says: "every roll-up of the shared database equals the sum of its requests (holds at least that, where old ones \
                       were removed)",
                broken: shorten(rollups.into_iter().map(|row| row.example).collect()),
                next_step: "somebody changed rows there; if nobody did, report it as a bug",
            },
            Rule {
                name: "shared prices",
                says: "a request of the shared database costs what its tokens cost at the prices that it names, each token once",
                broken: shorten(priced.into_iter().map(|row| row.example).collect()),
                next_step: "somebody changed rows there; if nobody did, report it as a bug",
            },
            Rule {
                name: "shared days and months",
                says: "every day and month of the shared database equals the sum of its hours, as far as they are folded",
                broken: shorten(folded.into_iter().map(|row| row.example).collect()),
                next_step: "somebody changed rows there; if nobody did, report it as a bug",
            },
        ])
    }

    /// Requests of the journal that the server does not have as they are, and that do not wait to be brought there.
    fn different_there(&self) -> Result<Vec<Vec<u8>>, StorageError> {
        let (mut last, mut broken) = (Vec::new(), Vec::new());
        loop {
            let here = {
                let file = &mut *self.file_reader()?;
                let rows: Vec<Row> = requests::table
                    .filter(requests::state.ne("open").and(requests::id.gt(&last)))
                    .order(requests::id)
                    .limit(CHUNK)
                    .select(Row::as_select())
                    .load(file)?;
                whole(file, rows)?
            };
            let Some((row, _)) = here.last() else { return Ok(broken) };
            last.clone_from(&row.id);
            let suspects = self.not_as_here(&here)?;
            if suspects.is_empty() {
                continue;
            }
            let waiting: Vec<Option<Vec<u8>>> = unprojected::table
                .filter(unprojected::request.is_not_null())
                .select(unprojected::request)
                .load(&mut *self.file_reader()?)?;
            let waiting: HashSet<Vec<u8>> = waiting.into_iter().flatten().collect();
            let left: Vec<Whole> =
                here.into_iter().filter(|(row, _)| suspects.contains(&row.id) && !waiting.contains(&row.id)).collect();
            broken.extend(self.not_as_here(&left)?);
        }
    }

    fn not_as_here(&self, here: &[Whole]) -> Result<Vec<Vec<u8>>, StorageError> {
        let ids: Vec<&[u8]> = here.iter().map(|(row, _)| row.id.as_slice()).collect();
        let server = &mut *self.reader()?;
        let rows: Vec<Row> = requests::table.filter(requests::id.eq_any(ids)).select(Row::as_select()).load(server)?;
        let there: HashMap<Vec<u8>, Whole> =
            whole(server, rows)?.into_iter().map(|one| (one.0.id.clone(), one)).collect();
        // After the rows: what is removed from now on is not missed.
        let kept_from: i64 = meta::get(server, meta::KEPT_FROM)?.and_then(|text| text.parse().ok()).unwrap_or(i64::MIN);
        let differs = |one: &&Whole| match there.get(&one.0.id) {
            Some(row) => row != *one,
            None => one.0.started_at >= kept_from,
        };
        Ok(here.iter().filter(differs).map(|(row, _)| row.id.clone()).collect())
    }
}

fn whole(connection: &mut StoreConnection, rows: Vec<Row>) -> Result<Vec<Whole>, StorageError> {
    let ids: Vec<&[u8]> = rows.iter().map(|row| row.id.as_slice()).collect();
    let apart: Vec<AttemptRow> = attempts::table
        .filter(attempts::request.eq_any(ids))
        .order((attempts::request, attempts::n))
        .select(AttemptRow::as_select())
        .load(connection)?;
    let mut by_request: HashMap<Vec<u8>, Vec<AttemptRow>> = HashMap::new();
    for attempt in apart {
        by_request.entry(attempt.request.clone()).or_default().push(attempt);
    }
    Ok(rows
        .into_iter()
        .map(|row| {
            let own = by_request.remove(&row.id).unwrap_or_default();
            (row, own)
        })
        .collect())
}
