//! A TCP connection to the first of several addresses that answers.
//!
//! The next address is tried when one has failed, or has not answered within [`HEAD_START`]; the others go on, and the
//! first to connect wins (RFC 8305 without its sorting, which the resolver has done). The deadline is the caller's.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

const HEAD_START: Duration = Duration::from_millis(250);

/// Below the four minutes after which Azure's load balancer forgets a silent connection; a reasoning model may think
/// longer than that.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));

/// Connects; the error names the last address that failed.
pub(super) async fn dial(addresses: &[SocketAddr]) -> Result<TcpStream, String> {
    let mut waiting = addresses.iter();
    let mut attempts = FuturesUnordered::new();
    let mut failure = String::from("no address to connect to");
    loop {
        match waiting.next() {
            Some(address) => attempts.push(connect(*address)),
            None if attempts.is_empty() => return Err(failure),
            None => {}
        }
        tokio::select! {
            biased;
            Some((address, result)) = attempts.next() => match result {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = format!("{address}: {}", error.kind()),
            },
            () = tokio::time::sleep(HEAD_START), if waiting.len() > 0 => {}
        }
    }
}

async fn connect(address: SocketAddr) -> (SocketAddr, io::Result<TcpStream>) {
    let connected = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE)?;
        Ok(stream)
    };
    (address, connected.await)
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;
    use crate::domain::time;

    /// An address that takes no connection and refuses none: its queue is full.
    async fn black_hole(address: SocketAddr) -> (TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(address).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queued = Vec::new();
        while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(address)).await {
            queued.push(stream);
        }
        (listener, queued)
    }

    #[actix_rt::test]
    async fn a_dead_first_address_costs_little() {
        let live = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let live_address = live.local_addr().unwrap();
        let (hole, _queued) = black_hole("127.0.0.2:0".parse().unwrap()).await;
        let refusing: SocketAddr = {
            let gone = TcpListener::bind("127.0.0.3:0").await.unwrap();
            gone.local_addr().unwrap()
        };
        let started = time::now();
        let stream = dial(&[refusing, live_address]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), live_address);
        assert!(time::now().since(started) < HEAD_START, "a refusal is acted on at once");

        let started = time::now();
        let stream = dial(&[hole.local_addr().unwrap(), live_address]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), live_address);
        assert!(stream.nodelay().unwrap());
        let waited = time::now().since(started);
        assert!(waited >= HEAD_START && waited < HEAD_START * 4, "{waited:?}");
    }

    #[actix_rt::test]
    async fn the_error_names_the_address() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert_eq!(dial(&[gone]).await.unwrap_err(), format!("{gone}: connection refused"));
        assert!(dial(&[]).await.is_err());
    }
}
