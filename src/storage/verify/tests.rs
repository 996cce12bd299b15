use diesel::connection::SimpleConnection;

use super::*;
use crate::domain::usage::{Charge, Usage};
use crate::settings::model::Durability;
use crate::storage::ledger::LedgerEntry;
use crate::storage::samples::{attempt, intent, settled, settlement};

fn open(folder: &tempfile::TempDir) -> Store {
    Store::open(&folder.path().join("gateway.db"), Durability::Process).unwrap()
}

fn broken(verdict: &Verdict) -> Vec<(&str, &[String])> {
    let rules = verdict.rules.iter().filter(|rule| !rule.broken.is_empty());
    rules.map(|rule| (rule.name, rule.broken.as_slice())).collect()
}

fn damage(store: &Store, damage: &str) {
    store
        .writer()
        .unwrap()
        .batch_execute(&format!("PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON; {damage}"))
        .unwrap();
}

/// Two requests: one settled, one open.
#[track_caller]
fn check(statement: &str, expected: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let batch = vec![settled(&intent(1), 5), LedgerEntry::Intent(intent(2))];
    store.journal().unwrap().append(&[batch]).unwrap();
    store.show_open().unwrap();
    damage(&store, statement);
    let verdict = store.verify().unwrap();
    let names: Vec<_> = broken(&verdict).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, expected, "{verdict:#?}");
    assert_eq!((verdict.requests, verdict.open, verdict.gateway_running), (2, 1, true));
    format!("{:?}", broken(&verdict))
}

#[test]
fn every_kind_of_damage_is_found_and_told() {
    check("", &[]);
    check("UPDATE requests SET started_at = 1 WHERE state = 'open'", &["recovered"]);
    let told = check("UPDATE requests SET output_tokens = 6 WHERE state = 'settled'", &["roll-ups", "chain"]);
    assert!(told.contains("minus its rows is 0 requests, 0 + -1 tokens"), "{told}");
    assert!(told.contains("rows 1 to 1: req_00000000000000000000000000000001"), "{told}");
    check("UPDATE usage_hourly SET resource = 'x'", &["roll-ups"]);
    check("UPDATE usage_hourly SET flat_cost = 1", &["roll-ups"]);
    check("UPDATE usage_hourly SET audio_output_tokens = 1", &["roll-ups"]);
    check("UPDATE requests SET audio_input_tokens = 1 WHERE state = 'settled'", &["roll-ups", "chain"]);
    check("UPDATE requests SET flat_cost = 1 WHERE state = 'settled'", &["flat cost", "roll-ups", "chain"]);
    let told = check("UPDATE requests SET status = NULL", &["closed once", "chain"]);
    assert!(told.contains("is settled with status none"), "{told}");
    let told = check("UPDATE requests SET attempts = 3 WHERE state = 'settled'", &["attempts", "chain"]);
    assert!(told.contains("counts 3 attempts, and 0 are filed"), "{told}");
    let told = check("UPDATE requests SET charge = 'none' WHERE state = 'settled'", &["charged once", "chain"]);
    assert!(told.contains("is charged 10 + 5 tokens, and none of its 1 attempts was billed that"), "{told}");
    check("UPDATE requests SET attempts = 0 WHERE state = 'settled'", &["charged once", "chain"]);
    check("UPDATE requests SET estimated = 1 WHERE state = 'settled'", &["estimates", "roll-ups", "chain"]);
    check("UPDATE requests SET cost = -1 WHERE state = 'settled'", &["file", "not negative", "roll-ups", "chain"]);
    let orphan = "INSERT INTO attempts VALUES (x'00000000000000000000000000000009', 0, 'r', 'd', 200, 'served', 1, \
                  0, 0, 0, 0, 'none', NULL, 0, 0)";
    check(orphan, &["references"]);
}

/// Thirty requests in three groups, one of them with an attempt beside it, in two chains.
fn three_groups(store: &Store) {
    let group = |from: u128| -> Vec<_> { (from..from + 10).map(|n| settled(&intent(n), 5)).collect() };
    let mut journal = store.journal().unwrap();
    journal.append(&[group(1)]).unwrap();
    let (with_two, mut end) = (intent(11), settlement(5));
    end.attempts.insert(0, attempt("westus", Usage::default(), Charge::None));
    let second = vec![LedgerEntry::Settled(with_two, Box::new(end))].into_iter().chain(group(12)).take(10);
    journal.append(&[second.collect()]).unwrap();
    journal.close().unwrap();
    store.journal().unwrap().append(&[group(21)]).unwrap();
}

/// What the chain says of damage that every other rule is silent about.
#[track_caller]
fn chain_says(statement: &str, expected: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    three_groups(&store);
    assert!(store.verify().unwrap().holds(), "{:#?}", store.verify());
    damage(&store, statement);
    let verdict = store.verify().unwrap();
    let told = broken(&verdict).into_iter().find(|(name, _)| *name == "chain").map(|(_, told)| told.to_vec());
    let told = told.unwrap_or_default();
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for (told, expected) in told.iter().zip(expected) {
        assert!(told.contains(expected), "{told}");
    }
}

const ID: &str = "0000000000000000000000000000";

#[test]
fn edits_deletions_and_additions_break_the_chain_where_they_are() {
    let at = |n: u128| format!("WHERE id = x'{ID}{n:04x}'");
    let edited = format!("UPDATE requests SET model = 'gpt-4.1' {}", at(4));
    chain_says(&edited, &["chain 1, rows 1 to 10: req_00000000000000000000000000000001 to"]);
    chain_says("UPDATE attempts SET resource = 'eastus'", &["chain 1, rows 11 to 20"]);
    chain_says("UPDATE attempts SET audio_input_tokens = 1", &["chain 1, rows 11 to 20"]);
    chain_says("DELETE FROM attempts", &["chain 1, rows 11 to 20"]);
    chain_says(&format!("DELETE FROM requests {}", at(4)), &["chain 1, rows 4 to 4 are missing before req_"]);
    chain_says(&format!("DELETE FROM requests {}", at(20)), &["what came after row 19", "knows of row 20"]);
    chain_says(&format!("DELETE FROM requests {}", at(30)), &["what came after row 9"]);
    // A chain's tail, and all of a chain.
    let tail = format!("DELETE FROM attempts; DELETE FROM requests WHERE id > x'{ID}000a' AND id < x'{ID}0015'");
    chain_says(&tail, &["chain 1 ends at row 10, and the head that was noted and the chain after it knows of row 20"]);
    chain_says(
        "DELETE FROM chains WHERE number = 1",
        &["chain 1 is not there", "is said to be in chain 1", "", "", "", "and 16 more"],
    );
    // A row more, outside of every chain, and a row that was taken out of its chain.
    let copy = "INSERT INTO requests SELECT x'00000000000000000000000000000100', request_id, key_id, user_id, endpoint, \
                model, stream, (SELECT began FROM chains WHERE number = 1), state, status, estimated, input_tokens, \
                cached_input_tokens, output_tokens, reasoning_tokens, cost, ttfb_us, duration_us, attempts, resource, \
                deployment, attempt_status, reason, attempt_us, charge, upstream_id, flat_cost, price_version, NULL, \
                NULL, audio_input_tokens, audio_output_tokens \
                FROM requests WHERE id = x'00000000000000000000000000000001'";
    chain_says(copy, &["req_00000000000000000000000000000100 is in no chain, and began while one was written"]);
    let cut = format!("UPDATE requests SET chained = NULL {}", at(4));
    chain_says(&cut, &["chain 1, rows 4 to 4 are missing before"]);
}

#[test]
fn an_older_copy_is_known_by_the_head_that_someone_remembers() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    store.journal().unwrap().append(&[vec![settled(&intent(40), 1)]]).unwrap();
    let copy = folder.path().join("copy.db");
    store.writer().unwrap().batch_execute(&format!("VACUUM INTO '{}'", copy.display())).unwrap();
    let then: Anchor = store.verify().unwrap().head.unwrap().parse().unwrap();
    let mut journal = store.journal().unwrap();
    let head = journal.append(&[vec![settled(&intent(41), 1), settled(&intent(42), 1)]]).unwrap().unwrap();
    let now = Anchor::from(head);
    assert_eq!(store.verify().unwrap().head.as_deref(), Some(now.to_string().as_str()));
    assert!(store.verify_against(Some(now)).unwrap().holds() && store.verify_against(Some(then)).unwrap().holds());

    let copy = Store::existing(&copy, Durability::Process).unwrap();
    assert!(copy.verify().unwrap().holds() && copy.verify_against(Some(then)).unwrap().holds());
    let verdict = copy.verify_against(Some(now)).unwrap();
    assert!(format!("{:?}", broken(&verdict)).contains("older copy"), "{verdict:#?}");
    // The older copy is served and goes another way.
    copy.journal().unwrap().append(&[vec![settled(&intent(51), 7), settled(&intent(52), 7)]]).unwrap();
    let verdict = copy.verify_against(Some(now)).unwrap();
    let told = format!("{:?}", broken(&verdict));
    assert!(told.contains("chain 2, row 2: the head that was given says otherwise"), "{told}");
    for nonsense in ["", "1:2", "1:2:x", "0:1:1", "1:-1:1", "1:2:3:4"] {
        assert_eq!(nonsense.parse::<Anchor>(), Err(InvalidAnchor), "{nonsense}");
    }
}

/// I12: a request of two attempts, of which the last stands beside it because the caller does not pay for that one.
#[test]
fn a_caller_pays_for_one_attempt_that_was_billed() {
    let says = |damage_done: &str| -> Vec<&'static str> {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder);
        let mut end = settlement(5);
        let rival = attempt("westus", Usage { input_tokens: 3, ..Usage::default() }, Charge::Ambiguous);
        end.attempts.push(rival);
        let batch = vec![LedgerEntry::Settled(intent(1), Box::new(end)), settled(&intent(2), 0)];
        store.journal().unwrap().append(&[batch]).unwrap();
        damage(&store, damage_done);
        let verdict = store.verify().unwrap();
        let names = verdict.rules.iter().filter(|rule| !rule.broken.is_empty()).map(|rule| rule.name);
        names.filter(|name| *name != "chain" && *name != "roll-ups").collect()
    };
    assert_eq!(says(""), [""; 0]);
    // For both attempts, for the rival, for what nobody was billed, for more than was billed, for other tokens.
    for damage_done in [
        "UPDATE requests SET input_tokens = 13 WHERE attempts = 2",
        "UPDATE attempts SET charge = 'none' WHERE n = 0",
        "UPDATE attempts SET output_tokens = 4 WHERE n = 0",
        "UPDATE requests SET audio_output_tokens = 1 WHERE attempts = 2",
        "UPDATE attempts SET cached_input_tokens = 1 WHERE n = 0",
    ] {
        assert_eq!(says(damage_done), ["charged once"], "{damage_done}");
    }
    // Nothing for nothing, and the rival alone, are no mistake of this kind.
    assert_eq!(
        says("UPDATE requests SET charge = 'none', estimated = 0, input_tokens = 0 WHERE attempts = 1"),
        [""; 0]
    );
    assert_eq!(says("UPDATE requests SET input_tokens = 3, output_tokens = 0 WHERE attempts = 2"), [""; 0]);
}

/// As any answer may report its parts, also one whose parts are larger than the whole.
#[test]
fn a_request_costs_what_its_tokens_cost() {
    use crate::domain::money::Price;
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let plain = Price::of(3, 1, 7);
    let whole = Price { reasoning: Some(11), audio_input: Some(13), audio_output: Some(17), ..plain };
    let mut batch = Vec::new();
    for n in 0..64_u32 {
        let usage = Usage {
            input_tokens: 100,
            cached_input_tokens: n * 7 % 130,
            output_tokens: 50,
            reasoning_tokens: n * 5 % 60,
            audio_input_tokens: n * 11 % 120,
            audio_output_tokens: n * 3 % 55,
        };
        let price = if n % 2 == 0 { plain } else { whole };
        let mut end = settlement(0);
        (end.usage, end.cost, end.price_version) = (usage, price.cost(usage), Some(price.version()));
        end.attempts[0].usage = usage;
        batch.push(LedgerEntry::Settled(intent(u128::from(n) + 1), Box::new(end)));
    }
    store.journal().unwrap().append(&[batch]).unwrap();
    store.file_prices(&[plain, whole]).unwrap();
    assert!(store.verify().unwrap().holds(), "{:#?}", store.verify().unwrap());
    damage(&store, "UPDATE requests SET audio_input_tokens = audio_input_tokens + 1 WHERE audio_input_tokens = 11");
    let verdict = store.verify().unwrap();
    let told = broken(&verdict);
    let prices = told.iter().find(|(name, _)| *name == "prices").unwrap();
    assert!(prices.1.len() == 1 && prices.1[0].contains("picodollars, and its tokens cost "), "{told:#?}");
}

/// What the first version with chains wrote, which hashed less of a row, in a database that was updated since.
fn of_the_first_format(folder: &tempfile::TempDir) -> Store {
    let store = open(folder);
    store.writer().unwrap().batch_execute(include_str!("../../../tests/fixtures/ledger/first-chains.sql")).unwrap();
    store
}

#[test]
fn chains_of_an_older_format_are_checked_by_what_they_were_made_of() {
    let folder = tempfile::tempdir().unwrap();
    let store = of_the_first_format(&folder);
    let verdict = store.verify().unwrap();
    assert!(verdict.holds() && verdict.requests == 6 && verdict.unchained == 0, "{verdict:#?}");
    assert_eq!(verdict.head.as_deref(), Some("2:3:236570616525136"), "as the version that wrote them said");
    // This version goes on in a chain of its own, which follows the old one.
    store.journal().unwrap().append(&[vec![settled(&intent(1), 5), settled(&intent(2), 5)]]).unwrap();
    let verdict = store.verify().unwrap();
    assert!(verdict.holds() && verdict.requests == 8, "{verdict:#?}");
    damage(&store, "UPDATE requests SET upstream_id = 'x' WHERE chained = (SELECT MIN(chained) FROM requests)");
    let told = format!("{:?}", broken(&store.verify().unwrap()));
    assert!(told.contains("chain 1, rows 1 to 1: req_01a200942454739381cdb4d4b0268e8e"), "{told}");
}

#[test]
fn a_format_is_not_taken_for_another() {
    let old = |damage_done: &str| {
        let folder = tempfile::tempdir().unwrap();
        let store = of_the_first_format(&folder);
        damage(&store, damage_done);
        format!("{:?}", broken(&store.verify().unwrap()))
    };
    let told = old("UPDATE chains SET format = 2 WHERE number = 1");
    assert!(told.contains("chain 1 does not begin as its own record says") && told.contains("chain 1, rows 1 to 1"));
    chain_says(
        "UPDATE chains SET format = 1 WHERE number = 2",
        &["chain 2 does not begin as its own record says", "chain 2, rows 1 to 10"],
    );
}

/// As an older version finds it: it says that it does not know, and not that somebody changed something.
#[test]
fn a_chain_of_a_later_version_is_told_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    three_groups(&store);
    // Its rows have other hashes than this version would make.
    damage(
        &store,
        "UPDATE chains SET format = 3, base = randomblob(32), head_row = 0, head = base WHERE number = 2;
         UPDATE chains SET head = base WHERE number = 2;
         UPDATE requests SET chain = randomblob(32) WHERE chain IS NOT NULL AND chained >> 40 = 2",
    );
    let verdict = store.verify().unwrap();
    let told = broken(&verdict);
    assert_eq!((told.len(), told[0].0, told[0].1.len()), (1, "chain formats", 1), "{told:#?}");
    assert!(told[0].1[0].contains("chain 2 is of format 3, which a later version began"), "{told:#?}");
    // That something is missing, it sees all the same.
    damage(&store, &format!("DELETE FROM requests WHERE id = x'{ID}{:04x}'", 25));
    let told = format!("{:?}", broken(&store.verify().unwrap()));
    assert!(told.contains("chain 2, rows 5 to 5 are missing before"), "{told}");
    // It goes on in a chain of its own.
    store.journal().unwrap().append(&[vec![settled(&intent(99), 1)]]).unwrap();
    let told = format!("{:?}", broken(&store.verify().unwrap()));
    assert!(!told.contains("chain 3"), "{told}");
}

#[test]
fn rows_of_before_the_chain_are_counted_and_no_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    three_groups(&store);
    damage(&store, "UPDATE requests SET chained = NULL, chain = NULL; DELETE FROM chains");
    store.journal().unwrap().append(&[vec![settled(&intent(99), 1)]]).unwrap();
    let verdict = store.verify().unwrap();
    assert!(verdict.holds(), "{verdict:#?}");
    assert_eq!((verdict.unchained, verdict.requests), (30, 31));
}
