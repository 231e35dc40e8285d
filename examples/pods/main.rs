//! Many pods: whether a login holds when each of its requests reaches another process.
//!
//! ```text
//! cargo run --release --example pods -- --logins 200
//! ```
//!
//! 1. A provider starts in this process, and a balancer that sends each request to a pod by chance.
//! 2. The pods are processes of their own: this program, started again. They end with it.
//! 3. Browsers without windows sign in, at once and twice and with other people's addresses, while
//!    Redis stops and comes back.
//! 4. A table says what was found, beside what LiteLLM did in the same runs; see `--help`.

mod balancer;
mod browser;
mod chance;
mod faults;
mod fleet;
mod jar;
mod options;
mod pace;
mod pod;
mod redis_server;
mod redis_tap;
mod redis_waits;
mod relay;
mod scenarios;
mod soak;
mod table;
mod topologies;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let options = options::Options::parse();
    if options.pod {
        pod::run().await?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(seconds) = options.soak {
        let good = soak::run(&options.shapes()?, seconds).await?;
        return Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    if options.faults {
        let good = faults::run(options.write.as_deref()).await?;
        return Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let table = scenarios::run(&options).await?;
    print!("{table}");
    Ok(if table.misses() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
