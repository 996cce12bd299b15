//! `aoai-gateway top`: what the resources of a running gateway do, again and again. On a terminal each picture replaces
//! the one before; in a pipe they follow each other, with nothing in them that only a terminal understands.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use super::Common;
use super::admin_client::{AdminClient, Asking, Failure};
use super::print::{self, cell};
use super::resources::{each_deployment, latency, share};
use crate::domain::time::wall_now;
use crate::storage::page::rfc3339;

#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// How often it looks, as in `2s`
    #[arg(long, value_name = "SPAN", value_parser = parse_pause, default_value = "2s")]
    pub every: Duration,
    /// Look once
    #[arg(long)]
    pub once: bool,
    /// With --json, a line each time
    #[command(flatten)]
    pub asking: Asking,
}

/// Less would be a load of its own.
const SHORTEST: Duration = Duration::from_millis(200);

fn parse_pause(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(pause) if pause >= SHORTEST => Ok(pause),
        Ok(_) => Err("at least 200ms".to_owned()),
        Err(error) => Err(format!("{error}; write it like `2s`")),
    }
}

pub fn run(args: &Args, common: &Common) -> ExitCode {
    watch(args, common).unwrap_or_else(|failure| failure.reported())
}

#[expect(clippy::disallowed_methods, reason = "this process serves nobody; it only looks again later")]
fn watch(args: &Args, common: &Common) -> Result<ExitCode, Failure> {
    let client = AdminClient::new(&args.asking.reach, common)?;
    // What is wrong from the start (address, key) ends it; later it is told, and the next look may be better.
    let mut shown: Result<_, Failure> = Ok(Picture::take(&client)?);
    loop {
        let text = match &shown {
            Ok(picture) if args.asking.json => format!("{}\n", picture.json()),
            Ok(picture) => picture.text(),
            Err(failure) if args.asking.json => format!("{}\n", json!({ "error": failure.to_string() })),
            Err(failure) => format!("{failure}\n"),
        };
        let redrawn = print::on_terminal() && !args.once && !args.asking.json;
        let text = if redrawn { format!("{CLEAR}{text}") } else { text };
        // Nobody reads any more.
        if print::try_out(&text).is_err() || args.once {
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(args.every);
        shown = Picture::take(&client);
    }
}

/// The cursor to the upper left, and everything gone.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J\u{1b}[3J";

/// One look.
struct Picture {
    at: String,
    resources: Vec<Value>,
    in_flight: u64,
    waiting: u64,
}

impl Picture {
    fn take(client: &AdminClient) -> Result<Self, Failure> {
        let resources = client.list("/resources", &[])?;
        let metrics = client.metrics()?;
        let sum = |name| sum_of(&metrics, name);
        let (in_flight, waiting) = (sum("aoai_gateway_inflight_requests"), sum("aoai_gateway_waiting_requests"));
        Ok(Self { at: rfc3339(wall_now()), resources, in_flight, waiting })
    }

    fn json(&self) -> Value {
        let Self { at, resources, in_flight, waiting } = self;
        json!({ "at": at, "in_flight": in_flight, "waiting": waiting, "resources": resources })
    }

    fn text(&self) -> String {
        let recent: u64 = self.resources.iter().filter_map(|resource| resource["recent_requests"].as_u64()).sum();
        let rows: Vec<_> = self.resources.iter().flat_map(rows).collect();
        format!(
            "{}: {} in flight, {} waiting, {recent} attempts in the last minute\n{}\n",
            print::to_the_second(&self.at),
            self.in_flight,
            self.waiting,
            print::table_text(&HEADINGS, &rows)
        )
    }
}

/// All series of a metric together.
fn sum_of(metrics: &str, name: &str) -> u64 {
    let values = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        // Another metric may begin with this one's name.
        rest.starts_with([' ', '{']).then_some(())?;
        rest.rsplit(' ').next()?.parse::<f64>().ok()
    });
    values.sum::<f64>() as u64
}

const HEADINGS: [&str; 10] =
    ["RESOURCE", "DEPLOYMENT", "MODEL", "HEALTH", "SHARE", "IN-FLIGHT", "RPM", "TPM", "LATENCY-MS", "UNTIL"];

fn rows(resource: &Value) -> Vec<Vec<String>> {
    each_deployment(resource, &HEADINGS, |health, one| {
        let used = |used: &str, most: &str| match one[most].is_null() {
            true => cell(&one[used]),
            false => format!("{}/{}", cell(&one[used]), cell(&one[most])),
        };
        vec![
            cell(&resource["name"]),
            cell(&one["name"]),
            cell(&one["model"]),
            health,
            share(one),
            cell(&one["in_flight"]),
            used("used_rpm", "effective_rpm"),
            used("used_tpm", "effective_tpm"),
            latency(one),
            cell(&one["cooldown_until"]),
        ]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_of_one_metric_are_added_and_no_other_is() {
        let metrics = "# HELP a_waiting requests\n# TYPE a_waiting gauge\na_waiting{class=\"x y\"} 2\na_waiting{class=\"z\"} 3\n\
                       a_waiting_seconds 7\nb_a_waiting 9\n";
        assert_eq!(sum_of(metrics, "a_waiting"), 5);
        assert_eq!(sum_of(metrics, "none"), 0);
    }

    #[test]
    fn what_is_used_stands_beside_what_is_allowed() {
        let one = json!({ "name": "mini", "model": "m", "health": "ok", "in_flight": 1, "share": 0.5, "used_rpm": 3,
            "effective_rpm": 60, "used_tpm": 9, "effective_tpm": null, "latency_ms": 12.4 });
        let mut resource = json!({ "name": "east", "health": "ok", "deployments": [one] });
        let line = |resource: &Value| rows(resource).remove(0).join(" ");
        assert_eq!(line(&resource), "east mini m ok 50% 1 3/60 9 12 -");
        resource["health"] = "drained".into();
        assert!(line(&resource).contains(" drained "));
        assert_eq!(line(&json!({ "name": "west", "health": "disabled" })), "west - - disabled - - - - - -");
    }
}
