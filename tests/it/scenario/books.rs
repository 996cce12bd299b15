//! The ledger's rows, the regions' journals and the admin plane's sums, compared.

use std::collections::HashMap;

use aoai_gateway::simulator::{Control, Entry};
use aoai_gateway::storage::requests::{AttemptView, RequestView};

use super::AT_ONCE;
use super::roles::COOLDOWN;
use crate::support::gateway::{TestGateway, wait};

/// From a 429 to the moment when all who might ask know of it, on a busy machine. Microseconds.
const NEWS: i64 = 150_000;

pub struct Books {
    pub rows: Vec<RequestView>,
    /// By region, in order of arrival.
    journals: Vec<(String, Vec<Entry>)>,
}

impl Books {
    /// When nothing is in flight any more.
    pub fn close(gateway: &TestGateway, names: &[&str], regions: &[Control]) -> Self {
        gateway.settle();
        for region in regions {
            wait(region.idle());
        }
        let journals = names.iter().zip(regions).map(|(name, region)| ((*name).to_owned(), region.journal())).collect();
        Self { rows: gateway.all_rows(), journals }
    }

    pub fn row(&self, request_id: &str) -> &RequestView {
        self.rows.iter().find(|row| row.request_id == request_id).unwrap()
    }

    pub fn attempts(&self) -> usize {
        self.rows.iter().map(|row| row.attempts.len()).sum()
    }

    /// Input, cached input, output and reasoning tokens of all rows.
    pub fn sum(&self) -> [i64; 4] {
        sum(self
            .rows
            .iter()
            .map(|row| [row.input_tokens, row.cached_input_tokens, row.output_tokens, row.reasoning_tokens]))
    }

    /// Every request to a region is an attempt in the ledger, and what that calls exact is what the region charged.
    pub fn rows_are_what_the_regions_charged(&self) {
        let mut entries: HashMap<&str, (&str, &Entry)> = HashMap::new();
        for (region, journal) in &self.journals {
            entries.extend(journal.iter().map(|entry| (entry.apim_request_id.as_str(), (region.as_str(), entry))));
        }
        assert_eq!(self.attempts(), entries.len(), "attempts in the ledger, requests at the regions");
        let mut charged = Vec::new();
        for (row, attempt) in self.rows.iter().flat_map(|row| row.attempts.iter().map(move |attempt| (row, attempt))) {
            // A head that never came has no id; the request's own finds it.
            let found = match &attempt.upstream_id {
                Some(id) => entries.remove(id.as_str()),
                None => {
                    self.without_head(row, attempt).and_then(|entry| entries.remove(entry.apim_request_id.as_str()))
                }
            };
            let (region, entry) = found.unwrap_or_else(|| panic!("no region knows {attempt:?} of {row:?}"));
            assert_eq!(attempt.resource, region, "{row:?}");
            assert_eq!(entry.x_ms_client_request_id.as_ref(), Some(&row.request_id));
            match attempt.charged.as_deref() {
                Some("exact") => {
                    assert_eq!(tokens(attempt), region_tokens(entry), "{row:?}\n{entry:?}");
                    assert!(entry.completed && entry.status == 200, "{entry:?}");
                    charged.push(region_tokens(entry));
                }
                Some("none") => assert!(!entry.charged && entry.status == 429, "{row:?}\n{entry:?}"),
                // What a 500 costs, nobody but the region knows.
                Some("ambiguous" | "estimated") => {
                    assert!(entry.status == 500 || entry.fault == Some("cut"), "{row:?}\n{entry:?}");
                }
                other => panic!("{other:?} in {row:?}"),
            }
        }
        let exact = self.rows.iter().filter(|row| !row.estimated);
        let rows =
            exact.map(|row| [row.input_tokens, row.cached_input_tokens, row.output_tokens, row.reasoning_tokens]);
        assert_eq!(sum(rows), sum(charged.into_iter()), "rows, and journals of what was served");
    }

    fn without_head(&self, row: &RequestView, attempt: &AttemptView) -> Option<&Entry> {
        let (_, journal) = self.journals.iter().find(|(region, _)| *region == attempt.resource)?;
        journal.iter().find(|entry| entry.x_ms_client_request_id.as_ref() == Some(&row.request_id))
    }

    /// `/admin/v1/usage` in one sum and by region.
    pub fn usage_is_the_sum_of_the_rows(&self, gateway: &TestGateway) {
        let names = ["input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens"];
        for (query, groups) in [("", 1), ("&group_by=resource", self.journals.len()), ("&group_by=key,model", 1)] {
            let path = format!("/usage?from=2020-01-01T00:00:00Z{query}");
            let usage = gateway.admin("GET", &path, "").expect(200).json();
            let data = usage["data"].as_array().unwrap();
            assert_eq!(data.len(), groups, "{usage}");
            let total = |name: &str| data.iter().map(|group| group[name].as_i64().unwrap()).sum::<i64>();
            let count = |state: fn(&RequestView) -> bool| self.rows.iter().filter(|row| state(row)).count() as i64;
            assert_eq!(names.map(total), self.sum(), "{usage}");
            assert_eq!(total("requests"), count(|_| true));
            assert_eq!(total("errors"), count(|row| row.state == "failed"));
            assert_eq!(total("estimated"), count(|row| row.estimated));
            let cost: f64 = data.iter().map(|group| group["cost_usd"].as_f64().unwrap()).sum();
            let rows: f64 = self.rows.iter().map(|row| row.cost_usd).sum();
            assert!(rows > 0.0 && (cost - rows).abs() < 1e-9 * rows.max(1.0), "{cost} and {rows}");
        }
    }

    /// After a 429 that asks for a pause, nothing arrives at that region before the pause is over, but for what was on
    /// its way when the 429 was sent: no more than there were clients, and at once. Gives the number of pauses and of
    /// such requests.
    pub fn no_one_is_asked_inside_a_cooldown(&self) -> (usize, usize) {
        let pause = i64::try_from(COOLDOWN.as_micros()).unwrap();
        let (mut pauses, mut on_their_way) = (0, 0);
        for (region, journal) in &self.journals {
            for refusal in journal.iter().filter(|entry| entry.status == 429) {
                pauses += 1;
                // The pause cannot have begun before the refusal did, and who asks knows of it when that was sent.
                let (began, sent) = (refusal.arrived_us, refusal.arrived_us + refusal.duration_us.cast_signed());
                let arrivals = journal.iter().map(|entry| entry.arrived_us);
                let inside: Vec<_> = arrivals.filter(|at| (sent + 1..began + pause).contains(at)).collect();
                let (early, late): (Vec<i64>, Vec<i64>) = inside.iter().map(|at| at - sent).partition(|at| *at < NEWS);
                assert!(late.is_empty(), "{region} was asked {late:?} µs after it asked for a pause: {refusal:#?}");
                assert!(early.len() < AT_ONCE, "{region} was asked {early:?} µs after {refusal:#?}");
                on_their_way += early.len();
            }
        }
        (pauses, on_their_way)
    }
}

fn sum(all: impl Iterator<Item = [i64; 4]>) -> [i64; 4] {
    all.fold([0; 4], |sum, one| std::array::from_fn(|place| sum[place] + one[place]))
}

fn tokens(attempt: &AttemptView) -> [i64; 4] {
    [attempt.input_tokens, attempt.cached_input_tokens, attempt.output_tokens, attempt.reasoning_tokens]
}

fn region_tokens(entry: &Entry) -> [i64; 4] {
    let figures = [entry.prompt_tokens, entry.cached_tokens, entry.completion_tokens, entry.reasoning_tokens];
    figures.map(|tokens| i64::try_from(tokens).unwrap())
}
