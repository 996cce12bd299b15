//! Recorded streams, played by an upstream and read by clients, byte for byte, however they are cut up.
//!
//! The recordings are those of the folder that `AZURE_RECORDINGS` names, if it is set, and always those of
//! `tests/fixtures/streams`, made up in the shapes that Azure's have. Every recording is split at every byte boundary:
//! - the splitter alone takes every pair of pieces of every recording;
//! - over the wire, streams in chunks of one byte (cut everywhere at once), of two, … go through both of Azure's URL families, with
//!   usage asked for and hidden; and pairs of pieces, through these surfaces in turn: of small recordings all pairs, of
//!   the others those around some events' ends and some in between.
//!
//! What the ledger says of each must be what the recording reports.

mod recording;
mod wire;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use aoai_gateway::openai::answer::StreamWatch;
use aoai_gateway::openai::sse::Splitter;
use aoai_gateway::storage::requests::RequestView;
use bytes::Bytes;
use recording::{End, Fate, Recording, Tokens, Usage};
use wire::{Case, Cutting, Dialect, Player};

/// All pairs of pieces of recordings up to this size go over the wire.
const SMALL: usize = 1_600;
/// Of larger ones, so many of each kind.
const SAMPLE: usize = 16;
/// Those up to this size are also broken off after every byte.
const SMALLEST: usize = 350;
/// Gateways that break streams side by side.
const SIDE_BY_SIDE: usize = 4;

fn recordings() -> Vec<Recording> {
    let made_up = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/streams");
    let mut all = Recording::folder(&made_up);
    match std::env::var_os("AZURE_RECORDINGS").filter(|folder| !folder.is_empty()).map(PathBuf::from) {
        Some(folder) => {
            let recorded = Recording::folder(&folder);
            assert!(!recorded.is_empty(), "AZURE_RECORDINGS names {}, where no stream is", folder.display());
            println!("{} recordings of {}, {} made up", recorded.len(), folder.display(), all.len());
            all.extend(recorded);
        }
        None => println!("AZURE_RECORDINGS is not set: only the {} streams of tests/fixtures/streams", all.len()),
    }
    all
}

fn is_whole(recording: &Recording) -> bool {
    matches!(recording.fate(Usage::Asked), Fate::Whole(_))
}

#[test]
fn the_splitter_gives_the_same_events_at_every_boundary() {
    for recording in recordings() {
        let bytes = Bytes::from(recording.bytes.clone());
        let (events, rest) = split(std::slice::from_ref(&bytes));
        let expected = recording.events();
        assert_eq!([events.concat(), rest.to_vec()].concat(), recording.bytes, "{}", recording.name);
        assert_eq!(events, expected[..events.len()], "{}", recording.name);
        assert!(expected.len() - events.len() <= 1, "{}", recording.name);
        for offset in 0..=bytes.len() {
            let pieces = [bytes.slice(..offset), bytes.slice(offset..)];
            let (found, left) = split(&pieces);
            assert!(found == events && left == rest, "{} cut at {offset}", recording.name);
        }
        let mut watch = StreamWatch::default();
        for event in &events {
            watch.read(event);
        }
        watch.read(&rest);
        let usage = watch.usage().map(|usage| {
            [usage.input_tokens, usage.cached_input_tokens, usage.output_tokens, usage.reasoning_tokens].map(i64::from)
        });
        assert_eq!(usage, recording.usage(), "{}", recording.name);
    }
}

fn split(pieces: &[Bytes]) -> (Vec<Bytes>, Bytes) {
    let mut splitter = Splitter::default();
    let mut events = Vec::new();
    for piece in pieces {
        let (bytes, spans) = splitter.push(piece.clone()).unwrap();
        events.extend(spans.into_iter().map(|span| bytes.slice(span)));
    }
    (events, splitter.finish())
}

#[test]
fn whole_streams_pass_byte_for_byte_however_they_are_cut() {
    let player = Player::new(recordings().into_iter().filter(is_whole).collect());
    let mut cases = Vec::new();
    for (index, recording) in player.recordings().iter().enumerate() {
        // Each boundary through one of the surfaces, and all of them at once through all.
        let pairs = offsets(recording).into_iter().map(Cutting::At).zip(SURFACES.into_iter().cycle());
        let chunks = [1, 2, 3, 7, 61, 1024].map(Cutting::Chunks);
        let segments = [1, 5].into_iter().filter(|_| recording.bytes.len() <= SMALL).map(Cutting::Segments);
        let others = chunks.into_iter().chain(segments).chain([Cutting::At(0)]);
        let others = others.flat_map(|cutting| SURFACES.into_iter().map(move |surface| (cutting, surface)));
        let all: HashSet<_> = pairs.chain(others).collect();
        cases.extend(all.into_iter().map(|(cutting, (dialect, usage))| Case {
            recording: index,
            cutting,
            dialect,
            usage,
        }));
    }
    player.play(&cases);
    check_rows(&player, &cases);
    println!("{} answers of {} recordings", cases.len(), player.recordings().len());
}

const SURFACES: [(Dialect, Usage); 4] = [
    (Dialect::AzureV1, Usage::Asked),
    (Dialect::Azure, Usage::Hidden),
    (Dialect::AzureV1, Usage::Hidden),
    (Dialect::Azure, Usage::Asked),
];

/// Where a recording is split in two: everywhere, or around some events' ends and in between.
fn offsets(recording: &Recording) -> BTreeSet<usize> {
    let length = recording.bytes.len();
    if length <= SMALL {
        return (1..=length).collect();
    }
    let ends: Vec<_> = recording
        .events()
        .iter()
        .scan(0, |at, event| {
            *at += event.len();
            Some(*at)
        })
        .collect();
    let around = ends.iter().rev().step_by(ends.len().div_ceil(SAMPLE)).flat_map(|end| end - 3..=(end + 1).min(length));
    around.chain((1..length).step_by(length / SAMPLE)).collect()
}

/// Streams with an error in them or without their end, and whole ones that break off after some of their bytes.
#[test]
fn broken_streams_are_visibly_cut() {
    let (whole, mut broken): (Vec<_>, Vec<_>) = recordings().into_iter().partition(is_whole);
    for recording in &whole {
        let length = recording.bytes.len();
        let stride = if length <= SMALLEST { 1 } else { length / SAMPLE };
        broken.extend((0..length).step_by(stride).map(|length| recording.until(length)));
    }
    let good = whole.iter().min_by_key(|recording| recording.bytes.len()).unwrap();
    let (all, cut) = std::thread::scope(|scope| {
        let shares: Vec<_> = (0..SIDE_BY_SIDE)
            .map(|first| broken.iter().skip(first).step_by(SIDE_BY_SIDE).chain([good]).cloned().collect())
            .map(|share| scope.spawn(|| play_broken(share)))
            .collect();
        shares.into_iter().map(|share| share.join().unwrap()).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    });
    println!("{all} broken streams, {cut} of them after their first content");
}

/// Plays broken recordings, the last one whole; gives how many broke and how many of them after their first content.
fn play_broken(recordings: Vec<Recording>) -> (usize, usize) {
    let player = Player::new(recordings);
    let good = player.recordings().len() - 1;
    let mut cases = Vec::new();
    for (index, recording) in player.recordings()[..good].iter().enumerate() {
        let length = recording.bytes.len();
        let cuttings: Vec<_> = match recording.end {
            End::Clean => (1..=length).map(Cutting::At).chain([1, 2, 64].map(Cutting::Chunks)).collect(),
            End::Fin => vec![Cutting::At(length / 2)],
        };
        for cutting in cuttings {
            let (dialect, usage) = SURFACES[cases.len() / 3 % SURFACES.len()];
            cases.push(Case { recording: index, cutting, dialect, usage });
            // Two good answers for a broken one, or the deployment would be left alone.
            for _ in 0..2 {
                cases.push(Case { recording: good, cutting: Cutting::Chunks(cases.len()), dialect, usage });
            }
        }
    }
    player.play_one_by_one(&cases);
    check_rows(&player, &cases);
    let cut = cases.iter().filter(|case| matches!(player.fate(case), Fate::Cut(_))).count();
    (cases.len() / 3, cut)
}

/// What the ledger says of each case is what the recording reports.
fn check_rows(player: &Player, cases: &[Case]) {
    player.gateway.settle();
    let rows = player.gateway.all_rows();
    assert_eq!(rows.len(), cases.len());
    let rows: HashMap<_, _> = rows.iter().map(|row| (row.request_id.as_str(), row)).collect();
    for case in cases {
        let recording = &player.recordings()[case.recording];
        let row = rows[case.id().as_str()];
        let place = || format!("{} {case:?} {row:?}", recording.name);
        let end = (row.state.as_str(), row.status, row.estimated);
        match player.fate(case) {
            Fate::Whole(_) => {
                assert_eq!(end, ("settled", Some(200), recording.usage().is_none()), "{}", place());
                match recording.usage() {
                    Some(usage) => assert_eq!(tokens(row), usage, "{}", place()),
                    None => assert!(row.input_tokens > 0 && row.output_tokens > 0, "{}", place()),
                }
            }
            Fate::Cut(_) => {
                assert_eq!(end, ("failed", Some(200), true), "{}", place());
                assert!(row.input_tokens > 0, "{}", place());
            }
            Fate::Nothing => {
                assert_eq!(end, ("failed", Some(502), false), "{}", place());
                let reason = if recording.end == End::Fin { "truncated" } else { "invalid_response" };
                assert_eq!(row.attempts[0].reason.as_deref(), Some(reason), "{}", place());
            }
        }
    }
}

fn tokens(row: &RequestView) -> Tokens {
    [row.input_tokens, row.cached_input_tokens, row.output_tokens, row.reasoning_tokens]
}
