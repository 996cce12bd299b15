//! The verbs of `aoai-gateway simulate`: a fault as the control plane reads it, and how it gets there.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Answer 429
    Throttle {
        #[command(flatten)]
        target: Target,
        /// What the 429 says was exceeded
        #[arg(long, value_parser = ["call", "token", "capacity"], default_value = "token")]
        cause: String,
        /// What the 429 tells clients to wait; the rest of --for when absent
        #[arg(long, value_name = "MS")]
        retry_after_ms: Option<u64>,
    },
    /// Answer with an error status
    Fail {
        #[command(flatten)]
        target: Target,
        #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u16).range(200..600))]
        status: u16,
        #[arg(long, value_parser = ["json", "html", "empty"], default_value = "json")]
        body: String,
    },
    /// Break answers off in their middle
    Cut {
        #[command(flatten)]
        target: Target,
        /// After so many events of a stream [default: 5]
        #[arg(long, value_name = "N", conflicts_with = "after_bytes")]
        after_chunks: Option<usize>,
        /// After so many bytes of the body
        #[arg(long, value_name = "N")]
        after_bytes: Option<usize>,
        #[arg(long, value_parser = ["close", "reset", "clean", "error_frame"], default_value = "close")]
        ending: String,
    },
    /// Leave requests unanswered
    Hang {
        #[command(flatten)]
        target: Target,
        /// Fall silent after so many events of a stream, instead of before the answer
        #[arg(long, value_name = "N")]
        after_chunks: Option<usize>,
    },
    /// Answer whole and slowly
    Slow {
        #[command(flatten)]
        target: Target,
        /// Milliseconds to the first byte of an answer
        #[arg(long, value_name = "MS", default_value_t = 3_000)]
        ttft_ms: u64,
        /// Milliseconds per output token
        #[arg(long, value_name = "MS", default_value_t = 200)]
        token_ms: u64,
    },
    /// Close connections as soon as they are accepted
    Refuse {
        #[command(flatten)]
        target: Target,
    },
    /// Reset the connection after reading the request
    Reset {
        #[command(flatten)]
        target: Target,
    },
    /// End all faults
    Heal {
        /// The simulator's address: http://127.0.0.1:9001
        url: String,
        /// End only the faults of this deployment
        #[arg(long, value_name = "NAME")]
        deployment: Option<String>,
    },
}

/// Whom a fault hits, and for how long.
#[derive(Debug, Args)]
pub(super) struct Target {
    /// The simulator's address: http://127.0.0.1:9001
    url: String,
    /// End by itself after this long: 30s, 5m
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    lasting: Option<Duration>,
    /// End by itself after so many requests
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Hit only this share of requests, 0 to 1
    #[arg(long, value_name = "SHARE")]
    probability: Option<f64>,
    /// Hit only this deployment
    #[arg(long, value_name = "NAME")]
    deployment: Option<String>,
}

impl Verb {
    /// Where to send it, and the fault as the control plane reads it.
    pub(super) fn into_fault(self) -> (String, Value) {
        match self {
            Self::Throttle { target, cause, retry_after_ms } => {
                target.fault(json!({"kind": "throttle", "cause": cause, "retry_after_ms": retry_after_ms}))
            }
            Self::Fail { target, status, body } => {
                target.fault(json!({"kind": "fail", "status": status, "body": body}))
            }
            Self::Cut { target, after_chunks, after_bytes, ending } => target.fault(json!({
                "kind": "cut",
                "after_chunks": after_chunks,
                "after_bytes": after_bytes,
                "ending": ending,
            })),
            Self::Hang { target, after_chunks } => target.fault(json!({"kind": "hang", "after_chunks": after_chunks})),
            Self::Slow { target, ttft_ms, token_ms } => {
                target.fault(json!({"kind": "slow", "ttft_ms": ttft_ms, "token_ms": token_ms}))
            }
            Self::Refuse { target } => target.fault(json!({"kind": "refuse"})),
            Self::Reset { target } => target.fault(json!({"kind": "reset"})),
            Self::Heal { url, deployment } => (url, json!({"kind": "heal", "deployment": deployment})),
        }
    }
}

impl Target {
    fn fault(self, mut fault: Value) -> (String, Value) {
        fault["for"] = self.lasting.map(|lasting| humantime::format_duration(lasting).to_string()).into();
        fault["count"] = self.count.into();
        fault["probability"] = self.probability.into();
        fault["deployment"] = self.deployment.into();
        (self.url, fault)
    }
}

/// Posts a fault to a simulator's control plane and says what came of it.
pub(super) fn send(url: &str, fault: &Value) -> Result<String, String> {
    let authority = url
        .strip_prefix("http://")
        .map(|rest| rest.trim_end_matches('/'))
        .filter(|authority| !authority.contains('/'))
        .ok_or_else(|| format!("{url} is no simulator's address; give it as http://127.0.0.1:9001"))?;
    let address = authority
        .to_socket_addrs()
        .ok()
        .and_then(|mut addresses| addresses.find(|address| address.ip().is_loopback()))
        .ok_or_else(|| format!("{authority} is not on this machine; simulators are controlled over loopback only"))?;
    let (status, body) = post(address, authority, &fault.to_string())
        .map_err(|error| format!("no simulator answers at {url}: {error}"))?;
    let said: Value = serde_json::from_str(&body).unwrap_or_default();
    match (status, &said["error"], &said["id"]) {
        (200, ..) => Ok("healed".to_owned()),
        (201, _, id) => Ok(format!("in force as fault {id}; `{} simulate heal {url}` ends it", crate::cli::program())),
        (_, Value::String(error), _) => Err(format!("the simulator refused it: {error}")),
        _ => Err(format!("{url} answered {status}, so it is no simulator")),
    }
}

/// One POST on a connection of its own.
fn post(address: SocketAddr, host: &str, body: &str) -> std::io::Result<(u16, String)> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let length = body.len();
    write!(
        stream,
        "POST /_simulator/faults HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: \
         {length}\r\nConnection: close\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.take(1024 * 1024).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let no_http = || std::io::Error::other("the answer is not HTTP");
    Ok((status.ok_or_else(no_http)?, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        verb: Verb,
    }

    #[test]
    fn verbs_become_faults() {
        let fault = |line: &str| {
            let line = Line::try_parse_from(std::iter::once("simulate").chain(line.split(' ')));
            line.map(|line| line.verb.into_fault())
        };
        let (url, posted) = fault("throttle http://127.0.0.1:9 --for 30s --deployment d").unwrap();
        assert_eq!(url, "http://127.0.0.1:9");
        let expected = (&json!("throttle"), &json!("30s"), &json!("d"));
        assert_eq!((&posted["kind"], &posted["for"], &posted["deployment"]), expected);
        let (_, posted) = fault("slow http://127.0.0.1:9 --ttft-ms 900").unwrap();
        assert_eq!(
            (&posted["kind"], &posted["ttft_ms"], &posted["token_ms"]),
            (&json!("slow"), &json!(900), &json!(200))
        );
        assert!(fault("cut http://127.0.0.1:9 --after-chunks 1 --after-bytes 2").is_err());
        assert!(fault("fail http://127.0.0.1:9 --status 99").is_err());
    }

    #[test]
    fn only_loopback_is_spoken_to() {
        let refused = |url| send(url, &json!({})).unwrap_err();
        assert!(refused("https://127.0.0.1:9").contains("no simulator's address"));
        assert!(refused("http://192.0.2.1:80").contains("not on this machine"));
    }
}
