//! What is logged on this thread, kept to be read. (What is logged anywhere in a process decides what
//! a subscriber of one thread sees: tests of single lines stand alone in their file.)

#![allow(dead_code, missing_docs, reason = "each test uses a part of it")]

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard};

use tracing::level_filters::LevelFilter;
use tracing::subscriber::DefaultGuard;

#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Listens to all crates, down to a level.
    pub fn listen(&self, least: LevelFilter) -> DefaultGuard {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt().with_max_level(least).with_ansi(false);
        tracing::subscriber::set_default(subscriber.with_writer(move || log.clone()).finish())
    }

    /// Listens to this crate alone, to everything.
    pub fn listen_to_crate(&self) -> DefaultGuard {
        let log = self.clone();
        let subscriber =
            tracing_subscriber::fmt().with_env_filter("tower_pkce_auth=trace").with_ansi(false);
        tracing::subscriber::set_default(subscriber.with_writer(move || log.clone()).finish())
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.bytes().clone()).unwrap()
    }

    /// Returns what came since it was asked last.
    pub fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.bytes())).unwrap()
    }

    /// Returns the lines that came since it was asked last.
    pub fn take_lines(&self) -> Vec<String> {
        self.take().lines().map(str::to_owned).collect()
    }

    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
