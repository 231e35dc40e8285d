//! What a request costs behind this layer, behind others, and behind none.
//!
//! `scripts/bench` builds and runs this; `README.md` says how it measures.

mod alloc;
mod browser;
mod instructions;
mod machine;
mod measure;
mod readme;
mod rows;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use measure::{Amount, Measured};
use rows::{Failed, KINDS, Kind, Row};
use table::Line;
use tokio::runtime::{Builder, Runtime};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failed> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["once", id, requests] => {
            let runtime = runtime()?;
            let row = make(&runtime, kind(id)?)?;
            measure::once(&runtime, &row, requests.parse()?)
        }
        ["--help"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => bench(&Options::read(&arguments)?),
    }
}

/// What is asked for.
struct Options {
    write: Option<PathBuf>,
    amount: Amount,
    instructions: bool,
}

impl Options {
    fn read(arguments: &[&str]) -> Result<Self, Failed> {
        let amount = Amount { rounds: 400, requests: 200 };
        let mut options = Self { write: None, amount, instructions: true };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match *argument {
                "--write" => options.write = Some(arguments.next().ok_or(USAGE)?.into()),
                "--rounds" => options.amount.rounds = arguments.next().ok_or(USAGE)?.parse()?,
                "--no-instructions" => options.instructions = false,
                _ => return Err(USAGE.into()),
            }
        }
        Ok(options)
    }
}

fn bench(options: &Options) -> Result<(), Failed> {
    options.write.as_deref().map_or(Ok(()), readme::expect_markers)?;
    let runtime = runtime()?;
    let made: Vec<_> =
        KINDS.iter().map(|kind| make(&runtime, kind).map_err(|error| error.to_string())).collect();
    let rows: Vec<&Row> = made.iter().flatten().collect();
    eprintln!("{} rows, {} rounds", rows.len(), options.amount.rounds);
    let mut measured = measure::measure(&runtime, &rows, options.amount)?.into_iter();
    let counts = options.instructions && instructions::available();
    let lines: Vec<Line> = KINDS
        .iter()
        .zip(&made)
        .map(|(kind, made)| line(kind, made, &mut measured, counts))
        .collect();
    let figures = format!(
        "{}\n\nMeasured on {}; {}.",
        table::table(&lines),
        machine::machine(),
        machine::versions(),
    );
    println!("{figures}");
    options.write.as_deref().map_or(Ok(()), |file| readme::write(file, &figures))
}

fn line(
    kind: &'static Kind,
    made: &Result<Row, String>,
    measured: &mut impl Iterator<Item = Measured>,
    counts: bool,
) -> Line {
    if let Err(reason) = made {
        return Line { kind, measured: Err(reason.clone()), instructions: None };
    }
    let instructions = counts.then(|| {
        eprintln!("counting the instructions of {}", kind.id);
        instructions::count(kind.id).map_err(|error| error.to_string())
    });
    Line { kind, measured: measured.next().ok_or_else(|| "no figures".to_owned()), instructions }
}

/// Makes a row and sees that it does what it says.
fn make(runtime: &Runtime, kind: &Kind) -> Result<Row, Failed> {
    runtime.block_on(async {
        let row = (kind.make)().await?;
        row.prove().await?;
        Ok(row)
    })
}

fn kind(id: &str) -> Result<&'static Kind, Failed> {
    KINDS.iter().find(|kind| kind.id == id).ok_or_else(|| format!("there is no row {id}").into())
}

/// One thread does everything, so that nothing is measured but the request's own work.
fn runtime() -> Result<Runtime, Failed> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

const USAGE: &str = "usage: peers [--write FILE] [--rounds N] [--no-instructions]
       peers once ROW REQUESTS";
