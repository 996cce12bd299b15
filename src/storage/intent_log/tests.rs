use super::*;
use crate::settings::model::Durability;
use crate::storage::Store;
use crate::storage::ledger::LedgerEntry;
use crate::storage::samples::{intent, settled};

fn open(folder: &tempfile::TempDir) -> Store {
    Store::open(&folder.path().join("gateway.db"), Durability::Process).unwrap()
}

/// How long the two files are; None: not there.
fn lengths(folder: &tempfile::TempDir) -> [Option<u64>; 2] {
    paths(&folder.path().join("gateway.db")).map(|path| fs::metadata(path).ok().map(|file| file.len()))
}

fn begins(n: u128) -> LedgerEntry {
    LedgerEntry::Intent(intent(n))
}

/// The states of the rows that are in the database, by id.
fn rows(store: &Store) -> Vec<String> {
    use crate::storage::schema::requests::dsl::{id, requests, state};
    requests.order(id).select(state).load(&mut *store.file_reader().unwrap()).unwrap()
}

#[test]
fn what_ends_soon_is_one_row_and_the_log_is_emptied() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let mut journal = store.journal().unwrap();
    assert!(store.is_tidy() && lengths(&folder) == [Some(0), Some(0)]);
    journal.append(&[vec![begins(1), begins(2)]]).unwrap();
    assert!(rows(&store).is_empty() && !store.is_tidy());
    journal.append(&[vec![settled(&intent(1), 5)], vec![settled(&intent(2), 5), begins(3)]]).unwrap();
    assert_eq!(rows(&store), ["settled", "settled"]);
    let now = crate::domain::time::now();
    assert!(!journal.tidy(now).unwrap() && !store.is_tidy(), "one is open");
    journal.append(&[vec![settled(&intent(3), 5)]]).unwrap();
    assert!(!journal.tidy(now).unwrap() && store.is_tidy());
    assert_eq!((lengths(&folder)[0], rows(&store).len()), (Some(0), 3));
    journal.close().unwrap();
    assert_eq!(lengths(&folder), [None, None]);
}

#[test]
fn what_stays_open_gets_a_row_between_two_and_four_turns_and_the_files_take_turns() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let mut journal = store.journal().unwrap();
    let began = crate::domain::time::now();
    journal.append(&[(1..=300).map(begins).collect()]).unwrap();
    let later = |turns| began.after(TURN * turns).after(Duration::from_secs(1));
    assert!(!journal.tidy(later(1)).unwrap() && rows(&store).is_empty());
    // The next ones are lines of the other file.
    journal.append(&[vec![begins(301)]]).unwrap();
    let [first, second] = lengths(&folder);
    assert!(first.unwrap() > 300 * 100 && second.is_some_and(|length| (100..400).contains(&length)));
    assert!(journal.tidy(later(2)).unwrap(), "there are more than are done at once");
    assert_eq!(rows(&store).len(), AT_ONCE);
    assert!(!journal.tidy(later(2)).unwrap());
    assert_eq!(rows(&store).len(), 300);
    // The first one is empty, so that the second one may end now.
    assert!(!journal.tidy(later(2)).unwrap());
    assert_eq!((lengths(&folder)[0], rows(&store).len()), (Some(0), 300));
    journal.append(&[vec![begins(302)]]).unwrap();
    assert!(lengths(&folder)[0].is_some_and(|length| length > 0));
    assert!(!journal.tidy(later(3)).unwrap() && !journal.tidy(later(3)).unwrap());
    assert_eq!((lengths(&folder)[1], rows(&store).len()), (Some(0), 301));
}

#[test]
fn whoever_dies_leaves_what_the_next_one_makes_rows_of() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let mut named = (*intent(2)).clone();
    named.request_id = "the client's \"own\" \u{1f600}\n".to_owned();
    named.user_id = Some(crate::domain::ids::UserId(Uuid::from_u128(9)));
    let mut journal = store.journal().unwrap();
    journal.append(&[vec![begins(1), LedgerEntry::Intent(Arc::new(named.clone())), begins(3)]]).unwrap();
    journal.append(&[vec![settled(&intent(3), 5)]]).unwrap();
    drop((journal, store));
    // It was cut short in the middle of a line.
    let [path, _] = paths(&folder.path().join("gateway.db"));
    let text = fs::read(&path).unwrap();
    let mut file = File::options().append(true).open(&path).unwrap();
    file.write_all(&text[..text.len() - 30]).unwrap();

    let store = open(&folder);
    assert_eq!(
        (rows(&store), lengths(&folder)),
        (vec!["open".into(), "open".into(), "settled".into()], [Some(0), Some(0)])
    );
    let view = store.request(named.id).unwrap().unwrap();
    assert_eq!((view.request_id, view.user_id, view.input_tokens), (named.request_id, named.user_id, 10));
    assert_eq!(view.started_at, named.started_at);
    assert_eq!(store.recover(|_| crate::domain::money::Tariff::Flat).unwrap(), 2);
    assert!(store.verify().unwrap().holds());
}

#[test]
fn who_looks_sees_what_has_just_begun() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let mut journal = store.journal().unwrap();
    journal.append(&[vec![begins(1)]]).unwrap();
    assert_eq!(store.request(intent(1).id).unwrap().unwrap().state, "open");
    journal.append(&[vec![settled(&intent(1), 5)]]).unwrap();
    assert_eq!(rows(&store), ["settled"]);
    assert!(store.verify().unwrap().holds());
}

#[test]
fn with_rows_that_survive_a_power_failure_there_is_no_log() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("gateway.db"), Durability::Power).unwrap();
    store.journal().unwrap().append(&[vec![begins(1)]]).unwrap();
    assert_eq!((rows(&store), lengths(&folder)), (vec!["open".to_owned()], [None, None]));
}

#[test]
fn a_file_that_cannot_be_used_is_named_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("gateway.db");
    let [_, path] = paths(&database);
    fs::create_dir(&path).unwrap();
    let error = Store::open(&database, Durability::Process).unwrap_err().to_string();
    assert!(error.contains(&path.display().to_string()) && error.ends_with("at the last end"), "{error}");
    fs::remove_dir(&path).unwrap();
    Store::open(&database, Durability::Process).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told_from_a_broken_one() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("gateway.db");
    let [path, _] = paths(&database);
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let log = IntentLog::beside(&database).unwrap();
    let error = log.note(&[&intent(1)], Timestamp::ZERO).unwrap_err();
    assert!(error.is_disk_full() && !error.is_io_failure(), "{error:?}");
    assert!(error.to_string().starts_with(&format!("cannot write {}: ", path.display())), "{error}");
    assert!(log.is_empty() && log.all().is_empty());
    // What cannot be written for another reason.
    fs::remove_file(&path).unwrap();
    let mut turn = Turn::of(path).unwrap();
    turn.file = File::open(&turn.path).unwrap();
    let error = turn.append(&[&intent(1)]).map_err(|error| turn.failed(&error)).unwrap_err();
    assert!(error.is_io_failure() && !error.is_disk_full(), "{error:?}");
}
