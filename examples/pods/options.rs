//! The command line.

use std::str::FromStr;

use clap::Parser;
use clap::value_parser;

/// Signs people in on several pods behind a random balancer, and prints what became of it.
///
/// Every pod is a process of its own; every request goes to a pod by chance. The provider lives in
/// this process and counts how often each code is redeemed. Each line of the table is a real run.
/// The exit code is 1 if one of them misses what is wanted.
#[derive(Debug, Parser)]
#[command(name = "pods", disable_help_subcommand = true)]
pub struct Options {
    /// How many people sign in in each run.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = value_parser!(u32).range(1..=10_000))]
    pub logins: u32,
    /// How many pods there are.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = value_parser!(u16).range(2..=32))]
    pub pods: u16,
    /// Where logins are kept: `memory`, `sealed` or a `redis://` or `rediss://` URL. Repeatable.
    /// Left out: all three, with a `redis-server` of this machine started for the run.
    #[arg(long, value_name = "STORE")]
    pub store: Vec<StoreChoice>,
    /// Runs one pod; the parent starts its pods so.
    #[arg(long, hide = true)]
    pub pod: bool,
}

/// One `--store`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StoreChoice {
    Memory,
    Redis(String),
    Sealed,
}

impl FromStr for StoreChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "memory" => Ok(Self::Memory),
            "sealed" => Ok(Self::Sealed),
            _ if text.starts_with("redis://") || text.starts_with("rediss://") => {
                Ok(Self::Redis(text.to_owned()))
            }
            _ => Err("it is `memory`, `sealed`, or begins with redis:// or rediss://".to_owned()),
        }
    }
}
