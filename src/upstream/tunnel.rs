//! From a connection to a proxy to a connection through it: HTTP's `CONNECT` (RFC 9110, section 9.3.6) and SOCKS5
//! (RFC 1928, with the user and password of RFC 1929).
//!
//! The proxy is told the name, never an address: it resolves, so the checks of `dns` are its own business. Nothing
//! beyond the proxy's answer is read: the next byte belongs to TLS or HTTP. The deadline is the caller's.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::domain::outbound::{Login, Proxy, ProxyProtocol};

/// A proxy's answer to `CONNECT` is a few lines.
const LONGEST_HEAD: usize = 8 * 1024;

/// Asks `proxy`, to which `stream` is connected, for `host`. The error does not name the proxy.
pub(super) async fn through(proxy: &Proxy, mut stream: TcpStream, host: &str, port: u16) -> Result<TcpStream, String> {
    match proxy.protocol {
        ProxyProtocol::Http => connect(&mut stream, proxy.login.as_ref(), host, port).await?,
        ProxyProtocol::Socks5 => socks5(&mut stream, proxy.login.as_ref(), host, port).await?,
    }
    Ok(stream)
}

async fn connect(stream: &mut TcpStream, login: Option<&Login>, host: &str, port: u16) -> Result<(), String> {
    let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
    if let Some(Login { user, password }) = login {
        let credential = STANDARD.encode(format!("{user}:{}", password.expose()));
        request += &format!("Proxy-Authorization: Basic {credential}\r\n");
    }
    request += "\r\n";
    send(stream, request.as_bytes()).await?;
    let head = read_head(stream).await?;
    let mut slots = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut slots);
    match response.parse(&head) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Ok(_) | Err(_) => return Err("its answer to CONNECT is not HTTP".to_owned()),
    }
    match response.code {
        Some(200..=299) => Ok(()),
        Some(407) if login.is_some() => Err("it refused the user and password of `proxy` (407)".to_owned()),
        Some(407) => Err("it wants a user and password (407): http://USER:PASSWORD@HOST:PORT".to_owned()),
        Some(status) => Err(format!("it answered {status} to CONNECT {authority}")),
        None => Err("its answer to CONNECT has no status".to_owned()),
    }
}

/// Reads no further than the empty line.
async fn read_head(stream: &mut TcpStream) -> Result<Vec<u8>, String> {
    let mut head = Vec::with_capacity(256);
    let mut seen = [0; 1024];
    loop {
        let count = stream.peek(&mut seen).await.map_err(|error| broken(&error))?;
        if count == 0 {
            return Err("it closed the connection instead of an answer".to_owned());
        }
        let known = head.len();
        head.extend_from_slice(&seen[..count]);
        let end = memchr::memmem::find(&head, b"\r\n\r\n").map(|at| at + 4);
        let take = end.unwrap_or(head.len()) - known;
        head.truncate(known + take);
        stream.read_exact(&mut seen[..take]).await.map_err(|error| broken(&error))?;
        if end.is_some() {
            return Ok(head);
        }
        if head.len() > LONGEST_HEAD {
            return Err("its answer to CONNECT has no end".to_owned());
        }
    }
}

const VERSION: u8 = 5;
const NO_LOGIN: u8 = 0;
const USER_AND_PASSWORD: u8 = 2;

async fn socks5(stream: &mut TcpStream, login: Option<&Login>, host: &str, port: u16) -> Result<(), String> {
    match login {
        None => send(stream, &[VERSION, 1, NO_LOGIN]).await?,
        Some(_) => send(stream, &[VERSION, 2, NO_LOGIN, USER_AND_PASSWORD]).await?,
    }
    match (read::<2>(stream).await?, login) {
        ([VERSION, NO_LOGIN], _) => {}
        ([VERSION, USER_AND_PASSWORD], Some(login)) => log_in(stream, login).await?,
        ([VERSION, 0xff], None) => return Err("it wants a user and password: socks5://USER:PASSWORD@HOST:PORT".into()),
        ([VERSION, _], _) => return Err("it takes no way of logging in that is known here".to_owned()),
        _ => return Err("its greeting is not SOCKS5".to_owned()),
    }
    let mut request = vec![VERSION, 1, 0];
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => {
            request.push(1);
            request.extend(address.octets());
        }
        Ok(IpAddr::V6(address)) => {
            request.push(4);
            request.extend(address.octets());
        }
        Err(_) => push_text(&mut request, 3, host)?,
    }
    request.extend(port.to_be_bytes());
    send(stream, &request).await?;
    let [version, reply, _, kind] = read::<4>(stream).await?;
    if version != VERSION {
        return Err("its answer is not SOCKS5".to_owned());
    }
    if reply != 0 {
        return Err(format!("it did not connect to {host}:{port}: {}", refusal(reply)));
    }
    // The address it connects from is of no interest, but it is in the way.
    let length = match kind {
        1 => 4,
        3 => usize::from(read::<1>(stream).await?[0]),
        4 => 16,
        _ => return Err("its answer is not SOCKS5".to_owned()),
    };
    let mut bound = vec![0; length + 2];
    stream.read_exact(&mut bound).await.map_err(|error| broken(&error))?;
    Ok(())
}

async fn log_in(stream: &mut TcpStream, Login { user, password }: &Login) -> Result<(), String> {
    let mut request = Vec::new();
    push_text(&mut request, 1, user)?;
    let length = u8::try_from(password.expose().len()).map_err(|_| "the proxy's password is too long".to_owned())?;
    request.push(length);
    request.extend(password.expose().as_bytes());
    send(stream, &request).await?;
    match read::<2>(stream).await? {
        [_, 0] => Ok(()),
        _ => Err("it refused the user and password of `proxy`".to_owned()),
    }
}

/// A mark, a length of one byte, and the text.
fn push_text(request: &mut Vec<u8>, mark: u8, text: &str) -> Result<(), String> {
    let length = u8::try_from(text.len()).map_err(|_| format!("{text} is too long for SOCKS5"))?;
    request.extend([mark, length]);
    request.extend(text.as_bytes());
    Ok(())
}

fn refusal(reply: u8) -> &'static str {
    match reply {
        2 => "its rules forbid it",
        3 => "network unreachable",
        4 => "host unreachable, or its name not found",
        5 => "connection refused",
        6 => "timed out",
        _ => "no reason given",
    }
}

async fn send(stream: &mut TcpStream, bytes: &[u8]) -> Result<(), String> {
    stream.write_all(bytes).await.map_err(|error| broken(&error))
}

async fn read<const N: usize>(stream: &mut TcpStream) -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await.map_err(|error| broken(&error))?;
    Ok(bytes)
}

fn broken(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "it closed the connection instead of an answer".to_owned(),
        kind => kind.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// What a proxy that says exactly this leads to: what can be read through it, or the error.
    async fn answered(protocol: ProxyProtocol, said: &'static [&'static [u8]]) -> Result<Vec<u8>, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let proxy = Proxy { protocol, host: "127.0.0.1".into(), port: 1, login: None };
        let serving = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; 512];
            for bytes in said {
                let _ = stream.read(&mut asked).await;
                // In pieces as small as they get.
                for byte in *bytes {
                    let _ = stream.write_all(&[*byte]).await;
                    tokio::task::yield_now().await;
                }
            }
        };
        let asking = async {
            let mut stream = through(&proxy, stream, "contoso.openai.azure.com", 443).await?;
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.map_err(|error| error.to_string())?;
            Ok(rest)
        };
        tokio::join!(serving, asking).1
    }

    #[actix_rt::test]
    async fn what_follows_the_answer_is_left_to_whom_it_is_for() {
        let connect = |said| answered(ProxyProtocol::Http, said);
        assert_eq!(connect(&[b"HTTP/1.0 200 Go on\r\nvia: x\r\n\r\nrest"]).await, Ok(b"rest".to_vec()));
        let socks = |said| answered(ProxyProtocol::Socks5, said);
        assert_eq!(socks(&[b"\x05\0", b"\x05\0\0\x03\x04name\x01\xbbrest"]).await, Ok(b"rest".to_vec()));
        assert_eq!(socks(&[b"\x05\0", b"\x05\0\0\x01\x7f\0\0\x01\0\0"]).await, Ok(Vec::new()));
    }

    #[actix_rt::test]
    async fn what_is_no_tunnel_is_told_from_one() {
        const CONNECT: [(&[&[u8]], &str); 5] = [
            (&[b"HTTP/1.1 407 No\r\n\r\n"], "it wants a user and password (407)"),
            (&[b"HTTP/1.1 503 No\r\n\r\n"], "it answered 503 to CONNECT contoso.openai.azure.com:443"),
            (&[b"SSH-2.0-OpenSSH\r\n\r\n"], "its answer to CONNECT is not HTTP"),
            (&[b"HTTP/1.1 200 OK\r\n"], "it closed the connection instead of an answer"),
            (&[b""], "it closed the connection instead of an answer"),
        ];
        for (said, expected) in CONNECT {
            let error = answered(ProxyProtocol::Http, said).await.unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        const SOCKS: [(&[&[u8]], &str); 5] = [
            (&[b"\x05\xff"], "it wants a user and password"),
            (&[b"\x04\0"], "its greeting is not SOCKS5"),
            (&[b"\x05\x01"], "it takes no way of logging in"),
            (&[b"\x05\0", b"\x05\x05\0\x01"], "it did not connect to contoso.openai.azure.com:443: connection refused"),
            (&[b"\x05\0", b"\x05\0"], "it closed the connection instead of an answer"),
        ];
        for (said, expected) in SOCKS {
            let error = answered(ProxyProtocol::Socks5, said).await.unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
