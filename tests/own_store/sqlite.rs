use std::time::Duration;

use bytes::Bytes;
use sqlx::sqlite::{Sqlite, SqliteArguments, SqlitePool};
use tower_pkce_auth::{Key, Store, StoreError, StoreErrorKind, StoreFuture};

#[derive(Clone, Debug)]
pub struct SqliteStore(pub SqlitePool);

impl Store for SqliteStore {
    fn insert(&self, key: &Key, value: Bytes, ttl: Duration) -> StoreFuture<bool> {
        ask(self, on(INSERT, key).bind(value.to_vec()).bind(ttl.as_secs_f64()), DONE)
    }

    fn load(&self, key: &Key) -> StoreFuture<Option<Bytes>> {
        ask(self, on(LOAD, key), |row| row.map(Bytes::from))
    }

    fn swap(&self, key: &Key, old: &Bytes, new: Bytes, ttl: Duration) -> StoreFuture<bool> {
        ask(self, on(SWAP, key).bind(old.to_vec()).bind(new.to_vec()).bind(ttl.as_secs_f64()), DONE)
    }

    fn take(&self, key: &Key) -> StoreFuture<Option<Bytes>> {
        ask(self, on(TAKE, key), |row| row.map(Bytes::from))
    }

    fn remove_if(&self, key: &Key, old: &Bytes) -> StoreFuture<bool> {
        ask(self, on(REMOVE_IF, key).bind(old.to_vec()), DONE)
    }

    fn shared(&self) -> bool {
        true
    }
}

type Statement = sqlx::query::QueryScalar<'static, Sqlite, Vec<u8>, SqliteArguments<'static>>;

fn on(sql: &'static str, key: &Key) -> Statement {
    sqlx::query_scalar(sql).bind(key.as_str().to_owned())
}

/// Runs a statement when the future is polled; a row comes back if it did something.
fn ask<T: 'static>(on: &SqliteStore, sql: Statement, then: fn(Row) -> T) -> StoreFuture<T> {
    let db = on.0.clone();
    StoreFuture::new(async move { sql.fetch_optional(&db).await.map(then).map_err(failed) })
}

type Row = Option<Vec<u8>>;
const DONE: fn(Row) -> bool = |row| row.is_some();

fn failed(error: sqlx::Error) -> StoreError {
    let full = error.as_database_error().is_some_and(|why| why.code().as_deref() == Some("13"));
    let kind = if full { StoreErrorKind::Full } else { StoreErrorKind::Unavailable };
    StoreError::new(kind).with_source(error)
}

const INSERT: &str = "INSERT INTO auth VALUES ($1, $2, unixepoch('subsec') + $3) \
    ON CONFLICT (key) DO UPDATE SET value = excluded.value, ends = excluded.ends \
    WHERE auth.ends <= unixepoch('subsec') RETURNING value";
const LOAD: &str = "SELECT value FROM auth WHERE key = $1 AND ends > unixepoch('subsec')";
const SWAP: &str = "UPDATE auth SET value = $3, ends = unixepoch('subsec') + $4 \
    WHERE key = $1 AND value = $2 AND ends > unixepoch('subsec') RETURNING value";
const TAKE: &str = "DELETE FROM auth WHERE key = $1 AND ends > unixepoch('subsec') RETURNING value";
const REMOVE_IF: &str = "DELETE FROM auth \
    WHERE key = $1 AND value = $2 AND ends > unixepoch('subsec') RETURNING value";
