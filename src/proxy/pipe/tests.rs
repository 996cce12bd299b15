use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::rc::Rc;

use futures_util::FutureExt;

use super::*;

async fn next(reader: &mut Reader) -> Option<Result<Bytes, Cut>> {
    poll_fn(|cx| Pin::new(&mut *reader).poll_next(cx)).await
}

#[actix_rt::test]
async fn whole_answers_end_and_unfinished_ones_abort() {
    let mut reader = read(|writer| async move {
        writer.push(Bytes::from_static(b"a"));
        writer.finish();
    });
    assert_eq!(next(&mut reader).await.unwrap().unwrap(), "a");
    assert!(next(&mut reader).await.is_none());

    let mut reader = read(|writer| async move { writer.push(Bytes::from_static(b"b")) });
    assert_eq!(next(&mut reader).await.unwrap().unwrap(), "b");
    assert!(next(&mut reader).await.unwrap().is_err());
}

#[actix_rt::test]
async fn a_relay_may_read_another_and_its_own_words_stay_its_own() {
    let inner = |text: &'static [u8]| {
        read(move |writer| async move {
            writer.push(Bytes::from_static(text));
            writer.push(Bytes::from_static(text));
            writer.finish();
        })
    };
    let mut reader = read(|writer| async move {
        writer.push(Bytes::from_static(b"own"));
        let mut other = inner(b"other");
        while let Some(Ok(bytes)) = next(&mut other).await {
            writer.push(bytes);
        }
        writer.finish();
    });
    for expected in ["own", "other", "other"] {
        assert_eq!(next(&mut reader).await.unwrap().unwrap(), expected);
    }
    assert!(next(&mut reader).await.is_none());
}

#[actix_rt::test]
async fn a_relay_that_panics_leaves_nothing_for_another() {
    let mut reader = read(|writer| async move {
        writer.push(Bytes::from_static(b"lost"));
        writer.push(Bytes::from_static(b"lost"));
        writer.finish();
        panic!("on purpose");
    });
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| next(&mut reader).now_or_never()));
    assert!(panicked.is_err());
    let mut other = read(|_writer| async {});
    assert!(next(&mut other).await.unwrap().is_err(), "it has written nothing");
    std::mem::forget(reader);
}

#[actix_rt::test]
async fn what_a_relay_has_left_to_do_holds_up_nobody_and_is_done() {
    let (go, gone) = tokio::sync::oneshot::channel::<()>();
    let done = Rc::new(Cell::new(false));
    let noted = done.clone();
    let mut reader = read(|writer| async move {
        writer.push(Bytes::from_static(b"a"));
        writer.finish();
        gone.await.unwrap();
        noted.set(true);
    });
    assert_eq!(next(&mut reader).await.unwrap().unwrap(), "a");
    assert!(next(&mut reader).await.is_none());
    drop(reader);
    assert!(!done.get());
    go.send(()).unwrap();
    while !done.get() {
        tokio::task::yield_now().await;
    }
}

/// Of a relay that waits for its upstream before each chunk but the first `at_once`.
async fn reads_of(at_once: usize, chunks: usize) -> (usize, bool) {
    let (reads, was_behind) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
    let (counted, noted) = (reads.clone(), was_behind.clone());
    let mut reader = read(|writer| async move {
        for chunk in 0..chunks {
            poll_fn(|cx| writer.poll_room(cx)).await.unwrap();
            if chunk >= at_once {
                writer.waits_for_upstream();
            }
            counted.set(counted.get() + 1);
            writer.push(Bytes::from(vec![0; BACKLOG / 4]));
            noted.set(writer.was_behind());
        }
        pending().await
    });
    for taken in 1..=chunks {
        next(&mut reader).await.unwrap().unwrap();
        assert_eq!(reads.get(), taken, "the upstream is asked when the client asks");
    }
    assert!(next(&mut reader).now_or_never().is_none());
    (reads.get(), was_behind.get())
}

#[actix_rt::test]
async fn a_client_that_is_slower_than_the_upstream_is_known() {
    assert_eq!(reads_of(0, 8).await, (8, false));
    assert_eq!(reads_of(3, 8).await, (8, false));
    assert_eq!(reads_of(4, 8).await, (8, true));
}

#[actix_rt::test]
async fn a_client_who_leaves_is_noticed_and_so_is_a_shutdown() {
    let stopped = Rc::new(RefCell::new(Vec::new()));
    let start = || {
        let stopped = stopped.clone();
        read(|writer| async move {
            let stop = poll_fn(|cx| match writer.poll_room(cx) {
                Poll::Ready(Ok(())) => Poll::Pending,
                other => other,
            });
            let stop = stop.await;
            stopped.borrow_mut().push(stop);
        })
    };
    let mut leaving = start();
    assert!(next(&mut leaving).now_or_never().is_none());
    drop((leaving, start()));
    while stopped.borrow().len() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(stopped.take(), [Err(Stop::Gone), Err(Stop::Gone)]);

    let mut staying = start();
    assert!(next(&mut staying).now_or_never().is_none());
    cut_all();
    assert!(next(&mut staying).await.unwrap().is_err());
    assert_eq!(stopped.take(), [Err(Stop::ShuttingDown)]);
}
