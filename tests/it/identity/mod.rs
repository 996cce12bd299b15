//! Who the gateway is towards an upstream, and which way it goes there: other kinds of endpoints, outbound proxies.

mod openai;
mod proxies;
