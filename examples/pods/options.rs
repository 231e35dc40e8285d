//! The command line.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Parser;
use clap::value_parser;

use crate::topologies::Shape;

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
    /// Where logins are kept: `memory`, `sealed`, or a URL that begins with `redis` (also
    /// `redis+sentinel://` and `redis+cluster://`); or `redis`, `sentinel` or `cluster`: servers of
    /// this machine's `redis-server`, started for the run. Repeatable. Left out: memory, sealed and
    /// redis; for --soak redis, sentinel and cluster.
    #[arg(long, value_name = "STORE")]
    pub store: Vec<StoreChoice>,
    /// Makes every outage, and prints what people see in it as a table in Markdown.
    #[arg(long, conflicts_with_all = ["soak", "store", "logins", "pods"])]
    pub faults: bool,
    /// Puts that table into a page, between `<!-- faults -->` and `<!-- /faults -->`.
    #[arg(long, value_name = "FILE", requires = "faults")]
    pub write: Option<PathBuf>,
    /// Lets pods and Redis die by chance for so many seconds, with each store in turn.
    #[arg(long, value_name = "SECONDS", value_parser = value_parser!(u32).range(5..))]
    pub soak: Option<u32>,
    /// Runs one pod; the parent starts its pods so.
    #[arg(long, hide = true)]
    pub pod: bool,
}

/// One `--store`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StoreChoice {
    Memory,
    /// Servers of our own.
    Own(Shape),
    Redis(String),
    Sealed,
}

impl Options {
    /// The servers that are started for the run and may die in it.
    ///
    /// # Errors
    ///
    /// If something else was asked for.
    pub fn shapes(&self) -> Result<Vec<Shape>, &'static str> {
        if self.store.is_empty() {
            return Ok(vec![Shape::Single, Shape::Sentinel, Shape::Cluster]);
        }
        let shape = |choice: &StoreChoice| match choice {
            StoreChoice::Own(shape) => Ok(*shape),
            _ => Err("what shall die must be our own: --store redis, sentinel or cluster"),
        };
        self.store.iter().map(shape).collect()
    }
}

impl FromStr for StoreChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "cluster" => Ok(Self::Own(Shape::Cluster)),
            "memory" => Ok(Self::Memory),
            "redis" => Ok(Self::Own(Shape::Single)),
            "sealed" => Ok(Self::Sealed),
            "sentinel" => Ok(Self::Own(Shape::Sentinel)),
            _ if text.starts_with("redis") && text.contains("://") => {
                Ok(Self::Redis(text.to_owned()))
            }
            _ => Err("it is `memory`, `sealed`, `redis`, `sentinel`, `cluster`, or a URL that \
                      begins with redis"
                .to_owned()),
        }
    }
}
