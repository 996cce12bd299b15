//! How a deployment's capacity is paid for, and what follows from that.

/// What the settings call `sku`: whatever Azure's own names for it (`GlobalStandard`, `DataZoneProvisionedManaged`, …),
/// it is one of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Sku {
    /// Each token costs the model's price.
    #[default]
    Standard,
    /// Reserved and paid for, used or not: one more token costs nothing. Such a deployment may take shorter prompts
    /// than the model does.
    Provisioned,
}

impl Sku {
    pub fn label(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Provisioned => "provisioned",
        }
    }
}

/// Which deployments may serve a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Skus {
    #[default]
    Any,
    /// A provisioned one has refused its prompt as too long.
    Standard,
}

impl Skus {
    pub fn allow(self, sku: Sku) -> bool {
        match (self, sku) {
            (Self::Any, _) | (Self::Standard, Sku::Standard) => true,
            (Self::Standard, Sku::Provisioned) => false,
        }
    }
}
