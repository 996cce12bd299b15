//! `aoai-gateway healthcheck`: asks a running gateway whether it lives, for containers without curl.
//!
//! Asks `/healthz` alone: whether the process answers, not whether Azure does (that is `/readyz`, and no reason to
//! restart a container).

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::server::reachable;

/// Longer than a busy machine needs, shorter than a container's own timeout.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where to ask, instead of the configured port [example: http://127.0.0.1:8080/healthz]
    #[arg(long)]
    pub url: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum Unhealthy {
    #[error("--url {0} is not of the form http://HOST:PORT/PATH. Give one like http://127.0.0.1:8080/healthz.")]
    Url(String),
    #[error("{address} does not answer: {source}. Check that the gateway runs and listens there.")]
    Silent { address: String, source: io::Error },
    #[error("{address} answered {answer:?} instead of 200. Check that it is a gateway that listens there.")]
    Wrong { address: String, answer: String },
}

/// `listen` is what the gateway was told to listen on.
pub fn run(args: &Args, listen: SocketAddr) -> Result<(), Unhealthy> {
    match &args.url {
        None => ask(&reachable(listen).to_string(), "/healthz"),
        Some(url) => {
            let rest =
                url.strip_prefix("http://").filter(|rest| !rest.is_empty() && !rest.contains(char::is_whitespace));
            let rest = rest.ok_or_else(|| Unhealthy::Url(url.clone()))?;
            let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let port = if host.rsplit(']').next().is_some_and(|tail| tail.contains(':')) { "" } else { ":80" };
            ask(&format!("{host}{port}"), if path.is_empty() { "/healthz" } else { path })
        }
    }
}

fn ask(address: &str, path: &str) -> Result<(), Unhealthy> {
    let answer =
        status_line(address, path).map_err(|source| Unhealthy::Silent { address: address.to_owned(), source })?;
    // In the place of chat_azure it is 204.
    if answer.starts_with("HTTP/1.1 200 ") || answer.starts_with("HTTP/1.1 204 ") {
        return Ok(());
    }
    Err(Unhealthy::Wrong { address: address.to_owned(), answer })
}

fn status_line(address: &str, path: &str) -> io::Result<String> {
    let socket = address.to_socket_addrs()?.next().ok_or_else(|| io::Error::other("the name has no address"))?;
    let mut stream = TcpStream::connect_timeout(&socket, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // In one piece: a server that answers after the first half and closes would reset the second.
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(4096).read_to_end(&mut answer)?;
    let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
    Ok(String::from_utf8_lossy(line).chars().take(100).collect())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// One request; gives the answer and what was asked.
    fn answering(answer: &'static str) -> (SocketAddr, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        (address, asked)
    }

    #[test]
    fn a_gateway_that_answers_200_is_healthy() {
        let (address, asked) = answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        let everywhere = SocketAddr::new(std::net::Ipv4Addr::UNSPECIFIED.into(), address.port());
        run(&Args { url: None }, everywhere).unwrap();
        assert!(asked.join().unwrap().starts_with("GET /healthz HTTP/1.1\r\nhost: 127.0.0.1:"));
    }

    #[test]
    fn the_url_wins_over_the_settings() {
        let (address, asked) = answering("HTTP/1.1 200 OK\r\n\r\n");
        let url = Some(format!("http://{address}/readyz"));
        run(&Args { url }, SocketAddr::from(([127, 0, 0, 1], 9))).unwrap();
        assert!(asked.join().unwrap().starts_with("GET /readyz "));
    }

    #[test]
    fn any_other_answer_is_unhealthy() {
        let (address, _) = answering("HTTP/1.1 503 Service Unavailable\r\n\r\n");
        let error = run(&Args { url: None }, address).unwrap_err();
        assert!(error.to_string().contains("503 Service Unavailable"), "{error}");
        let (address, _) = answering("SSH-2.0-OpenSSH\r\n");
        assert!(matches!(run(&Args { url: None }, address), Err(Unhealthy::Wrong { .. })));
    }

    #[test]
    fn nobody_there_is_unhealthy() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(matches!(run(&Args { url: None }, address), Err(Unhealthy::Silent { .. })));
    }

    #[test]
    fn a_url_that_is_none_is_said_so() {
        for url in ["https://a/", "127.0.0.1:80", "http://", "http://a b/"] {
            let error = run(&Args { url: Some(url.to_owned()) }, SocketAddr::from(([127, 0, 0, 1], 9))).unwrap_err();
            assert!(matches!(error, Unhealthy::Url(_)), "{url}: {error}");
        }
    }
}
