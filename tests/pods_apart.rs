//! Pods that differ, as they do while machines drift and releases roll out: clocks 60 s apart, key
//! rings one rotation apart. Every flow goes back and forth between them, and nobody is refused or
//! signed out.

#[path = "support/pods.rs"]
mod pods;
mod support;

use std::fmt;
use std::sync::Arc;

use axum::http::StatusCode;
use pods::{Kept, a_minute_later, assert_signed_out, at, minutes, seconds};
use support::{App, Browser, World};
use tower_pkce_auth::testing::TestClock;
use tower_pkce_auth::testing::provider::TestProvider;
use tower_pkce_auth::{Builder, Clock, CookieKeys, UnixTime};

const APART: u64 = 60;

/// Clocks that go with the world's, some seconds before or behind it.
#[derive(Debug)]
struct Drifted {
    clock: Arc<TestClock>,
    ahead: i64,
}

impl Clock for Drifted {
    fn now(&self) -> UnixTime {
        let now = self.clock.now().as_millis().cast_signed() + 1000 * self.ahead;
        UnixTime::from_millis(now.cast_unsigned())
    }

    fn monotonic(&self) -> std::time::Duration {
        self.clock.monotonic()
    }
}

/// Two pods and where somebody goes first.
struct Pair {
    name: String,
    kept: Kept,
    first: App,
    second: App,
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {:?}", self.name, self.kept)
    }
}

/// Every way of keeping sessions in which both pods know them, over one store.
fn pairs(
    world: &World,
    name: &str,
    first: impl Fn(Builder) -> Builder,
    second: impl Fn(Builder) -> Builder,
) -> Vec<Pair> {
    let pair = |kept: Kept| {
        let store = kept.store(world);
        let pod = |set: &dyn Fn(Builder) -> Builder| {
            let builder = set(kept.with(world.builder(), &store)).scope("offline_access");
            world.app(&builder.build().unwrap())
        };
        let (first, second) = (pod(&first), pod(&second));
        Pair { name: name.to_owned(), kept, first, second }
    };
    [Kept::Sealed, Kept::SealedShared, Kept::StoredShared].map(pair).into()
}

async fn clocks_apart() -> (World, Vec<Pair>) {
    let world =
        World::with_provider(TestProvider::builder().expires_in(seconds(600)).refresh_tokens(true))
            .await;
    let clock = |ahead: i64| {
        let clock = world.clock.clone();
        move |builder: Builder| builder.clock(Drifted { clock: clock.clone(), ahead })
    };
    let apart = APART.cast_signed();
    let mut all = Vec::new();
    for (name, first, second) in [
        ("the second is ahead", 0, apart),
        ("the first is ahead", apart, 0),
        ("the provider is behind both", apart, apart),
        ("the provider is ahead of both", -apart, -apart),
    ] {
        all.extend(pairs(&world, name, clock(first), clock(second)));
    }
    (world, all)
}

/// The roll-outs of a rotation: added last, moved first, dropped. Two neighbours meet.
async fn rings_apart() -> (World, Vec<Pair>) {
    use base64::Engine as _;

    let world =
        World::with_provider(TestProvider::builder().expires_in(seconds(600)).refresh_tokens(true))
            .await;
    let line = |byte: u8| base64::engine::general_purpose::STANDARD.encode([byte; 32]);
    let ring = |bytes: &'static [u8]| {
        let text = bytes.iter().map(|byte| line(*byte)).collect::<Vec<_>>().join("\n");
        move |builder: Builder| builder.cookie_keys(text.parse::<CookieKeys>().unwrap())
    };
    let mut all = Vec::new();
    for (name, old, new) in
        [("the new key is added", &[1][..], &[1, 2][..]), ("the new key seals", &[1, 2], &[2, 1])]
    {
        all.extend(pairs(&world, name, ring(old), ring(new)));
        all.extend(pairs(&world, &format!("{name}, the other way round"), ring(new), ring(old)));
    }
    (world, all)
}

async fn signed_in_over_both(world: &World, pair: &Pair, user: &str) -> Browser {
    // Begun here, finished there.
    let mut browser = world.browser(&pair.first, user);
    let callback = browser.to_callback("/deep").await;
    let mut browser = at(&pair.second, &browser);
    let reply = browser.get(&callback).await;
    assert_eq!(reply.status, StatusCode::SEE_OTHER, "{pair:?}: {}", reply.reason());
    assert_eq!(reply.location(), "/deep", "{pair:?}");
    a_minute_later(&mut browser);
    browser
}

async fn everything_goes_back_and_forth(world: &World, pair: &Pair) {
    let mut browser = signed_in_over_both(world, pair, "alice").await;
    // Used here and there for longer than it would live unused: each prolongs it for the other.
    for minute in 0..80 {
        let pod = if minute % 2 == 0 { &pair.first } else { &pair.second };
        browser = at(pod, &browser);
        assert_eq!(browser.who().await.as_deref(), Some("alice"), "{pair:?}, minute {minute}");
        world.clock.advance(minutes(1));
    }
    // Left alone, it ends on both.
    let mut idle = signed_in_over_both(world, pair, "bob").await;
    world.clock.advance(minutes(60) + seconds(2 * APART));
    for pod in [&pair.first, &pair.second] {
        assert_signed_out(&at(pod, &idle), &format!("{pair:?}: idle")).await;
    }
    idle = signed_in_over_both(world, pair, "bob").await;
    // Signed out there, it is over here, where the pods have a store in common.
    let copy = idle.clone();
    let mut leaving = at(&pair.second, &idle);
    leaving.post("/auth/logout").await;
    assert_signed_out(&at(&pair.second, &copy), &format!("{pair:?}: there")).await;
    if pair.kept != Kept::Sealed {
        assert_signed_out(&at(&pair.first, &copy), &format!("{pair:?}: here")).await;
    }
    // And who signs in again at once is signed in.
    let mut again = signed_in_over_both(world, pair, "bob").await;
    for pod in [&pair.first, &pair.second] {
        again = at(pod, &again);
        assert_eq!(again.who().await.as_deref(), Some("bob"), "{pair:?}: again");
    }
}

#[tokio::test]
async fn clocks_a_minute_apart_refuse_and_end_nothing() {
    let (world, pairs) = clocks_apart().await;
    for pair in &pairs {
        everything_goes_back_and_forth(&world, pair).await;
    }
    assert_eq!(world.provider.counts().double_redemptions, 0);
}

#[tokio::test]
async fn rings_a_rotation_apart_refuse_and_end_nothing() {
    let (world, pairs) = rings_apart().await;
    for pair in &pairs {
        everything_goes_back_and_forth(&world, pair).await;
    }
}

/// A dropped key that is still in use elsewhere ends what it sealed: the roll-out came too early.
#[tokio::test]
async fn a_ring_two_rotations_apart_asks_to_sign_in_and_lets_nobody_in() {
    let world = World::new().await;
    let (old, new) = (CookieKeys::random(), CookieKeys::random());
    let pods = pairs(
        &world,
        "nothing in common",
        |builder| builder.cookie_keys(old.clone()),
        |builder| builder.cookie_keys(new.clone()),
    );
    for pair in &pods {
        let mut browser = world.browser(&pair.first, "alice");
        assert_eq!(browser.sign_in("/").await.body, "alice");
        assert_signed_out(&at(&pair.second, &browser), &format!("{pair:?}")).await;
    }
}
