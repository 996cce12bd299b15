//! From a host in the settings to addresses that may be connected to.
//!
//! An answer is used for [`TTL`]. After that it is still used while one lookup runs behind it, and it is kept when the
//! lookup fails: an Azure region does not move because a resolver is down. There is one lookup per host at a time, so
//! a resolver that hangs costs one thread of the blocking pool and delays nobody else.
//!
//! Which addresses are taken ([`forbidden`]) stops a name from being turned, by whoever answers for it, towards this
//! machine or a cloud's metadata service. Private networks are open to every name, because Azure Private Link answers
//! for the public name with a private address. What the operator wrote as an address is taken at its word, metadata
//! services excepted; only who asks for credentials gets there.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;
use std::time::Duration;

use futures_core::future::LocalBoxFuture;
use futures_util::FutureExt;
use futures_util::future::Shared;

use crate::domain::time::{self, Timestamp};

const TTL: Duration = Duration::from_secs(30);

/// Up to this age an answer is used while the next lookup runs; an older one only when the lookup fails.
const STALE_LIMIT: Duration = Duration::from_secs(300);

/// Addresses tried at most; longer answers are cut.
const ADDRESS_LIMIT: usize = 8;

/// What an address is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A model, or the proxy before it.
    Upstream,
    /// The platform's credential service, which may be at a link-local address if it was written as one.
    Platform,
}

/// The names one worker has looked up.
#[derive(Default)]
pub(super) struct Names {
    known: RefCell<HashMap<String, Known>>,
}

#[derive(Default)]
struct Known {
    addresses: Vec<IpAddr>,
    asked: Timestamp,
    lookup: Option<Lookup>,
}

type Answer = Result<Vec<IpAddr>, Rc<str>>;
type Lookup = Shared<LocalBoxFuture<'static, Answer>>;

/// How far an answer of some age can be trusted.
#[derive(Debug, PartialEq, Eq)]
enum Freshness {
    Fresh,
    /// Good enough while a new one is on its way.
    Stale,
    Old,
}

fn freshness(age: Duration) -> Freshness {
    if age < TTL {
        Freshness::Fresh
    } else if age < STALE_LIMIT {
        Freshness::Stale
    } else {
        Freshness::Old
    }
}

impl Names {
    /// The addresses of `host`, best first. The error says which name failed and why.
    pub(super) async fn resolve(&self, host: &str, purpose: Purpose) -> Result<Vec<IpAddr>, String> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return permit(host, &[address], purpose);
        }
        let lookup = match self.recall(host) {
            Ok(addresses) => return permit(host, &addresses, purpose),
            Err(lookup) => lookup,
        };
        let answer = lookup.await;
        self.learn(host, answer).and_then(|addresses| permit(host, &addresses, purpose))
    }

    /// `address` answered first; the next connection begins with it.
    pub(super) fn prefer(&self, host: &str, address: IpAddr) {
        if let Some(known) = self.known.borrow_mut().get_mut(host)
            && let Some(at) = known.addresses.iter().position(|candidate| *candidate == address)
        {
            known.addresses[..=at].rotate_right(1);
        }
    }

    /// What is known, or the lookup to wait for.
    fn recall(&self, host: &str) -> Result<Vec<IpAddr>, Lookup> {
        let mut all = self.known.borrow_mut();
        let known = all.entry(host.to_owned()).or_default();
        let freshness =
            if known.addresses.is_empty() { Freshness::Old } else { freshness(time::now().since(known.asked)) };
        if freshness == Freshness::Fresh {
            return Ok(known.addresses.clone());
        }
        let lookup = known.lookup.get_or_insert_with(|| look_up(host.to_owned())).clone();
        if freshness == Freshness::Old {
            return Err(lookup);
        }
        // One poll sets the lookup going, or fetches its answer if it is there.
        if let Some(answer) = lookup.now_or_never() {
            known.learn(answer).map_err(|failure| async { Err(failure) }.boxed_local().shared())
        } else {
            Ok(known.addresses.clone())
        }
    }

    fn learn(&self, host: &str, answer: Answer) -> Result<Vec<IpAddr>, String> {
        let mut all = self.known.borrow_mut();
        let learned = all.entry(host.to_owned()).or_default().learn(answer);
        learned.map_err(|failure| format!("name {host} not found: {failure}"))
    }
}

impl Known {
    /// Takes a new answer; a failed one leaves the old in use.
    fn learn(&mut self, answer: Answer) -> Answer {
        self.lookup = None;
        match answer {
            Ok(addresses) => {
                self.addresses = addresses;
                self.asked = time::now();
            }
            Err(failure) if self.addresses.is_empty() => return Err(failure),
            Err(_) => {}
        }
        Ok(self.addresses.clone())
    }
}

fn look_up(host: String) -> Lookup {
    let lookup = async move {
        let found = tokio::net::lookup_host((host, 0)).await.map_err(|error| Rc::from(error.to_string()))?;
        let mut addresses: Vec<IpAddr> = Vec::new();
        for address in found.map(|socket| socket.ip().to_canonical()) {
            if addresses.len() < ADDRESS_LIMIT && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.is_empty() { Err(Rc::from("the answer holds no address")) } else { Ok(addresses) }
    };
    lookup.boxed_local().shared()
}

/// The addresses among `addresses` that `host` may lead to.
fn permit(host: &str, addresses: &[IpAddr], purpose: Purpose) -> Result<Vec<IpAddr>, String> {
    let forbidden = |address: IpAddr| forbidden(host, address, purpose);
    let permitted: Vec<IpAddr> = addresses.iter().copied().filter(|address| forbidden(*address).is_none()).collect();
    match addresses.first() {
        Some(first) if permitted.is_empty() => {
            Err(format!("{host} leads to {first}, {}", forbidden(*first).unwrap_or("which is not used")))
        }
        _ => Ok(permitted),
    }
}

/// Why `host` may not lead to `address`.
fn forbidden(host: &str, address: IpAddr, purpose: Purpose) -> Option<&'static str> {
    let address = address.to_canonical();
    let is_written = host.parse::<IpAddr>().is_ok();
    if is_metadata(address) && !(purpose == Purpose::Platform && is_written) {
        return Some("a link-local or metadata address, where no model is served");
    }
    if address.is_unspecified()
        || address.is_multicast()
        || matches!(address, IpAddr::V4(v4) if v4.octets()[0] == 0 || v4.is_broadcast())
    {
        return Some("which is no address of one machine");
    }
    let meant = is_written || host == "localhost" || host.ends_with(".localhost");
    if address.is_loopback() && !meant {
        return Some("this machine itself; if that is meant, write localhost or the address into the settings");
    }
    None
}

/// Link-local networks, and the fixed addresses at which clouds hand out credentials.
fn is_metadata(address: IpAddr) -> bool {
    const AZURE_WIRE_SERVER: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);
    const AWS_METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4 == AZURE_WIRE_SERVER,
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6 == AWS_METADATA,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(host: &str, address: &str) -> bool {
        forbidden(host, address.parse().unwrap(), Purpose::Upstream).is_none()
    }

    #[test]
    fn a_name_leads_to_public_and_private_networks_only() {
        for (host, address, expected) in [
            ("contoso.openai.azure.com", "20.1.2.3", true),
            ("contoso.openai.azure.com", "10.0.0.5", true),
            ("contoso.openai.azure.com", "fd12:3456::1", true),
            ("simulator", "172.18.0.2", true),
            ("contoso.openai.azure.com", "127.0.0.1", false),
            ("contoso.openai.azure.com", "::1", false),
            ("contoso.openai.azure.com", "::ffff:127.0.0.1", false),
            ("contoso.openai.azure.com", "169.254.169.254", false),
            ("contoso.openai.azure.com", "::ffff:169.254.169.254", false),
            ("contoso.openai.azure.com", "168.63.129.16", false),
            ("contoso.openai.azure.com", "fe80::1", false),
            ("contoso.openai.azure.com", "fd00:ec2::254", false),
            ("contoso.openai.azure.com", "0.0.0.0", false),
            ("contoso.openai.azure.com", "224.0.0.1", false),
            ("contoso.openai.azure.com", "255.255.255.255", false),
            ("localhost", "127.0.0.1", true),
            ("region-1.localhost", "::1", true),
            ("127.0.0.1", "127.0.0.1", true),
            ("::1", "::1", true),
            ("169.254.169.254", "169.254.169.254", false),
            ("0.0.0.0", "0.0.0.0", false),
        ] {
            assert_eq!(allowed(host, address), expected, "{host} -> {address}");
        }
    }

    #[test]
    fn the_platforms_own_service_is_where_it_was_written_to_be() {
        let forbidden = |host, address: &str| forbidden(host, address.parse().unwrap(), Purpose::Platform).is_some();
        assert!(!forbidden("169.254.169.254", "169.254.169.254"));
        assert!(!forbidden("localhost", "127.0.0.1"));
        assert!(forbidden("metadata.contoso.com", "169.254.169.254"), "a name is not taken at its word");
    }

    #[test]
    fn a_mixed_answer_loses_its_forbidden_part() {
        let addresses = ["127.0.0.1".parse().unwrap(), "20.1.2.3".parse().unwrap()];
        let permit = |addresses: &[IpAddr]| permit("contoso.openai.azure.com", addresses, Purpose::Upstream);
        assert_eq!(permit(&addresses), Ok(vec![addresses[1]]));
        let refusal = permit(&addresses[..1]).unwrap_err();
        assert!(refusal.starts_with("contoso.openai.azure.com leads to 127.0.0.1, this machine"), "{refusal}");
    }

    #[test]
    fn an_answer_ages() {
        assert_eq!(freshness(Duration::from_secs(29)), Freshness::Fresh);
        assert_eq!(freshness(Duration::from_secs(31)), Freshness::Stale);
        assert_eq!(freshness(Duration::from_secs(301)), Freshness::Old);
    }

    #[test]
    fn a_failed_lookup_leaves_the_old_answer_in_use() {
        let address: IpAddr = "20.1.2.3".parse().unwrap();
        let mut known = Known::default();
        assert!(known.learn(Err(Rc::from("resolver down"))).is_err());
        assert_eq!(known.learn(Ok(vec![address])), Ok(vec![address]));
        assert_eq!(known.learn(Err(Rc::from("resolver down"))), Ok(vec![address]));
    }

    #[actix_rt::test]
    async fn names_are_looked_up_and_the_winner_comes_first() {
        let names = Names::default();
        let found = names.resolve("localhost", Purpose::Upstream).await.unwrap();
        assert!(found.iter().all(IpAddr::is_loopback));
        let other: IpAddr = "127.0.0.9".parse().unwrap();
        names.known.borrow_mut().get_mut("localhost").unwrap().addresses.push(other);
        names.prefer("localhost", other);
        assert_eq!(names.resolve("localhost", Purpose::Upstream).await.unwrap()[0], other, "kept, not looked up again");
        assert_eq!(names.resolve("::1", Purpose::Upstream).await, Ok(vec!["::1".parse().unwrap()]));
        assert!(names.resolve("169.254.169.254", Purpose::Upstream).await.is_err());
    }
}
