//! A soak: people come and go while pods and Redis die by chance, for as long as one likes.
//!
//! 1. Servers of one shape start, the pods, and everybody signs in.
//! 2. Each person asks for pages, one after another, and signs out now and then. What is answered is
//!    held against who asked ([`people`]).
//! 3. Pods are killed and started all the while; one of them never, to see whether its memory grows.
//!    A Redis server is killed, hung, or has to hand over, one at a time ([`chaos`]).
//! 4. The clock of pods and provider runs ten times as fast, so that sessions fall due each six
//!    seconds.
//! 5. In the end the [`report`] says what must not have happened, and how often it did.
//!
//! Redis copies to replicas behind the back of whoever writes, so that a fail-over may lose what was
//! written in its last moment. A login or a refresh that was lost so is counted by itself, and so
//! is a sign-out: it is written again while the pod that wrote it lives, and pods are killed here.

mod chaos;
mod memory;
mod people;
mod report;
mod watch;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tower_pkce_auth::testing::provider::{TestProvider, TestUser};

use self::memory::Memory;
use self::report::Report;
use self::watch::Watch;
use crate::fleet::{Fleet, Keeping};
use crate::pace::Pace;
use crate::topologies::{Shape, Topology};

/// How many people there are.
const PEOPLE: usize = 24;
const PODS: u16 = 3;
/// The pod that is never killed.
const WITNESS: usize = 0;
const PACE: u32 = 10;
/// The access tokens last a minute of the fast clock.
const TOKENS: Duration = Duration::from_secs(60);

/// Soaks each shape for so long, one after another. Returns whether all went well.
///
/// # Errors
///
/// If the parts cannot be started or ended.
pub async fn run(shapes: &[Shape], seconds: u32) -> Result<bool, Box<dyn Error>> {
    let mut good = true;
    for shape in shapes {
        let report = soak(*shape, Duration::from_secs(seconds.into())).await?;
        print!("{report}");
        good &= report.is_good();
    }
    Ok(good)
}

async fn soak(shape: Shape, time: Duration) -> Result<Report, Box<dyn Error>> {
    let pace = Pace::new(PACE);
    let provider = TestProvider::builder()
        .clock(Arc::new(pace))
        .refresh_tokens(true)
        .expires_in(TOKENS)
        .start()
        .await?;
    for number in 0..PEOPLE {
        provider.add_user(TestUser::new(people::name(number)));
    }
    let topology = tokio::task::block_in_place(|| Topology::start(shape))?;
    let keeping = Keeping { pace: Some(pace), ..Keeping::redis(&topology.url()) };
    let fleet = Fleet::start(&provider, PODS, &keeping).await?;
    let watch = Watch::new(&provider);

    let begun = Instant::now();
    let warm = time / 4;
    let measured = async {
        tokio::time::sleep_until(begun + warm).await;
        let before = Memory::of(&fleet, WITNESS);
        tokio::time::sleep_until(begun + time).await;
        watch.end();
        (before, Memory::of(&fleet, WITNESS))
    };
    let (memory, (), outages, killed, ()) = tokio::join!(
        measured,
        people::live(&fleet, &watch, PEOPLE),
        chaos::of_redis(topology, &watch),
        chaos::of_pods(&fleet, &watch, WITNESS),
        people::try_what_was_left(&watch),
    );
    let report = Report {
        shape,
        time: begun.elapsed(),
        tally: watch.tally(),
        outages: outages?,
        killed: killed?,
        memory,
        counts: provider.counts(),
    };
    fleet.end().await?;
    Ok(report)
}
