//! The outages: how each is made, how long it lasts, and how it ends.

use std::error::Error;
use std::time::Duration;

use tower_pkce_auth::testing::provider::{Behaviour, Endpoint};

use super::world::World;
use crate::topologies::Shape;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outage {
    ClusterMasterHung,
    ClusterMasterKilled,
    Emptied,
    Evicting,
    Full,
    HandOver,
    Hung,
    MarksEmptied,
    MasterHung,
    MasterKilled,
    PasswordRefused,
    PodKilled,
    ProviderDown,
    ProviderHalf,
    ProviderSlow,
    ReadOnly,
    ShardEmptied,
    Slow,
    Stopped,
}

/// What pods ask the provider for by themselves; people still reach its pages.
const FOR_PODS: [Endpoint; 5] = [
    Endpoint::Discovery,
    Endpoint::Jwks,
    Endpoint::Revocation,
    Endpoint::Token,
    Endpoint::Userinfo,
];
/// The delay of a slow Redis: three answers take longer than a pod waits for one.
const DELAY: Duration = Duration::from_millis(300);
const SLOW: Duration = Duration::from_secs(3);
/// In the middle of what an endpoint answers.
const CUT: usize = 300;

impl Outage {
    pub const BY_SHAPE: [(Shape, &'static [Self]); 3] = [
        (
            Shape::Single,
            &[
                Self::Stopped,
                Self::Hung,
                Self::Slow,
                Self::Full,
                Self::ReadOnly,
                Self::PasswordRefused,
                Self::Evicting,
                Self::Emptied,
                Self::ProviderDown,
                Self::ProviderSlow,
                Self::ProviderHalf,
                Self::PodKilled,
            ],
        ),
        (Shape::Sentinel, &[Self::MasterKilled, Self::MasterHung, Self::HandOver]),
        (
            Shape::Cluster,
            &[
                Self::ClusterMasterKilled,
                Self::ClusterMasterHung,
                Self::ShardEmptied,
                Self::MarksEmptied,
            ],
        ),
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::ClusterMasterHung => "Cluster: the master of the session hangs",
            Self::ClusterMasterKilled => "Cluster: the master of the session is killed",
            Self::Emptied => "Redis comes back with an empty database",
            Self::Evicting => "Redis has no memory left, and evicts",
            Self::Full => "Redis has no memory left (`noeviction`)",
            Self::HandOver => "Sentinel: the master hands over",
            Self::Hung => "Redis hangs",
            Self::MarksEmptied => "Cluster: the shard of the sign-outs is emptied",
            Self::MasterHung => "Sentinel: the master hangs",
            Self::MasterKilled => "Sentinel: the master is killed",
            Self::PasswordRefused => "Redis refuses the password",
            Self::PodKilled => "one of two pods is killed",
            Self::ProviderDown => "the provider closes connections without an answer",
            Self::ProviderHalf => "the provider's answers break off in the middle",
            Self::ProviderSlow => "the provider answers after 3 s",
            Self::ReadOnly => "Redis has become a replica of a server that is gone",
            Self::ShardEmptied => "Cluster: the shard of the session is emptied",
            Self::Slow => "Redis answers after 0.3 s",
            Self::Stopped => "Redis is stopped",
        }
    }

    /// How long it is looked at before it ends. A fail-over takes its own time beside.
    pub const fn lasts(self) -> Duration {
        Duration::from_millis(match self {
            Self::ProviderDown | Self::ProviderHalf | Self::ProviderSlow => 8_000,
            Self::ClusterMasterHung
            | Self::ClusterMasterKilled
            | Self::HandOver
            | Self::MasterHung
            | Self::MasterKilled => 0,
            Self::Emptied | Self::MarksEmptied | Self::ShardEmptied => 1_000,
            _ => 3_000,
        })
    }

    pub async fn begin(self, world: &mut World) -> Result<(), Box<dyn Error>> {
        match self {
            Self::PodKilled => {
                world.stored.kill(0)?;
                world.sealed.kill(0)?;
            }
            Self::ProviderDown => set(world, &Behaviour::Refuse),
            Self::ProviderHalf => world.to_provider.cut_after(CUT),
            Self::ProviderSlow => set(world, &Behaviour::Delay(SLOW)),
            Self::Slow => {
                if let Some(relay) = &world.relay {
                    relay.slow_down(DELAY);
                }
            }
            _ => {
                if self == Self::ShardEmptied {
                    world.sign_in_apart_from_marks().await?;
                }
                tokio::task::block_in_place(|| self.begin_at_redis(world))?;
            }
        }
        Ok(())
    }

    /// Tells whether it is the servers who end it.
    pub const fn is_fail_over(self) -> bool {
        matches!(
            self,
            Self::ClusterMasterHung
                | Self::ClusterMasterKilled
                | Self::HandOver
                | Self::MasterHung
                | Self::MasterKilled
        )
    }

    fn begin_at_redis(self, world: &mut World) -> Result<(), Box<dyn Error>> {
        let marks = world.keys("*{marks}*");
        let place = self.place(world, marks.first().map_or("", String::as_str));
        let place = place.ok_or("nobody has the key")?;
        let topology = &mut world.topology;
        let ask = |command: &[&str]| topology.node(place).ask(command).map(drop);
        match self {
            Self::ClusterMasterKilled | Self::MasterKilled | Self::Stopped => topology.kill(place),
            Self::ClusterMasterHung | Self::Hung | Self::MasterHung => topology.hang(place)?,
            Self::Emptied => {
                topology.kill(place);
                topology.start_again(place)?;
            }
            Self::Evicting => {
                ask(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"])?;
                ask(&["CONFIG", "SET", "maxmemory", "1"])?;
                // What is to be kept makes room for it.
                let _ = ask(&["SET", "more", "x"]);
            }
            Self::Full => ask(&["CONFIG", "SET", "maxmemory", "1"])?,
            Self::MarksEmptied | Self::ShardEmptied => ask(&["FLUSHALL"])?,
            Self::PasswordRefused => {
                ask(&["ACL", "SETUSER", "default", "resetpass", ">another"])?;
                ask(&["CLIENT", "KILL", "TYPE", "normal"])?;
            }
            Self::ReadOnly => ask(&["REPLICAOF", "127.0.0.1", "1"])?,
            _ => {}
        }
        Ok(())
    }

    /// The server that it happens to.
    fn place(self, world: &World, marks: &str) -> Option<usize> {
        match self {
            Self::ClusterMasterHung | Self::ClusterMasterKilled | Self::ShardEmptied => {
                world.topology.master_of(&world.session)
            }
            _ => world.topology.master_of(marks),
        }
    }

    pub async fn end(self, world: &mut World) -> Result<(), Box<dyn Error>> {
        match self {
            Self::PodKilled => {
                world.stored.start_again(0).await?;
                world.sealed.start_again(0).await?;
            }
            Self::ProviderDown | Self::ProviderSlow => world.provider.clear_faults(),
            Self::ProviderHalf => world.to_provider.cut_after(0),
            Self::Slow => {
                if let Some(relay) = &world.relay {
                    relay.slow_down(Duration::ZERO);
                }
            }
            _ => tokio::task::block_in_place(|| self.end_at_redis(world))?,
        }
        Ok(())
    }

    /// A fail-over ends when another server is master.
    fn end_at_redis(self, world: &mut World) -> Result<(), Box<dyn Error>> {
        let topology = &mut world.topology;
        let ask = |command: &[&str]| topology.node(0).ask(command).map(drop);
        match self {
            Self::Stopped => topology.start_again(0)?,
            Self::Hung => topology.resume(0)?,
            Self::Evicting | Self::Full => {
                ask(&["CONFIG", "SET", "maxmemory", "0"])?;
                ask(&["CONFIG", "SET", "maxmemory-policy", "noeviction"])?;
            }
            Self::ReadOnly => ask(&["REPLICAOF", "NO", "ONE"])?,
            Self::PasswordRefused => ask(&["ACL", "SETUSER", "default", "nopass"])?,
            Self::HandOver => topology.fail_over()?,
            Self::ClusterMasterHung
            | Self::ClusterMasterKilled
            | Self::MasterHung
            | Self::MasterKilled => {
                let away = (0..topology.size()).find(|node| !topology.node(*node).answers());
                topology.wait_until_replaced(away.ok_or("all servers answer")?)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Brings back what an outage has left lying.
    pub async fn clear_up(self, world: &mut World) -> Result<(), Box<dyn Error>> {
        let topology = &mut world.topology;
        let away = tokio::task::block_in_place(|| {
            (0..topology.size()).find(|node| !topology.node(*node).answers())
        });
        tokio::task::block_in_place(|| {
            match (self, away) {
                (Self::ClusterMasterHung | Self::MasterHung, Some(node)) => {
                    topology.resume(node)?
                }
                (_, Some(node)) => topology.start_again(node)?,
                (_, None) => {}
            }
            topology.wait_until_healthy()
        })?;
        Ok(())
    }
}

fn set(world: &World, behaviour: &Behaviour) {
    for endpoint in FOR_PODS {
        world.provider.set_behaviour(endpoint, behaviour.clone());
    }
}
