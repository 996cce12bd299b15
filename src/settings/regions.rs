//! The regions that a key is limited to, as an admin names them.
//!
//! A region of Azure where no resource is yet is fine, with a warning: a list such as "all of the EU" is written once.
//! Any other name is a mistake, because a key that is limited to it could use nothing, and nobody would know why.

use std::collections::BTreeSet;

use super::Settings;
use super::suggest;
use crate::azure::regions::REGIONS;
use crate::domain::regions::RegionCode;

/// One name, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub code: RegionCode,
    /// A sentence for the admin.
    pub warning: Option<String>,
}

/// What a name means; the error says what was probably meant.
pub fn named(name: &str, settings: &Settings) -> Result<Named, String> {
    let code = RegionCode::of(name);
    let own = own(settings);
    if own.contains(&code) {
        return Ok(Named { code, warning: None });
    }
    let shown: String = name.chars().filter(|character| !character.is_control()).take(100).collect();
    if REGIONS.contains(&code.as_str()) {
        let warning = format!(
            "no resource is in `{code}` yet: until one is, the key is served from its other regions, or not at all"
        );
        return Ok(Named { code, warning: Some(warning) });
    }
    // Those of the settings first: of two that are as close, the last one wins.
    let known = REGIONS.iter().copied().chain(own.iter().map(RegionCode::as_str));
    let tip = match suggest::closest(code.as_str(), known) {
        Some(close) => format!("did you mean `{close}`?"),
        None if own.is_empty() => "no resource of the settings has a `region` yet".to_owned(),
        None => {
            let own: Vec<_> = own.iter().map(RegionCode::as_str).collect();
            format!("the settings' resources are in {}", own.join(", "))
        }
    };
    Err(format!("`{shown}` is no region of Azure, and no resource's `region`; {tip}"))
}

/// Where the settings' resources are, the disabled ones too.
fn own(settings: &Settings) -> BTreeSet<RegionCode> {
    let labels = settings.resources.values().filter_map(|resource| resource.region.as_ref());
    labels.map(|region| RegionCode::of(region.as_str())).collect()
}
