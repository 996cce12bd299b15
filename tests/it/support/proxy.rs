//! An outbound proxy of a few lines: `CONNECT` and SOCKS5 on one port, each as its client begins. It notes what it was
//! asked for, so that a test can tell what went through it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use aoai_gateway::domain::outbound::{Login, Proxy, ProxyProtocol, Way};
use aoai_gateway::domain::secret::Secret;

/// How the proxy treats those who come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manners {
    Open,
    /// `me` with the password `canary-of-the-proxy`.
    Guarded,
    /// Takes connections and never says a word.
    Silent,
    /// Answers that it could not connect.
    Refusing,
    /// Closes at once.
    Rude,
}

pub const USER: &str = "me";
pub const PASSWORD: &str = "canary-of-the-proxy";

pub struct FakeProxy {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl FakeProxy {
    /// Tunnels to `upstream`, whatever name it is asked for: names that exist nowhere show who resolves them.
    pub fn start(manners: Manners, upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        // Ends with the test process; it holds nothing that anyone waits for.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let noted = Arc::clone(&noted);
                std::thread::spawn(move || serve(stream, manners, upstream, &noted));
            }
        });
        Self { address, asked }
    }

    /// The hosts and ports it was asked for, so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn way(&self, protocol: ProxyProtocol) -> Way {
        self.way_of(protocol, None)
    }

    pub fn way_with_login(&self, protocol: ProxyProtocol, password: &str) -> Way {
        self.way_of(protocol, Some(Login { user: USER.to_owned(), password: Secret::new(password) }))
    }

    fn way_of(&self, protocol: ProxyProtocol, login: Option<Login>) -> Way {
        let (host, port) = (self.address.ip().to_string(), self.address.port());
        Way::Proxy(Arc::new(Proxy { protocol, host, port, login }))
    }
}

fn serve(mut client: TcpStream, manners: Manners, upstream: SocketAddr, asked: &Mutex<Vec<String>>) {
    let mut first = [0];
    let tunnelled = match manners {
        Manners::Rude => return,
        Manners::Silent => {
            // Until the client gives up.
            while matches!(client.read(&mut first), Ok(1..)) {}
            return;
        }
        Manners::Open | Manners::Guarded | Manners::Refusing => match client.peek(&mut first) {
            Ok(1) if first[0] == 5 => socks5(&mut client, manners, asked),
            Ok(_) | Err(_) => connect(&mut client, manners, asked),
        },
    };
    if !matches!(tunnelled, Ok(true)) {
        return;
    }
    let Ok(server) = TcpStream::connect(upstream) else { return };
    let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let back = std::thread::spawn(move || pump(to, from));
    pump(client, server);
    let _ = back.join();
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

fn connect(client: &mut TcpStream, manners: Manners, asked: &Mutex<Vec<String>>) -> io::Result<bool> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let target = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).unwrap_or_default();
    asked.lock().unwrap().push(target.to_owned());
    // me:canary-of-the-proxy
    let knows = head.contains("Proxy-Authorization: Basic bWU6Y2FuYXJ5LW9mLXRoZS1wcm94eQ==\r\n");
    let status = match manners {
        Manners::Refusing => "502 Bad Gateway",
        Manners::Guarded if !knows => "407 Proxy Authentication Required",
        _ => "200 Connection established",
    };
    client.write_all(format!("HTTP/1.1 {status}\r\nvia: test\r\n\r\n").as_bytes())?;
    Ok(status.starts_with("200"))
}

fn socks5(client: &mut TcpStream, manners: Manners, asked: &Mutex<Vec<String>>) -> io::Result<bool> {
    let mut greeting = [0; 2];
    client.read_exact(&mut greeting)?;
    let mut methods = vec![0; usize::from(greeting[1])];
    client.read_exact(&mut methods)?;
    if manners == Manners::Guarded {
        if !methods.contains(&2) {
            client.write_all(&[5, 0xff])?;
            return Ok(false);
        }
        client.write_all(&[5, 2])?;
        let mut version = [0];
        client.read_exact(&mut version)?;
        let knows = text(client)? == USER && text(client)? == PASSWORD;
        client.write_all(&[1, u8::from(!knows)])?;
        if !knows {
            return Ok(false);
        }
    } else {
        client.write_all(&[5, 0])?;
    }
    let mut request = [0; 4];
    client.read_exact(&mut request)?;
    let host = match request[3] {
        3 => text(client)?,
        1 => {
            let mut address = [0; 4];
            client.read_exact(&mut address)?;
            std::net::Ipv4Addr::from(address).to_string()
        }
        kind => panic!("address of kind {kind}"),
    };
    let mut port = [0; 2];
    client.read_exact(&mut port)?;
    asked.lock().unwrap().push(format!("{host}:{}", u16::from_be_bytes(port)));
    let reply = if manners == Manners::Refusing { 5 } else { 0 };
    client.write_all(&[5, reply, 0, 1, 127, 0, 0, 1, 0, 9])?;
    Ok(reply == 0)
}

fn text(client: &mut TcpStream) -> io::Result<String> {
    let mut length = [0];
    client.read_exact(&mut length)?;
    let mut bytes = vec![0; usize::from(length[0])];
    client.read_exact(&mut bytes)?;
    Ok(String::from_utf8(bytes).unwrap())
}
