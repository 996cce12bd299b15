//! `kill -9` at named places: between any two steps that matter, nothing acknowledged is lost and nothing counts twice.
//!
//! `POINT_KILLS=50` chooses how often at each; the place is come to for the first time, or for one of the next.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use aoai_gateway::simulator::Knobs;
use aoai_gateway::tripwire::kill_points::Point;

use super::books::Books;
use super::load::{Load, Mix};
use crate::support::client::get;
use crate::support::gateway::eventually;
use crate::support::process::{ADMIN_KEY, Estate, PATIENCE};
use crate::support::variable;

const THREADS: u64 = 12;
/// A place is come to so many times at most before the kill.
const LATEST: u32 = 30;

#[test]
fn nothing_acknowledged_is_lost_wherever_the_process_is_killed() {
    let kills: usize = variable("POINT_KILLS", 3);
    let seed: u64 = variable("SEED", fastrand::u64(..));
    println!("SEED={seed} POINT_KILLS={kills}");
    let mut random = fastrand::Rng::with_seed(seed);
    let estate = Estate::new(&Knobs { ttft_ms: 2, token_ms: 1, ..Knobs::default() }, "");
    let mix = Mix { threads: THREADS, seed, longest: 25, marathon: None, each: None, filtered: 0 };
    let load = Load::start(mix, &estate.key);
    for (name, point) in Point::ALL {
        let began = Instant::now();
        for _ in 0..kills {
            match point {
                Point::Recovering => killed_while_recovering(&estate, &load),
                _ => killed(&estate, &load, name, point, random.u32(1..=LATEST)),
            }
        }
        println!("{name:<22} {kills} kills in {:.1?}", began.elapsed());
    }
    let gateway = estate.start();
    assert_eq!(gateway.open_rows(), 0);
    load.open(gateway.address);
    // bounded: the last life is not killed and serves a little
    std::thread::sleep(Duration::from_millis(200));
    let tried = load.finish();
    gateway.stop();

    let books = Books::close(&estate, tried);
    let figures = books.figures();
    println!("{figures}");
    let in_flight = Point::ALL.len() * kills * THREADS as usize;
    assert!(figures.unknown <= in_flight && figures.state("recovered") <= in_flight, "{figures}");
    assert_eq!(figures.state("settled") + figures.state("recovered"), books.rows.len(), "nobody left");
    assert!(figures.received > 0 && figures.state("recovered") > 0, "{figures}");
}

/// Serves until it comes to the place.
fn killed(estate: &Estate, load: &Load, name: &str, point: Point, time: u32) {
    // The log is moved at the end, and else too rarely for a test.
    let time = if point == Point::Checkpoint { 1 } else { time };
    let gateway = estate.start_with(|command| {
        command.args(["--kill-at", &format!("{name}:{time}")]);
    });
    load.open(gateway.address);
    if point == Point::IntentsWritten {
        // What ends soon gets a row for its beginning only if someone looks at it.
        let began = Instant::now();
        while look(gateway.address).is_ok() {
            assert!(began.elapsed() < PATIENCE, "{name} was not come to");
        }
    }
    if point == Point::Checkpoint {
        eventually(|| match gateway.metric("aoai_gateway_ledger_committed_total") {
            0.0 => Err("nothing is in the log".to_owned()),
            _ => Ok(()),
        });
        gateway.signal("TERM");
    }
    let (ended, said) = gateway.last_words();
    load.shut();
    assert_eq!(ended.code, None, "{name} was not come to: {said:#?}");
}

/// At what is open. A gateway that is killed meanwhile is no more to be met the next time.
fn look(gateway: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect(gateway)?;
    let lines = format!("authorization: Bearer {ADMIN_KEY}\r\nconnection: close\r\n");
    let _ = stream.write_all(&get("/admin/v1/requests?state=open", &lines));
    let _ = io::copy(&mut stream, &mut io::sink());
    Ok(())
}

/// A kill in the middle of a stream leaves something to recover, and the next start dies of it before it serves.
fn killed_while_recovering(estate: &Estate, load: &Load) {
    killed(estate, load, "mid-stream", Point::MidStream, 5);
    let mut command = estate.command(&["serve", "--listen", "127.0.0.1:0", "--kill-at", "recovering:1"]);
    let mut process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    let status = loop {
        if let Some(status) = process.try_wait().unwrap() {
            break status;
        }
        assert!(began.elapsed() < PATIENCE, "recovering was not come to");
        std::thread::sleep(Duration::from_millis(5)); // bounded: between two looks
    };
    assert_eq!(status.code(), None, "recovering was not come to");
}
