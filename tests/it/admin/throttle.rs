//! Wrong admin keys from one address.

use super::{ask, gateway, models};
use crate::support::gateway::ADMIN_KEY;

#[test]
fn who_guesses_has_to_wait_and_callers_do_not() {
    let gateway = gateway();
    let ask = |key: &str| ask(&gateway, key, "GET", "/keys", "", "");
    // No key and a key of the other plane are no guesses.
    for _ in 0..40 {
        assert_eq!((ask("").status, ask(&gateway.key).status), (401, 401));
    }
    ask(ADMIN_KEY).expect(200);
    let mut wrong = 0;
    let refused = loop {
        let answer = ask(&format!("a-wrong-guess-{wrong}"));
        if answer.status != 401 {
            break answer;
        }
        wrong += 1;
        assert!(wrong < 100, "it goes on for ever");
    };
    assert!(wrong >= 20, "{wrong}");
    let refused = refused.expect(429);
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=3).contains(&wait), "{wait}");
    assert!(refused.text().contains("wrong admin keys"));
    // Nothing is compared meanwhile, not even the right one; callers are not concerned.
    assert!(matches!(ask(ADMIN_KEY).status, 200 | 429));
    assert_eq!(models(&gateway, &gateway.key), 200);
    crate::support::gateway::eventually(|| match ask(ADMIN_KEY).status {
        200 => Ok(()),
        status => Err(format!("{status}: the wait does not end")),
    });
}
