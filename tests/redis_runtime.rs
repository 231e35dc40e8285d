//! `RedisStore` and the runtime it is used in: one that ends, and none at all. Nothing of it needs
//! a server; each case runs in a thread that a hang would not take along.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use tokio::runtime::Builder;
use tower_pkce_auth::{Key, RedisStore, Store as _};

const HANG: Duration = Duration::from_secs(20);

/// Runs something that must end.
fn ends<T: Send + 'static>(what: &str, act: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(act()));
    receiver.recv_timeout(HANG).unwrap_or_else(|error| panic!("{what}: {error}"))
}

fn nobody() -> (RedisStore, Key) {
    (RedisStore::new("redis://127.0.0.1:1").unwrap(), Key::new("a", "b", b"c"))
}

#[test]
fn a_call_that_begins_while_the_runtime_ends_does_not_hold_it_up() {
    ends("the runtime never ends", || {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (store, key) = nobody();
        let (began, begins) = mpsc::channel();
        runtime.spawn(async move {
            began.send(()).unwrap();
            // The runtime is being dropped by now, and waits for this poll.
            thread::sleep(Duration::from_millis(300));
            store.load(&key).await
        });
        begins.recv().unwrap();
        drop(runtime);
    });
}

#[test]
fn without_a_runtime_a_call_panics_and_the_next_one_works() {
    let (store, key) = nobody();
    let again = store.clone();
    let panics = ends("it hangs", move || {
        let mut call = store.load(&key);
        let mut context = Context::from_waker(Waker::noop());
        catch_unwind(AssertUnwindSafe(|| std::pin::Pin::new(&mut call).poll(&mut context))).is_err()
    });
    assert!(panics);
    ends("the next one hangs", move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let (_, key) = nobody();
        assert!(runtime.block_on(again.load(&key)).is_err(), "nobody is there");
    });
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let builder = || RedisStore::builder("rediss://localhost");
    for pem in [&b""[..], b"no certificate", include_bytes!("tls/server.key")] {
        let error = builder().ca_pem(pem).build().unwrap_err().to_string();
        assert!(error.starts_with("Redis CA file"), "{error}");
    }
    assert!(builder().ca_pem(include_bytes!("tls/ca.pem")).build().is_ok());
    assert!(builder().response_timeout(Duration::ZERO).build().is_err());
    assert!(builder().connect_timeout(Duration::ZERO).build().is_err());
}
