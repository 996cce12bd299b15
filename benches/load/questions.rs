//! What the admin plane is asked of a month of requests, and how long it takes.

use std::time::{Duration, Instant};

use aoai_gateway::domain::time::{WallTime, wall_now};
use aoai_gateway::storage::page::rfc3339;

use super::Gateway;
use super::month::MONTH;
use crate::samples::Samples;

const DAY: Duration = Duration::from_secs(24 * 3600);
const WANTED_USAGE: Duration = Duration::from_millis(50);

pub fn told(what: &str, took: Duration, wanted: Option<Duration>) {
    let verdict = match wanted {
        Some(wanted) if took <= wanted => format!("wanted: {wanted:?}"),
        Some(wanted) => format!("TOO LONG, wanted: {wanted:?}"),
        None => String::new(),
    };
    println!("{what:<44} {took:>10.1?}  {verdict}");
}

/// Everything that the admin plane sums and lists; medians of five.
pub fn questions(gateway: &Gateway, samples: &Samples) {
    let now = wall_now();
    let stretch = |from: WallTime, to: WallTime| format!("from={}&to={}", rfc3339(from), rfc3339(to));
    let month = stretch(now.before(MONTH), now);
    // Midnight in India is on the half hour.
    let midnight =
        WallTime(now.0 - now.0 % 86_400_000_000 - 86_400_000_000).after(Duration::from_secs(18 * 3600 + 1800));
    let zoned = stretch(midnight.before(MONTH - DAY), midnight);
    let day_of_old = stretch(now.before(MONTH / 2), now.before(MONTH / 2 - DAY));
    let key = samples.key(3);
    let asked: [(&str, String, Option<Duration>); 17] = [
        ("usage by key, 30 days", format!("/usage?{month}&group_by=key"), Some(WANTED_USAGE)),
        ("usage by key, this month", "/usage?group_by=key".into(), Some(WANTED_USAGE)),
        ("usage by key, 29 days of UTC+5:30", format!("/usage?{zoned}&group_by=key"), Some(WANTED_USAGE)),
        ("usage in all", format!("/usage?{month}"), None),
        ("usage by user", format!("/usage?{month}&group_by=user"), None),
        ("usage by model", format!("/usage?{month}&group_by=model"), None),
        ("usage by resource", format!("/usage?{month}&group_by=resource"), None),
        ("usage by key, model and resource", format!("/usage?{month}&group_by=key,model,resource"), None),
        ("usage by day and model", format!("/usage?{month}&bucket=1d&group_by=model"), None),
        ("usage by hour, a day of it", format!("/usage?{day_of_old}&bucket=1h&group_by=key"), None),
        ("usage by hour, all of it, as csv", format!("/usage?{month}&bucket=1h&format=csv"), None),
        ("200 requests, the newest", "/requests?limit=200".into(), None),
        ("200 requests of a key", format!("/requests?limit=200&key={key}"), None),
        ("200 requests of a day", format!("/requests?limit=200&{day_of_old}"), None),
        ("requests of a model that is not there", "/requests?limit=200&model=gpt-5".into(), None),
        ("requests that failed (there are none)", "/requests?limit=200&state=failed".into(), None),
        ("requests that are open", "/requests?limit=200&state=open".into(), None),
    ];
    for (what, path, wanted) in asked {
        told(what, median_of_five(|| drop(gateway.admin("GET", &path, ""))), wanted);
    }
}

pub fn median_of_five(question: impl Fn()) -> Duration {
    let mut times: Vec<_> = (0..5)
        .map(|_| {
            let began = Instant::now();
            question();
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[2]
}
