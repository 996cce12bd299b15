//! Texts to values: durations, sizes, prices, addresses, and the forms that names may have. Pure.

use std::net::SocketAddr;
use std::time::Duration;

use config::ValueKind;

/// `"45s"`, `"1h 30m"`; a bare number has no unit and is none.
pub(super) fn duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text.trim()).ok()
}

/// In days where it is whole days: nobody reads 90 days in "2months 29days 2h 52m 48s".
pub(super) fn days_text(duration: Duration) -> String {
    const DAY: u64 = 24 * 3600;
    match duration.as_secs() {
        seconds if seconds > 0 && seconds % DAY == 0 && duration.subsec_nanos() == 0 => format!("{}d", seconds / DAY),
        _ => humantime::format_duration(duration).to_string(),
    }
}

/// `"32MiB"`; a bare number is bytes.
pub(super) fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    // The crate takes "" for a number and "1.2.3MB" for none; neither is worth relying on.
    if !text.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    text.parse::<bytesize::ByteSize>().ok().map(|size| size.as_u64())
}

/// A size in the largest unit that it is a whole number of.
pub(super) fn size_text(bytes: usize) -> String {
    const UNITS: [(u32, &str); 3] = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let whole = UNITS.iter().find(|(bits, _)| bytes > 0 && bytes.trailing_zeros() >= *bits);
    whole.map_or(format!("{bytes}B"), |(bits, unit)| format!("{}{unit}", bytes >> bits))
}

/// `"0.0.0.0:8080"`, `"[::1]:0"`: an address, not a name.
pub(super) fn address(text: &str) -> Option<SocketAddr> {
    text.trim().parse().ok()
}

/// USD per million tokens as picodollars per token, exactly: 0.15 is 150,000.
///
/// A TOML float is at hand as `f64` only, but the shortest decimal that names it is the one that was written, as long
/// as that had at most 15 digits; the bounds below stay within that.
pub(super) fn price(value: &ValueKind) -> Result<i64, PriceError> {
    if let ValueKind::I64(whole) = value {
        decimal_price(&whole.to_string())
    } else if let ValueKind::Float(number) = value {
        decimal_price(&number.to_string())
    } else if let ValueKind::String(text) = value {
        decimal_price(text.trim())
    } else {
        Err(PriceError::NoNumber)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PriceError {
    NoNumber,
    Negative,
    TooHigh,
    TooFine,
}

/// The dearest models cost a few hundred dollars per million tokens.
pub(super) const HIGHEST_PRICE: i64 = 100_000;
const DECIMALS: usize = 6;

fn decimal_price(text: &str) -> Result<i64, PriceError> {
    if let Some(positive) = text.strip_prefix('-') {
        return match decimal_price(positive) {
            Ok(0) => Ok(0),
            Ok(_) | Err(PriceError::TooHigh | PriceError::TooFine) => Err(PriceError::Negative),
            Err(error) => Err(error),
        };
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return Err(PriceError::NoNumber);
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > DECIMALS {
        return Err(PriceError::TooFine);
    }
    let whole: i64 = whole.parse().ok().filter(|whole| *whole <= HIGHEST_PRICE).ok_or(PriceError::TooHigh)?;
    // One dollar per million tokens is 1e-6 dollars, 1e6 picodollars, per token: as many as the decimals allow.
    let micro: i64 = format!("{fraction:0<DECIMALS$}").parse().map_err(|_| PriceError::NoNumber)?;
    let price = whole * 10_i64.pow(DECIMALS as u32) + micro;
    if price > HIGHEST_PRICE * 10_i64.pow(DECIMALS as u32) { Err(PriceError::TooHigh) } else { Ok(price) }
}

/// A price as it is written in the settings.
pub(super) fn price_text(picodollars: i64) -> String {
    let (whole, fraction) = (picodollars / 1_000_000, picodollars % 1_000_000);
    let text = format!("{whole}.{fraction:06}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `[a-z0-9_-]+`: what can be part of an environment variable's name and of a metric's label.
pub(super) fn is_resource_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte))
}

/// What Azure allows, and what is safe as a part of a URL's path.
pub(super) fn is_deployment_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
        && !name.bytes().all(|byte| byte == b'.')
}

/// A region as people and portals write it: "eastus2" or "East US 2".
pub(super) fn is_region_label(label: &str) -> bool {
    is_model_name(&label.replace(' ', "_")) && label.trim() == label
}

/// Printable ASCII without spaces, quotes and backslashes (`ft:gpt-4o-mini:acme::7p4lURel`).
pub(super) fn is_model_name(name: &str) -> bool {
    (1..=128).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"'\\`".contains(&byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn prices_are_exact() {
        for (written, picodollars) in [
            (0.15, 150_000),
            (0.075, 75_000),
            (0.60, 600_000),
            (1.1, 1_100_000),
            (0.000001, 1),
            (100_000.0, 100_000_000_000),
        ] {
            assert_eq!(price(&ValueKind::Float(written)), Ok(picodollars), "{written}");
        }
        assert_eq!(price(&ValueKind::I64(15)), Ok(15_000_000));
        assert_eq!(price(&ValueKind::String("2.50".into())), Ok(2_500_000));
        assert_eq!(price(&ValueKind::Float(-0.0)), Ok(0));
    }

    #[test]
    fn impossible_prices_are_refused() {
        assert_eq!(price(&ValueKind::Float(-0.15)), Err(PriceError::Negative));
        assert_eq!(price(&ValueKind::Float(f64::NAN)), Err(PriceError::NoNumber));
        assert_eq!(price(&ValueKind::Float(f64::INFINITY)), Err(PriceError::NoNumber));
        assert_eq!(price(&ValueKind::Float(1e300)), Err(PriceError::TooHigh));
        assert_eq!(price(&ValueKind::Float(100_000.1)), Err(PriceError::TooHigh));
        assert_eq!(price(&ValueKind::I64(i64::MAX)), Err(PriceError::TooHigh));
        assert_eq!(price(&ValueKind::I64(i64::MIN)), Err(PriceError::Negative));
        assert_eq!(price(&ValueKind::Float(0.0000001)), Err(PriceError::TooFine));
        for text in ["", ".", ".5", "1e3", "1,5", "0x10", "١"] {
            assert_eq!(price(&ValueKind::String(text.into())), Err(PriceError::NoNumber), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_price_reads_back_as_written(picodollars in 0..=HIGHEST_PRICE * 1_000_000) {
            let text = price_text(picodollars);
            prop_assert_eq!(price(&ValueKind::String(text.clone())), Ok(picodollars));
            prop_assert_eq!(price(&ValueKind::Float(text.parse().unwrap())), Ok(picodollars));
        }
    }

    #[test]
    fn sizes_and_durations_have_units() {
        assert_eq!(size("32MiB"), Some(32 << 20));
        assert_eq!(size("1 kB"), Some(1000));
        assert_eq!(size("4096"), Some(4096));
        for wrong in ["", "MiB", "-1MiB", "32 mebibytes", "."] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
        for bytes in [0, 1, 1000, 1024, 32 << 20, 3 << 30, (32 << 20) + 1] {
            assert_eq!(size(&size_text(bytes)), Some(bytes as u64));
        }
        assert_eq!(size_text(32 << 20), "32MiB");
        assert_eq!(duration("1m 30s"), Some(Duration::from_secs(90)));
        for wrong in ["", "45", "-1s", "1 fortnight", "99999999999999999999s"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn names_cannot_leave_their_place() {
        assert!(is_resource_name("contoso-eastus2_b"));
        assert!(!is_resource_name("EastUS") && !is_resource_name("") && !is_resource_name("a.b"));
        assert!(is_deployment_name("gpt-4.1_Prod"));
        assert!(!is_deployment_name("..") && !is_deployment_name("a/b") && !is_deployment_name("a?b"));
        assert!(is_model_name("ft:gpt-4o-mini:acme::7p4lURel"));
        assert!(!is_model_name("gpt 4") && !is_model_name("gpt\u{1b}4") && !is_model_name(""));
    }
}
