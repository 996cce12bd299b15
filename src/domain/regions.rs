//! Where a deployment is, and from where a caller may be served (data residency).

use std::fmt;
use std::sync::Arc;

/// A region by its one name: Azure's own, in lower case and without spaces, so that "East US 2" is `eastus2`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegionCode(Arc<str>);

impl RegionCode {
    /// Of a label as people and portals write it.
    pub fn of(label: &str) -> Self {
        let written = label.chars().filter(|character| !character.is_whitespace());
        Self(written.map(|character| character.to_ascii_lowercase()).collect::<String>().into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RegionCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RegionCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The regions that a caller may be served from: every one, unless some are named. Cheap to clone, and free where
/// nothing is named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Regions(Option<Arc<[RegionCode]>>);

impl Regions {
    /// Only these; none at all if there are none.
    pub fn only(codes: impl IntoIterator<Item = RegionCode>) -> Self {
        let mut codes: Vec<RegionCode> = codes.into_iter().collect();
        codes.sort_unstable();
        codes.dedup();
        Self(Some(codes.into()))
    }

    /// Whether a place is among them. One that is not known is only where every place is.
    pub fn allow(&self, place: Option<&RegionCode>) -> bool {
        match &self.0 {
            None => true,
            Some(codes) => place.is_some_and(|place| codes.contains(place)),
        }
    }

    /// Sorted; `None`: every region.
    pub fn named(&self) -> Option<&[RegionCode]> {
        self.0.as_deref()
    }
}

/// As people read it: `germanywestcentral, swedencentral`.
impl fmt::Display for Regions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.named() {
            None => f.write_str("all"),
            Some(codes) => f.write_str(&codes.iter().map(RegionCode::as_str).collect::<Vec<_>>().join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_the_same_however_it_is_written() {
        for written in ["East US 2", "eastus2", " EASTUS2", "east us\u{a0}2"] {
            assert_eq!(RegionCode::of(written).as_str(), "eastus2", "{written}");
        }
        assert_ne!(RegionCode::of("East US"), RegionCode::of("East US 2"));
    }

    #[test]
    fn an_unknown_place_is_allowed_only_where_every_place_is() {
        let [place, other] = ["Sweden Central", "swedensouth"].map(RegionCode::of);
        let (all, some, none) = (Regions::default(), Regions::only([place.clone()]), Regions::only([]));
        assert!(all.allow(None) && all.allow(Some(&place)));
        assert!(!some.allow(None) && some.allow(Some(&place)) && !some.allow(Some(&other)));
        assert!(!none.allow(None) && !none.allow(Some(&place)));
    }

    #[test]
    fn their_order_says_nothing() {
        let [west, north] = ["westeurope", "northeurope"].map(RegionCode::of);
        assert_eq!(Regions::only([west.clone(), north.clone(), west.clone()]), Regions::only([north, west]));
    }
}
