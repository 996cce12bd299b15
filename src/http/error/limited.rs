//! What a caller whose own limit or quota refused a request is told: which one, how it stands, and what to do next.

use actix_web::http::StatusCode;

use super::{ApiError, SOON, seconds};
use crate::balance::budget::{Short, Unit, Why};
use crate::domain::money::Cost;
use crate::domain::time::WallTime;
use crate::limits::{Limited, QuotaShort, Whose};
use crate::openai::error::ErrorKind;

impl From<Limited> for ApiError {
    fn from(limited: Limited) -> Self {
        let limited_by = |kind, message: String, retry_after| {
            Self::new(StatusCode::TOO_MANY_REQUESTS, kind, "rate_limit_exceeded", message).after(retry_after)
        };
        match limited {
            Limited::Requests { retry_after, rpm, whose } => {
                let (owner, wait) = (owner(whose), seconds(retry_after));
                let message =
                    format!("{owner} limit of {rpm} requests per minute is reached. Wait {wait} and try again.");
                limited_by(ErrorKind::Requests, message, retry_after)
            }
            Limited::Concurrency { most, whose } => {
                let owner = owner(whose);
                let message =
                    format!("{owner} limit of {most} requests at once is reached. Wait for one to end and try again.");
                limited_by(ErrorKind::Requests, message, SOON)
            }
            Limited::Tokens { retry_after, tpm, whose } => {
                let (owner, tpm, wait) = (owner(whose), grouped(tpm.into()), seconds(retry_after));
                let message =
                    format!("{owner} limit of {tpm} tokens per minute is reached. Wait {wait} and try again.");
                limited_by(ErrorKind::Tokens, message, retry_after)
            }
            Limited::TooLarge { needs, tpm, whose } => {
                let message = format!(
                    "This request may need {} tokens, and {} limit is {} tokens per minute: it can never fit. Shorten the \
                     prompt, ask for fewer output tokens, or ask your admin for a higher limit.",
                    grouped(needs),
                    owner(whose).to_lowercase(),
                    grouped(tpm.into())
                );
                Self::invalid(StatusCode::BAD_REQUEST, "request_too_large_for_limit", message)
            }
            Limited::Quota(quota) => of_quota(&quota),
        }
    }
}

fn of_quota(QuotaShort { whose, cycle, short }: &QuotaShort) -> ApiError {
    let Short { why, of, allowed, used, needs, free: _, resets_at } = short;
    let say = |tokens: u64, cost: Cost| match of {
        Unit::Tokens => format!("{} tokens", grouped(tokens)),
        Unit::Cost => format!("{} US dollars", dollars(cost)),
    };
    let quota = format!("{} {}quota of {}", owner(*whose), cycle.period.adjective(), say(allowed.tokens, allowed.cost));
    let refuse = |message: String| {
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, ErrorKind::InsufficientQuota, "insufficient_quota", message)
    };
    if *why == Why::Reserved {
        let message =
            format!("The rest of {} is reserved by requests in flight. Try again in a second.", lower_first(&quota));
        return refuse(message).after(SOON);
    }
    let again = if *resets_at == WallTime(i64::MAX) {
        "It does not begin anew: ask your admin for a grant.".to_owned()
    } else {
        format!("It begins anew on {}; until then, ask your admin for a grant.", cycle.zone.text(*resets_at))
    };
    let is_empty = match of {
        Unit::Tokens => used.tokens >= allowed.tokens,
        Unit::Cost => used.cost >= allowed.cost,
    };
    let message = if is_empty {
        format!("{quota} is used up ({} used). {again}", say(used.tokens, used.cost))
    } else {
        let left = say(allowed.tokens.saturating_sub(used.tokens), Cost(allowed.cost.0.saturating_sub(used.cost.0)));
        let needs = say(needs.tokens, needs.cost);
        format!("{quota} has {left} left, and this request may need {needs}. Ask for fewer output tokens. {again}")
    };
    ApiError { is_settled: true, ..refuse(message) }
}

fn owner(whose: Whose) -> &'static str {
    match whose {
        Whose::Key => "Your key's",
        Whose::User => "Your user's (all keys together)",
    }
}

fn lower_first(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_lowercase().chain(characters).collect())
}

/// `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Cents, and as many digits more as small amounts need.
fn dollars(cost: Cost) -> String {
    let text = format!("{:.6}", cost.dollars());
    let least = text.find('.').map_or(text.len(), |point| point + 3);
    let kept = text.trim_end_matches('0').len().max(least);
    text[..kept].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::budget::Amount;
    use crate::domain::period::{Cycle, Period, Zone};

    fn refusal(why: Why, used: u64) -> ApiError {
        let amount = |tokens| Amount { tokens, cost: Cost(0) };
        let short = Short {
            why,
            of: Unit::Tokens,
            allowed: amount(5_000_000),
            used: amount(used),
            free: amount(0),
            needs: amount(120),
            resets_at: WallTime(1_796_083_200_000_000),
        };
        let cycle = Cycle { period: Period::Month, zone: Zone::UTC };
        Limited::Quota(Box::new(QuotaShort { whose: Whose::Key, cycle, short })).into()
    }

    #[test]
    fn a_used_up_quota_says_when_it_begins_anew_and_that_trying_is_in_vain() {
        let error = refusal(Why::UsedUp, 5_000_412);
        assert_eq!(
            error.body.message,
            "Your key's monthly quota of 5,000,000 tokens is used up (5,000,412 tokens used). It begins anew on \
             1 Dec 2026 00:00 (UTC); until then, ask your admin for a grant."
        );
        assert!(error.is_settled && error.retry_after.is_none());
        let error = refusal(Why::UsedUp, 4_999_990);
        assert!(error.body.message.contains("has 10 tokens left, and this request may need 120 tokens"));
    }

    #[test]
    fn what_is_reserved_may_be_free_soon() {
        let error = refusal(Why::Reserved, 10);
        assert_eq!((error.is_settled, error.retry_after), (false, Some(SOON)));
        assert!(error.body.message.starts_with("The rest of your key's monthly quota of 5,000,000 tokens is reserved"));
    }

    #[test]
    fn amounts_are_for_people() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(dollars(Cost(20_000_000_000_000)), "20.00");
        assert_eq!(dollars(Cost(12_500_000)), "0.000013");
        assert_eq!(dollars(Cost(1_250_000_000)), "0.00125");
    }
}
