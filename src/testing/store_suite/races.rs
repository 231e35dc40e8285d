//! What must hold while many act at once, and when some of them go away.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Barrier;

use super::{LONG, SHORT, bytes, key};
use crate::store::{Key, Store, StoreFuture};

/// How often a race is run: a store that is wrong loses some of them.
const ROUNDS: usize = 20;
/// How many run.
const RUNNERS: u8 = 8;

/// Calls the store from tasks of their own, all at once; returns the answers in order.
async fn race<T: Send + 'static>(
    store: &Arc<dyn Store>,
    call: impl Fn(&dyn Store, u8) -> StoreFuture<T> + Clone + Send + 'static,
) -> Vec<T> {
    let barrier = Arc::new(Barrier::new(RUNNERS.into()));
    let start = |n| {
        let (store, call, barrier) = (store.clone(), call.clone(), barrier.clone());
        tokio::spawn(async move {
            barrier.wait().await;
            call(&*store, n).await.expect("a race is no trouble")
        })
    };
    let mut answers = Vec::new();
    for runner in (0..RUNNERS).map(start).collect::<Vec<_>>() {
        answers.push(runner.await.expect("a call does not panic"));
    }
    answers
}

fn wins(answers: &[bool]) -> usize {
    answers.iter().filter(|won| **won).count()
}

pub(super) async fn one_of_many_wins(store: &Arc<dyn Store>) {
    for _ in 0..ROUNDS {
        let key = key();
        let it = key.clone();
        let inserts = race(store, move |store, n| store.insert(&it, vec![n].into(), LONG)).await;
        assert_eq!(wins(&inserts), 1, "of many inserts at once one writes");
        let old = store.load(&key).await.unwrap().expect("the winner's value");
        assert!(inserts[usize::from(old[0])], "it is the winner's");

        let (it, from) = (key.clone(), old.clone());
        let swap = move |store: &dyn Store, n| store.swap(&it, &from, vec![100 + n].into(), LONG);
        let swaps = race(store, swap).await;
        assert_eq!(wins(&swaps), 1, "of many swaps at once one writes");
        let old = store.load(&key).await.unwrap().expect("the winner's value");
        assert!(swaps[usize::from(old[0] - 100)], "it is the winner's");

        let (it, from) = (key.clone(), old);
        let removals = race(store, move |store, _| store.remove_if(&it, &from)).await;
        assert_eq!(wins(&removals), 1, "of many removals at once one removes");

        store.insert(&key, bytes("a"), LONG).await.unwrap();
        let it = key.clone();
        let taken = race(store, move |store, _| store.take(&it)).await;
        assert_eq!(taken.iter().flatten().count(), 1, "of many takes at once one has the value");
        assert_eq!(store.load(&key).await.unwrap(), None, "and it is gone");
    }
}

/// Takes, removals and swaps of one value at once: it goes to one of them.
pub(super) async fn a_value_goes_once(store: &Arc<dyn Store>) {
    for _ in 0..ROUNDS {
        let key = key();
        store.insert(&key, bytes("a"), LONG).await.unwrap();
        let it = key.clone();
        let call = move |store: &dyn Store, n: u8| match n % 3 {
            0 => store.take(&it),
            1 => value_if(store.remove_if(&it, &bytes("a")), "a"),
            _ => value_if(store.swap(&it, &bytes("a"), bytes("b"), LONG), "a"),
        };
        let gone: Vec<_> = race(store, call).await.into_iter().flatten().collect();
        let first = gone.iter().filter(|value| **value == "a").count();
        assert_eq!(first, 1, "a value goes to one take, removal or swap");
        // What a swap left can be taken, once.
        let rest = store.take(&key).await.unwrap();
        let second = gone.iter().chain(&rest).filter(|value| **value == "b").count();
        assert!(second <= 1, "what a swap left goes once");
    }
}

fn value_if(answer: StoreFuture<bool>, value: &'static str) -> StoreFuture<Option<Bytes>> {
    StoreFuture::new(async move { Ok(answer.await?.then(|| bytes(value))) })
}

/// Many raise one number by `load` and `swap`, as sign-outs raise their counter.
pub(super) async fn no_raise_is_lost(store: &Arc<dyn Store>) {
    const RAISES: u32 = 10;
    let key = key();
    store.insert(&key, Bytes::copy_from_slice(&0u32.to_be_bytes()), LONG).await.unwrap();
    let raise = |_| {
        let (store, key) = (store.clone(), key.clone());
        tokio::spawn(async move {
            for _ in 0..RAISES {
                loop {
                    let old = store.load(&key).await.unwrap().expect("nobody removes it");
                    let next = number(&old) + 1;
                    let next = Bytes::copy_from_slice(&next.to_be_bytes());
                    if store.swap(&key, &old, next, LONG).await.unwrap() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            }
        })
    };
    for runner in (0..RUNNERS).map(raise).collect::<Vec<_>>() {
        runner.await.expect("a call does not panic");
    }
    let reached = number(&store.load(&key).await.unwrap().expect("nobody removes it"));
    assert_eq!(reached, u32::from(RUNNERS) * RAISES, "no swap overwrites another's");
}

fn number(value: &[u8]) -> u32 {
    u32::from_be_bytes(value.try_into().expect("the value is whole"))
}

pub(super) async fn one_insert_writes_over_what_is_expired(
    store: &Arc<dyn Store>,
    pass: &impl AsyncFn(Duration),
) {
    let keys: Vec<Key> = (0..ROUNDS).map(|_| key()).collect();
    for key in &keys {
        store.insert(key, bytes("old"), SHORT).await.unwrap();
    }
    pass(SHORT + SHORT).await;
    for key in keys {
        let it = key.clone();
        let call = move |store: &dyn Store, n: u8| match n {
            0 => store.remove_if(&it, &bytes("old")),
            1 => store.swap(&it, &bytes("old"), bytes("swapped"), LONG),
            _ => store.insert(&it, vec![n].into(), LONG),
        };
        let answers = race(store, call).await;
        assert_eq!(answers[..2], [false, false], "what is expired is not removed or swapped");
        assert_eq!(wins(&answers), 1, "of many inserts over an expired value one writes");
        let value = store.load(&key).await.unwrap().expect("the winner's value lives");
        assert!(value.len() == 1 && answers[usize::from(value[0])], "it is the winner's");
    }
}

/// A load that begins after a write was answered sees it, from wherever it comes.
pub(super) async fn what_was_acknowledged_is_seen(store: &Arc<dyn Store>) {
    for _ in 0..ROUNDS {
        let key = key();
        let seen = async |expected: Option<Bytes>, after: &str| {
            let it = key.clone();
            for found in race(store, move |store, _| store.load(&it)).await {
                assert_eq!(found, expected, "after {after}");
            }
        };
        store.insert(&key, bytes("a"), LONG).await.unwrap();
        seen(Some(bytes("a")), "an insert").await;
        store.swap(&key, &bytes("a"), bytes("b"), LONG).await.unwrap();
        seen(Some(bytes("b")), "a swap").await;
        store.take(&key).await.unwrap();
        seen(None, "a take").await;
        store.insert(&key, bytes("c"), LONG).await.unwrap();
        store.remove_if(&key, &bytes("c")).await.unwrap();
        seen(None, "a removal").await;
    }
}

/// More than a pool has connections: they wait for one another and do not fail.
pub(super) async fn many_keys_at_once(store: &Arc<dyn Store>) {
    let call = |n: u32| {
        let (store, key) = (store.clone(), key());
        tokio::spawn(async move {
            let value = Bytes::copy_from_slice(&n.to_be_bytes());
            assert!(store.insert(&key, value.clone(), LONG).await.unwrap(), "a key of its own");
            assert_eq!(store.take(&key).await.unwrap(), Some(value), "has a value of its own");
        })
    };
    for runner in (0..200).map(call).collect::<Vec<_>>() {
        runner.await.expect("a call among many succeeds");
    }
}

/// Whoever gives a call up leaves the value whole, and neither a lock nor a connection behind.
pub(super) async fn futures_may_be_dropped(store: &Arc<dyn Store>) {
    let done = tokio::time::timeout(Duration::from_secs(60), give_many_up(store)).await;
    assert!(done.is_ok(), "calls that were given up keep neither a lock nor a connection");
}

async fn give_many_up(store: &Arc<dyn Store>) {
    for round in 0..4 * ROUNDS {
        let polls = round % 4;
        let (absent, kept) = (key(), key());
        store.insert(&kept, bytes("a"), LONG).await.unwrap();
        give_up(store.insert(&absent, bytes("a"), LONG), polls).await;
        give_up(store.load(&kept), polls).await;
        give_up(store.swap(&kept, &bytes("a"), bytes("b"), LONG), polls).await;
        let values = [Some(bytes("a")), Some(bytes("b"))];
        assert!(values.contains(&store.load(&kept).await.unwrap()), "a swap is whole or not");
        let values = [None, Some(bytes("a"))];
        assert!(values.contains(&store.load(&absent).await.unwrap()), "an insert is whole or not");
        give_up(store.remove_if(&kept, &bytes("b")), polls).await;
        give_up(store.take(&kept), polls).await;
    }
    let (polled, unpolled) = (key(), key());
    let answer = poll_once(Pin::new(&mut store.insert(&polled, bytes("a"), LONG)));
    if answer.is_pending() {
        drop(store.insert(&unpolled, bytes("a"), LONG));
        store.load(&polled).await.unwrap();
        let found = store.load(&unpolled).await.unwrap();
        assert_eq!(found, None, "what is not done at once and was never polled is not done");
    }
}

/// Polls a future so many times, some moments apart, and drops it.
async fn give_up<T>(mut future: StoreFuture<T>, polls: usize) {
    for _ in 0..polls {
        if poll_once(Pin::new(&mut future)).is_ready() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

fn poll_once<T>(future: Pin<&mut StoreFuture<T>>) -> Poll<<StoreFuture<T> as Future>::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}
