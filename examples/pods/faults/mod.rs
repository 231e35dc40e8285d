//! What people see when something is away, and when it is back: measured on real servers.
//!
//! 1. For each shape of Redis servers start, and two applications of two pods each: one keeps
//!    sessions in Redis, one seals them in cookies and keeps the marks of sign-outs there.
//! 2. Each [`Outage`] is made in turn. Somebody who is signed in at either application asks for a
//!    page all the while, and strangers sign in, one after another ([`probe`]).
//! 3. The outage ends, and all go on until each has been served. The table says what they saw and
//!    how long that took; nothing in it is written by hand.

mod outage;
mod page;
mod probe;
mod world;

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use self::outage::Outage;
use self::page::Row;
use self::probe::{Probe, Stage, Who};
use self::world::World;

/// Makes every outage, prints the table, and puts it into a page of the manual if one is named.
/// Returns whether everybody was served again, and nobody taken for somebody else.
///
/// # Errors
///
/// If the parts cannot be started or ended, or the page cannot be written.
pub async fn run(manual: Option<&Path>) -> Result<bool, Box<dyn Error>> {
    let mut rows = Vec::new();
    for (shape, outages) in Outage::BY_SHAPE {
        let mut world = World::start(shape).await?;
        for outage in outages {
            eprint!("{} ... ", outage.name());
            let begun = Instant::now();
            let row = make(*outage, &mut world).await?;
            eprintln!("{:.1} s", begun.elapsed().as_secs_f64());
            rows.push(row);
        }
        world.end().await?;
    }
    let table = page::table(&rows);
    print!("{table}");
    if let Some(path) = manual {
        page::write(path, &table)?;
    }
    Ok(rows.iter().all(Row::is_good))
}

async fn make(outage: Outage, world: &mut World) -> Result<Row, Box<dyn Error>> {
    world.sign_in().await?;
    outage.begin(world).await?;
    let (stage, seen_stage) = watch::channel(Stage::Away);
    let probes = [Who::Stored, Who::Sealed, Who::Stranger].map(|who| {
        let probe = Probe::new(who, world, seen_stage.clone());
        tokio::spawn(probe.run())
    });
    tokio::time::sleep(outage.lasts()).await;
    if !outage.is_fail_over() {
        stage.send_replace(Stage::Ending);
    }
    outage.end(world).await?;
    stage.send_replace(Stage::Over(Instant::now()));
    let mut seen = Vec::new();
    for probe in probes {
        seen.push(probe.await?);
    }
    outage.clear_up(world).await?;
    Ok(Row { outage, seen })
}

/// A guard: whoever is not served again after so long never is.
const PATIENCE: Duration = Duration::from_secs(20);
