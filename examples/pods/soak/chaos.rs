//! What dies, and when.

use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::watch::Watch;
use crate::chance::below;
use crate::fleet::Fleet;
use crate::topologies::{Shape, Topology};

/// What is done to a server.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    /// A master hands over to a replica, as for maintenance.
    FailOver,
    /// A server stops answering, and goes on later.
    Hang,
    /// A server is killed, and comes back empty.
    Kill,
}

/// Kills pods, all but one in turn by chance; returns how many.
pub async fn of_pods(fleet: &Fleet, watch: &Watch, spared: usize) -> Result<u32, Box<dyn Error>> {
    let mut killed = 0;
    while watch.pause(between(1_000, 3_000)).await {
        let others = u32::try_from(fleet.size() - 1)?;
        let pod = (spared + 1 + below(others) as usize) % fleet.size();
        watch.pod_is_killed();
        fleet.kill(pod)?;
        killed += 1;
        tokio::time::sleep(between(0, 300)).await;
        fleet.start_again(pod).await?;
    }
    Ok(killed)
}

/// Lets Redis servers fail, one at a time; returns what was done.
pub async fn of_redis(topology: Topology, watch: &Watch) -> Result<Vec<String>, Box<dyn Error>> {
    let topology = Arc::new(Mutex::new(topology));
    let mut done = Vec::new();
    while watch.pause(between(2_000, 4_000)).await {
        let shape = topology.lock().unwrap_or_else(PoisonError::into_inner).shape();
        // Each once, then by chance.
        let kind = u32::try_from(done.len()).ok().filter(|round| *round < 3);
        let trouble = match (shape, kind.unwrap_or_else(|| below(3))) {
            (_, 0) => Trouble::Kill,
            (Shape::Cluster | Shape::Sentinel, 1) => Trouble::FailOver,
            _ => Trouble::Hang,
        };
        let empties = shape == Shape::Single && matches!(trouble, Trouble::Kill);
        if empties {
            watch.store_is_empty();
        }
        let fails_over = shape != Shape::Single;
        if fails_over {
            watch.fail_over_begins();
        }
        let (topology, chance, hangs) = (topology.clone(), below(1_000), between(200, 4_000));
        let named = tokio::task::spawn_blocking(move || {
            let mut topology = topology.lock().unwrap_or_else(PoisonError::into_inner);
            make(trouble, &mut topology, chance as usize, hangs)
        });
        let named = named.await??;
        if fails_over {
            watch.fail_over_ends();
        }
        if empties {
            watch.store_is_empty();
            watch.count(|tally| tally.emptied += 1);
        }
        done.push(named);
    }
    Ok(done)
}

/// Makes trouble, and waits until all is well again.
fn make(
    trouble: Trouble,
    topology: &mut Topology,
    chance: usize,
    hangs: Duration,
) -> io::Result<String> {
    let masters = topology.masters();
    // A master more often than not.
    let number = match masters.get(chance % (masters.len() + 1)) {
        Some(master) => *master,
        None => chance % topology.size(),
    };
    let is_master = masters.contains(&number);
    let who = if is_master { "master" } else { "replica" };
    match trouble {
        Trouble::FailOver => topology.fail_over()?,
        Trouble::Hang => {
            topology.hang(number)?;
            // At times it is back before anybody takes over.
            std::thread::sleep(hangs);
            topology.resume(number)?;
        }
        Trouble::Kill => {
            topology.kill(number);
            match topology.shape() {
                // Started before it is replaced, it would hand its emptiness on.
                Shape::Cluster | Shape::Sentinel if is_master => {
                    topology.wait_until_replaced(number)?;
                }
                _ => std::thread::sleep(hangs / 6),
            }
            topology.start_again(number)?;
        }
    }
    topology.wait_until_healthy()?;
    Ok(match trouble {
        Trouble::FailOver => "hand-over".to_owned(),
        Trouble::Hang => format!("{who} hung"),
        Trouble::Kill => format!("{who} killed"),
    })
}

fn between(least: u32, most: u32) -> Duration {
    Duration::from_millis((least + below(most - least)).into())
}
