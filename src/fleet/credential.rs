//! What the requests to a deployment are authorised with.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{AUTHORIZATION, HeaderName, HeaderValue};

use super::bearer::{Bearer, Bearers, Renewal, Token};
use crate::azure::endpoint::Kind;
use crate::azure::request::KEY_HEADER;
use crate::domain::demand::Whose;
use crate::domain::secret::Secret;
use crate::domain::time::{self, Timestamp};
use crate::settings::model;

/// A resource's key, its callers' keys, or an identity's token, which may be missing or grow old.
#[derive(Clone, Debug)]
pub enum Credential {
    /// Each caller's own.
    Callers,
    Key(Secret),
    Entra(Arc<Bearer>),
}

/// The header of one request.
#[derive(Debug)]
pub struct Authorization {
    pub name: HeaderName,
    /// Marked as sensitive.
    pub value: HeaderValue,
    token: Option<(Arc<Bearer>, Arc<Token>)>,
}

impl Credential {
    pub(super) fn new(settings: &model::Credential, bearers: &mut Bearers) -> Self {
        match settings {
            model::Credential::Callers => Self::Callers,
            model::Credential::Key(key) => Self::Key(key.clone()),
            model::Credential::Entra(entra) => Self::Entra(bearers.of(entra)),
        }
    }

    /// Whether a request could be authorised now.
    pub fn is_usable(&self, now: Timestamp) -> bool {
        match self {
            Self::Callers | Self::Key(_) => true,
            Self::Entra(bearer) => bearer.is_usable(now),
        }
    }

    pub fn bearer(&self) -> Option<&Arc<Bearer>> {
        match self {
            Self::Callers | Self::Key(_) => None,
            Self::Entra(bearer) => Some(bearer),
        }
    }

    pub fn whose(&self) -> Whose {
        match self {
            Self::Callers => Whose::Callers,
            Self::Key(_) | Self::Entra(_) => Whose::Ours,
        }
    }

    /// None while there is no token that lasts, when the key cannot be sent as a header, or when it should be the
    /// caller's and there is none.
    pub fn authorize(&self, kind: Kind, now: Timestamp, callers: Option<&Secret>) -> Option<Authorization> {
        let (name, value) = match (self, kind) {
            (Self::Entra(bearer), _) => {
                let token = bearer.token(now)?;
                let value = token.value();
                return Some(Authorization { name: AUTHORIZATION, value, token: Some((bearer.clone(), token)) });
            }
            (Self::Callers, _) => {
                let name = if kind == Kind::Azure { HeaderName::from_static(KEY_HEADER) } else { AUTHORIZATION };
                let key = callers?.expose();
                (
                    name,
                    HeaderValue::try_from(if kind == Kind::Azure { key.to_owned() } else { format!("Bearer {key}") }),
                )
            }
            (Self::Key(key), Kind::Azure) => (HeaderName::from_static(KEY_HEADER), HeaderValue::try_from(key.expose())),
            (Self::Key(key), Kind::OpenAi) => {
                (AUTHORIZATION, HeaderValue::try_from(format!("Bearer {}", key.expose())))
            }
        };
        let mut value = value.ok()?;
        value.set_sensitive(true);
        Some(Authorization { name, value, token: None })
    }
}

impl Authorization {
    /// The upstream answered 401 to it: waits for a newer token. False when there will be none, or not in time.
    pub async fn is_renewed(&self, patience: Duration) -> bool {
        let Some((bearer, token)) = &self.token else { return false };
        match bearer.refused(token, time::now()) {
            Renewal::Coming => bearer.is_replaced(token, patience).await,
            Renewal::InVain => false,
        }
    }
}
