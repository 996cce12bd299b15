//! A disk without room: what is in flight is settled, nothing new is taken, and it goes on when there is room.

use std::io::BufReader;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use aoai_gateway::simulator::Knobs;

use super::{on, shim};
use crate::crash::client::{Answer, Ask, Kind, exchange};
use crate::support::gateway::{eventually, eventually_within};
use crate::support::process::Estate;

/// Taken by the database, its log and its ballast.
fn taken(estate: &Estate) -> u64 {
    let size = |suffix: &str| {
        let mut name = estate.database().into_os_string();
        name.push(suffix);
        std::fs::metadata(name).map_or(0, |file| file.len())
    };
    size("") + size("-wal") + size(".ballast")
}

fn ask(address: SocketAddr, key: &str, kind: Kind, id: &str, tokens: u32) -> Answer {
    let mut stream = BufReader::new(TcpStream::connect(address).unwrap());
    stream.get_ref().set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    exchange(&mut stream, &Ask::post(kind, key, id, "x", tokens)).unwrap()
}

#[test]
fn a_full_disk_settles_what_is_in_flight_and_takes_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let room = folder.path().join("room");
    let shim = shim(folder.path());
    let estate = Estate::new(&Knobs { ttft_ms: 1, token_ms: 10, output_tokens: 150, ..Knobs::default() }, "");
    let gateway = estate.start_with(|command| {
        on(command, &shim, &estate.database());
        command.env("DISK_SHIM_ROOM", &room);
    });
    let mut ballast = estate.database().into_os_string();
    ballast.push(".ballast");
    let ballast = std::path::PathBuf::from(ballast);
    eventually(|| if ballast.exists() { Ok(()) } else { Err("no ballast".to_owned()) });
    assert_eq!(ask(gateway.address, &estate.key, Kind::Whole, "before", 2).status, 200);

    let (mut settled, mut refused) = (vec!["before".to_owned()], 0);
    std::thread::scope(|scope| {
        let long: Vec<_> = (0..8)
            .map(|n| {
                let (address, key) = (gateway.address, &estate.key);
                scope.spawn(move || ask(address, key, Kind::Stream, &format!("long-{n}"), 150).status)
            })
            .collect();
        eventually(|| match gateway.metric("aoai_gateway_inflight_requests") {
            8.0 => Ok(()),
            other => Err(format!("{other} in flight")),
        });
        std::fs::write(&room, (taken(&estate) + 20_000).to_string()).unwrap();
        for n in 0..400 {
            let answer = ask(gateway.address, &estate.key, Kind::Whole, &format!("short-{n}"), 2);
            match answer.status {
                200 => settled.push(format!("short-{n}")),
                503 => refused += 1,
                other => panic!("{other}"),
            }
            if refused == 10 {
                break;
            }
        }
        assert_eq!(refused, 10, "the disk was never full");
        let ready = gateway.get("/readyz", "");
        assert!(ready.status == 503 && ready.text().contains("the disk is full"), "{}", ready.text());
        assert!(!ballast.exists(), "the ballast is still there");
        for (n, thread) in long.into_iter().enumerate() {
            assert_eq!(thread.join().unwrap(), 200, "a stream that was in flight");
            settled.push(format!("long-{n}"));
        }
    });
    let last = ask(gateway.address, &estate.key, Kind::Whole, "refused", 2);
    assert_eq!(last.status, 503);
    assert!(String::from_utf8_lossy(&last.body).contains("accounting_unavailable"));
    std::fs::remove_file(&room).unwrap();
    eventually_within(Duration::from_secs(5), || match gateway.get("/readyz", "").status {
        200 => Ok(()),
        _ => Err("not ready though there is room".to_owned()),
    });
    assert!(ballast.exists(), "the next full disk finds a ballast again");
    assert_eq!(ask(gateway.address, &estate.key, Kind::Whole, "after", 2).status, 200);
    settled.push("after".to_owned());
    gateway.signal("TERM");
    let (ended, said) = gateway.last_words();
    assert_eq!(ended.code, Some(0));
    assert!(said.iter().any(|line| line.contains("the disk has room again")), "{said:#?}");

    let store = estate.store();
    let verdict = store.verify().unwrap();
    assert!(verdict.holds() && verdict.open == 0, "{verdict:#?}");
    assert_eq!(verdict.requests, settled.len() as i64, "refused ones have no row, all others have one");
    let asked: Vec<_> = estate.journals().into_iter().filter_map(|entry| entry.x_ms_client_request_id).collect();
    assert_eq!(asked.len(), settled.len(), "a region was asked for what was refused");
}
