//! A shared access token: written by the task that renews it, read by every request without waiting.
//!
//! How a token is had is not known here. A token that an upstream refuses is renewed early, once: if the next one is
//! refused as well, tokens are not what is wrong.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use actix_web::http::header::HeaderValue;
use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, watch};

use crate::azure::entra::{Entra, Grant};
use crate::domain::time::Timestamp;

/// The token of one identity, for all resources that are called with it.
#[derive(Debug)]
pub struct Bearer {
    pub entra: Arc<Entra>,
    token: ArcSwapOption<Token>,
    /// Why the last try to get a token failed; none after one that succeeded.
    trouble: ArcSwapOption<String>,
    /// Someone's token was refused.
    wanted: Notify,
    /// Tries that have ended, well or not.
    rounds: watch::Sender<u64>,
}

#[derive(Debug)]
pub struct Token {
    /// `Bearer …`, marked as sensitive.
    value: HeaderValue,
    obtained: Timestamp,
    expires_at: Timestamp,
    cause: Cause,
    refused: AtomicBool,
}

/// Why a token was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The first one, or the old one's time was near.
    Due,
    /// An upstream refused the old one.
    Refused,
}

/// What a refused token leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// Another is there, or on its way.
    Coming,
    /// It was just renewed for that reason: the identity itself is refused.
    InVain,
}

/// Early renewals are not closer together than this.
const EARLY_AGAIN: Duration = Duration::from_secs(60);

impl Bearer {
    fn new(entra: Arc<Entra>, token: Option<Arc<Token>>) -> Self {
        Self {
            entra,
            token: ArcSwapOption::new(token),
            trouble: ArcSwapOption::empty(),
            wanted: Notify::new(),
            rounds: watch::Sender::new(0),
        }
    }

    /// None while there is none that lasts.
    pub fn token(&self, now: Timestamp) -> Option<Arc<Token>> {
        self.token.load_full().filter(|token| now < token.expires_at)
    }

    /// Whether a request can be sent now.
    pub fn is_usable(&self, now: Timestamp) -> bool {
        self.token.load().as_ref().is_some_and(|token| now < token.expires_at)
    }

    /// Why the last try to get a token failed.
    pub fn trouble(&self) -> Option<Arc<String>> {
        self.trouble.load_full()
    }

    /// For the task that renews it. False when the token cannot be sent.
    pub fn renew(&self, grant: &Grant, cause: Cause, now: Timestamp) -> bool {
        let Ok(mut value) = HeaderValue::try_from(format!("Bearer {}", grant.token.expose())) else { return false };
        value.set_sensitive(true);
        let expires_at = now.after(grant.lifetime);
        let token = Token { value, obtained: now, expires_at, cause, refused: AtomicBool::new(false) };
        self.token.store(Some(Arc::new(token)));
        self.trouble.store(None);
        self.rounds.send_modify(|rounds| *rounds += 1);
        true
    }

    /// For the task that renews it; a token that still lasts stays in use.
    pub fn fail(&self, trouble: String) {
        self.trouble.store(Some(Arc::new(trouble)));
        self.rounds.send_modify(|rounds| *rounds += 1);
    }

    /// For the task that renews it: returns when the present token was refused.
    pub async fn wanted(&self) {
        loop {
            self.wanted.notified().await;
            // It may have been replaced for another reason since.
            if self.token.load().as_ref().is_some_and(|token| token.refused.load(Relaxed)) {
                return;
            }
        }
    }

    /// An upstream answered 401 to `token`.
    pub fn refused(&self, token: &Arc<Token>, now: Timestamp) -> Renewal {
        if !self.is_current(token) {
            return Renewal::Coming;
        }
        if token.cause == Cause::Refused && now.since(token.obtained) < EARLY_AGAIN {
            return Renewal::InVain;
        }
        if !token.refused.swap(true, Relaxed) {
            self.wanted.notify_one();
        }
        Renewal::Coming
    }

    /// Waits until `old` was replaced; false when it was not in time, or the try to do so failed.
    pub async fn is_replaced(&self, old: &Arc<Token>, patience: Duration) -> bool {
        let mut rounds = self.rounds.subscribe();
        let start = *rounds.borrow();
        let ended = rounds.wait_for(|rounds| *rounds > start || !self.is_current(old));
        // What counts is what is there afterwards.
        let _ = tokio::time::timeout(patience, ended).await;
        !self.is_current(old)
    }

    fn is_current(&self, token: &Arc<Token>) -> bool {
        self.token.load().as_ref().is_some_and(|current| Arc::ptr_eq(current, token))
    }
}

impl Token {
    pub fn value(&self) -> HeaderValue {
        self.value.clone()
    }

    pub fn obtained(&self) -> Timestamp {
        self.obtained
    }

    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }
}

/// All that are in use; resources with the same identity share one.
#[derive(Default)]
pub(super) struct Bearers(Vec<Weak<Bearer>>);

impl Bearers {
    /// The one of this identity. A new one begins with the token of the same identity with another secret.
    pub(super) fn of(&mut self, entra: &Arc<Entra>) -> Arc<Bearer> {
        self.0.retain(|bearer| bearer.strong_count() > 0);
        let known: Vec<_> = self.0.iter().filter_map(Weak::upgrade).collect();
        if let Some(bearer) = known.iter().find(|bearer| bearer.entra == *entra) {
            return bearer.clone();
        }
        let kin = known.iter().find(|bearer| bearer.entra.is_same_identity(entra));
        let bearer = Arc::new(Bearer::new(entra.clone(), kin.and_then(|bearer| bearer.token.load_full())));
        self.0.push(Arc::downgrade(&bearer));
        bearer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::azure::endpoint::Endpoint;
    use crate::azure::entra::Identity;
    use crate::domain::outbound::Way;
    use crate::domain::secret::Secret;

    fn entra(secret: &str) -> Arc<Entra> {
        let endpoint = Endpoint { tls: false, host: "x".into(), port: 80, prefix: String::new(), way: Way::Direct };
        let identity = Identity::ClientSecret {
            authority: Arc::new(endpoint),
            tenant: "t".into(),
            client_id: "id".into(),
            secret: Secret::new(secret),
        };
        Arc::new(Entra { identity, scope: "s".into() })
    }

    fn grant(token: &str) -> Grant {
        Grant { token: Secret::new(token), lifetime: Duration::from_secs(100) }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::ZERO.after(Duration::from_secs(seconds))
    }

    #[test]
    fn a_token_is_used_while_it_lasts_also_after_a_failure() {
        let bearer = Bearers::default().of(&entra("a"));
        assert!(!bearer.is_usable(at(0)) && bearer.token(at(0)).is_none());
        bearer.renew(&grant("canary"), Cause::Due, at(10));
        bearer.fail("no".into());
        assert_eq!(bearer.trouble().as_deref().map(String::as_str), Some("no"));
        assert_eq!(bearer.token(at(109)).unwrap().value(), "Bearer canary");
        assert!(!bearer.is_usable(at(110)) && bearer.token(at(110)).is_none());
        assert!(!format!("{bearer:?}").contains("canary"), "{bearer:?}");
    }

    #[actix_rt::test]
    async fn a_refused_token_is_renewed_once() {
        let bearer = Bearers::default().of(&entra("a"));
        bearer.renew(&grant("1"), Cause::Due, at(0));
        let first = bearer.token(at(1)).unwrap();
        assert_eq!(bearer.refused(&first, at(1)), Renewal::Coming);
        assert_eq!(bearer.refused(&first, at(1)), Renewal::Coming, "of another request at the same time");
        bearer.wanted().await;
        let again = tokio::time::timeout(Duration::from_millis(20), bearer.wanted()).await;
        assert!(again.is_err(), "asked for once");
        bearer.wanted.notify_one();
        bearer.renew(&grant("2"), Cause::Refused, at(2));
        let again = tokio::time::timeout(Duration::from_millis(20), bearer.wanted()).await;
        assert!(again.is_err(), "what was wanted came meanwhile");
        assert!(bearer.is_replaced(&first, Duration::ZERO).await);
        assert_eq!(bearer.refused(&first, at(2)), Renewal::Coming, "there is another already");
        let second = bearer.token(at(2)).unwrap();
        assert_eq!(bearer.refused(&second, at(3)), Renewal::InVain);
        assert_eq!(bearer.refused(&second, at(70)), Renewal::Coming, "after a good while it is another matter");
    }

    #[test]
    fn the_same_identity_is_shared_and_a_new_secret_inherits() {
        let mut bearers = Bearers::default();
        let one = bearers.of(&entra("a"));
        one.renew(&grant("1"), Cause::Due, at(0));
        assert!(Arc::ptr_eq(&one, &bearers.of(&entra("a"))));
        let rotated = bearers.of(&entra("b"));
        assert!(!Arc::ptr_eq(&one, &rotated) && rotated.is_usable(at(1)));
        drop((one, rotated));
        assert!(!bearers.of(&entra("a")).is_usable(at(1)), "what nobody uses is forgotten");
    }
}
