//! Who the gateway is towards an upstream, and which way it goes there: other kinds of endpoints, outbound proxies, and
//! Entra identities.

mod entra;
mod openai;
mod proxies;
mod secrecy;
