//! Time and allocations: many short rounds, in which every row has its turn.

use std::hint::black_box;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use http::StatusCode;
use http::request::Parts;
use tokio::runtime::Runtime;
use tokio::task::unconstrained;
use tower::ServiceExt;

use crate::alloc::{self, Asked};
use crate::browser::{self, PATH};
use crate::rows::{Failed, Row};

/// What was measured of one row.
#[derive(Default)]
pub struct Measured {
    /// Nanoseconds per request, one figure a round, in the order of the rounds.
    pub nanoseconds: Vec<f64>,
    /// Allocations per request.
    pub allocations: f64,
    /// Bytes asked for per request.
    pub bytes: f64,
}

/// How much is measured.
#[derive(Clone, Copy)]
pub struct Amount {
    /// How often every row has its turn.
    pub rounds: usize,
    /// How many requests a turn has.
    pub requests: usize,
}

/// Measures the rows in turn. Whatever disturbs the machine for longer than a turn disturbs all of
/// them; each round begins with another row.
pub fn measure(runtime: &Runtime, rows: &[&Row], amount: Amount) -> Result<Vec<Measured>, Failed> {
    let mut callers = Vec::with_capacity(rows.len());
    for row in rows {
        callers.push(Caller::new(runtime, row)?);
    }
    let mut measured = Vec::with_capacity(rows.len());
    for caller in &mut callers {
        caller.turn(WARM_UP)?;
        let Asked { calls, bytes } = caller.turn(COUNTED)?.asked;
        measured.push(Measured {
            nanoseconds: Vec::with_capacity(amount.rounds),
            allocations: calls as f64 / COUNTED as f64,
            bytes: bytes as f64 / COUNTED as f64,
        });
    }
    for round in 0..amount.rounds {
        for turn in 0..rows.len() {
            let index = (round + turn) % rows.len();
            // The row before has left the processor's caches to itself.
            callers[index].turn(BEFORE_TURN)?;
            let elapsed = callers[index].turn(amount.requests)?.elapsed;
            let nanoseconds = elapsed.as_nanos() as f64 / amount.requests as f64;
            measured[index].nanoseconds.push(nanoseconds);
        }
    }
    Ok(measured)
}

/// Sends `count` requests after a warm-up: what valgrind counts instructions of.
pub fn once(runtime: &Runtime, row: &Row, count: usize) -> Result<(), Failed> {
    let mut caller = Caller::new(runtime, row)?;
    caller.turn(WARM_UP)?;
    caller.turn(count)?;
    Ok(())
}

/// What a turn took.
#[derive(Default)]
struct Turn {
    elapsed: Duration,
    asked: Asked,
}

/// Calls one row.
struct Caller<'a> {
    runtime: &'a Runtime,
    app: &'a Router,
    /// A request for each session; they take turns.
    requests: Vec<Parts>,
    next: usize,
    batch: Vec<Request>,
}

impl<'a> Caller<'a> {
    fn new(runtime: &'a Runtime, row: &'a Row) -> Result<Self, Failed> {
        let mut requests = Vec::with_capacity(row.cookies.len());
        for cookie in &row.cookies {
            requests.push(browser::navigation(PATH, Some(cookie))?);
        }
        let batch = Vec::with_capacity(BATCH);
        Ok(Self { runtime, app: &row.app, requests, next: 0, batch })
    }

    /// Sends `count` requests, in batches so small that memory is asked for and given back as in a
    /// server. Making the requests is not measured; dropping them is.
    fn turn(&mut self, count: usize) -> Result<Turn, Failed> {
        let mut turn = Turn::default();
        for _ in 0..count / BATCH {
            for _ in 0..BATCH {
                let parts = self.requests[self.next].clone();
                self.batch.push(Request::from_parts(parts, Body::empty()));
                self.next = (self.next + 1) % self.requests.len();
            }
            let asked = alloc::asked();
            let begun = Instant::now();
            drive(self.runtime, self.app, &mut self.batch)?;
            turn.elapsed += begun.elapsed();
            turn.asked += alloc::asked() - asked;
        }
        Ok(turn)
    }
}

/// Calls the application with one request after the other, as a server does: a clone each.
///
/// This is what is measured, and what valgrind finds by its name.
#[inline(never)]
pub fn drive(runtime: &Runtime, app: &Router, batch: &mut Vec<Request>) -> Result<(), Failed> {
    // Without `unconstrained` the runtime would make a batch pause where a request would not.
    runtime.block_on(unconstrained(async {
        for request in batch.drain(..) {
            let response = app.clone().oneshot(request).await?;
            if response.status() != StatusCode::OK {
                return Err(format!("the answer was {}", response.status()).into());
            }
            black_box(response);
        }
        Ok(())
    }))
}

/// The requests between two looks at the clock; all other numbers are multiples of it.
const BATCH: usize = 4;

/// More than there are sessions in any row.
const WARM_UP: usize = 1024;

const COUNTED: usize = 512;

const BEFORE_TURN: usize = 16;
