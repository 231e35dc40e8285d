//! A connection that the application has already: of the redis crate, and made by its rules.

use std::future::Future;
use std::pin::Pin;

use ::redis::aio::ConnectionLike;
use ::redis::{RedisError, Value};

use super::call::{Call, Manner};

/// A connection of the redis crate, whichever it is.
pub(super) trait Given: Send + Sync {
    fn run(&self, call: Call) -> Pin<Box<dyn Future<Output = Result<Value, RedisError>> + Send>>;
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> Given for C {
    fn run(&self, call: Call) -> Pin<Box<dyn Future<Output = Result<Value, RedisError>> + Send>> {
        let mut connection = self.clone();
        Box::pin(async move {
            let answer = match call.send(&mut connection, Manner::default()).await {
                // It lay idle and was lost meanwhile; a read may be sent twice.
                Err(error) if call.may_be_repeated() && error.is_connection_dropped() => {
                    call.send(&mut connection, Manner::default()).await
                }
                answer => answer,
            };
            answer.map(|sent| sent.answer)
        })
    }
}
