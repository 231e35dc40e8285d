//! The ticket inside `state`: where a visitor wanted to go, sealed, and good for nothing else.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::PendingLogins;
use crate::clock::UnixTime;
use crate::return_to::ReturnTo;
use crate::seal::{Purpose, sha256};
use crate::secret::{base64url, from_base64url};

/// Where a visitor wanted to go, and how often the login was started over.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Ticket {
    pub(crate) return_to: Option<ReturnTo>,
    pub(crate) attempt: u8,
}

/// A `state` that is one of ours; whether its login is pending is another question.
#[derive(Debug)]
pub(crate) struct State {
    pub(super) random: [u8; 16],
    pub(super) hash: [u8; 32],
    pub(crate) ticket: Ticket,
    /// The ticket as it stands in `state`, to start over with.
    pub(crate) ticket_text: String,
}

#[derive(Deserialize, Serialize)]
struct TicketContent {
    return_to: Option<String>,
    attempt: u8,
}

/// How long a ticket says where to go.
const TICKET_TTL: Duration = Duration::from_secs(24 * 3600);

/// Text of `state` beyond this is not looked at.
const MAX_STATE: usize = 2_048;

impl PendingLogins {
    /// Reads a return target as a visitor gave it.
    pub(crate) fn return_to(&self, target: &str) -> Option<ReturnTo> {
        ReturnTo::parse(target, &self.origin, &self.own_paths)
    }

    /// Reads `state`; `None` if it is not one of ours.
    pub(crate) fn read_state(&self, state: &str) -> Option<State> {
        if state.len() > MAX_STATE {
            return None;
        }
        let bytes = from_base64url(state)?;
        let (random, ticket) = bytes.split_at_checked(16)?;
        Some(State {
            random: random.try_into().ok()?,
            hash: sha256(&bytes),
            ticket: self.open_ticket(ticket)?,
            ticket_text: base64url(ticket),
        })
    }

    /// Reads a ticket that came back to start over with.
    pub(crate) fn read_ticket(&self, text: &str) -> Option<Ticket> {
        if text.len() > MAX_STATE {
            return None;
        }
        self.open_ticket(&from_base64url(text)?)
    }

    pub(super) fn seal_ticket(&self, ticket: &Ticket, now: UnixTime) -> Vec<u8> {
        let content = TicketContent {
            return_to: ticket.return_to.as_ref().map(|target| target.as_str().to_owned()),
            attempt: ticket.attempt,
        };
        let plain = postcard::to_allocvec(&content).expect("plain fields are encodable");
        self.sealer.seal(Purpose::Ticket, b"", now + TICKET_TTL, &plain)
    }

    fn open_ticket(&self, sealed: &[u8]) -> Option<Ticket> {
        let plain = self.sealer.open(Purpose::Ticket, b"", self.clock.now(), sealed).ok()?;
        let content: TicketContent = postcard::from_bytes(&plain).ok()?;
        Some(Ticket {
            // Judged when it was stored and again when it is used (L03).
            return_to: content.return_to.and_then(|target| self.return_to(&target)),
            attempt: content.attempt,
        })
    }
}
