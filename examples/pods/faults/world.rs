//! The servers and pods of one shape, and the people who are signed in.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tower_pkce_auth::testing::provider::TestProvider;

use crate::browser::Browser;
use crate::fleet::{Fleet, Keeping};
use crate::pace::Pace;
use crate::pod::Pending;
use crate::relay::Relay;
use crate::topologies::{Shape, Topology};

const PODS: u16 = 2;
/// With this clock sessions fall due each six seconds.
const PACE: u32 = 10;
const SIGN_INS: u32 = 50;

pub struct World {
    pub topology: Topology,
    /// Before the one server, to make it slow.
    pub relay: Option<Relay>,
    pub provider: TestProvider,
    /// Between the pods and the provider.
    pub to_provider: Relay,
    /// Sessions and pending logins in Redis.
    pub stored: Fleet,
    /// Both sealed in cookies, and the marks of sign-outs in Redis.
    pub sealed: Fleet,
    /// Somebody who is signed in at either.
    pub signed_in: [Browser; 2],
    /// The key under which the stored session lies.
    pub session: String,
}

impl World {
    pub async fn start(shape: Shape) -> Result<Self, Box<dyn Error>> {
        let pace = Pace::new(PACE);
        let provider = TestProvider::builder()
            .clock(Arc::new(pace))
            .refresh_tokens(true)
            .expires_in(Duration::from_secs(60))
            .start()
            .await?;
        let topology = tokio::task::block_in_place(|| Topology::start(shape))?;
        let relay = match shape {
            Shape::Single => Some(Relay::start(topology.node(0).port).await?),
            Shape::Cluster | Shape::Sentinel => None,
        };
        let url = match &relay {
            Some(relay) => format!("redis://127.0.0.1:{}/", relay.port()),
            None => topology.url(),
        };
        let to_provider = Relay::start(provider.address().port()).await?;
        let internal_issuer = Some(format!("http://127.0.0.1:{}", to_provider.port()));
        let keeping = Keeping { pace: Some(pace), internal_issuer, ..Keeping::redis(&url) };
        let stored = Fleet::start(&provider, PODS, &keeping).await?;
        let keeping = Keeping { pending: Pending::Sealed, sealed: true, ..keeping };
        let sealed = Fleet::start(&provider, PODS, &keeping).await?;
        let signed_in = [stored.browser("alice"), sealed.browser("alice")];
        let session = String::new();
        Ok(Self { topology, relay, provider, to_provider, stored, sealed, signed_in, session })
    }

    /// Signs somebody in at both, a while ago, and shows them to every pod.
    pub async fn sign_in(&mut self) -> Result<(), Box<dyn Error>> {
        let before = self.sessions();
        for (place, fleet) in [&self.stored, &self.sealed].into_iter().enumerate() {
            let browser = fleet.browser("alice");
            let shown = browser.travel("/").await?;
            if !shown.is_for("alice", "/") {
                return Err(format!("no login before an outage: {}", shown.describe()).into());
            }
            browser.a_minute_later();
            for pod in 0..fleet.size() {
                fleet.pinned(&browser, pod).open("/").await?;
            }
            self.signed_in[place] = browser;
        }
        let session = self.sessions().into_iter().find(|key| !before.contains(key));
        self.session = session.ok_or("the session is nowhere in Redis")?;
        Ok(())
    }

    /// Signs somebody in whose session lies on another server than the marks of sign-outs.
    pub async fn sign_in_apart_from_marks(&mut self) -> Result<(), Box<dyn Error>> {
        for _ in 0..SIGN_INS {
            let marks = self.keys("*{marks}*");
            let marks = marks.first().ok_or("the marks are nowhere in Redis")?;
            let places = tokio::task::block_in_place(|| {
                [marks, &self.session].map(|key| self.topology.master_of(key))
            });
            if places[0] != places[1] {
                return Ok(());
            }
            self.sign_in().await?;
        }
        Err("every session lies beside the marks".into())
    }

    /// Where sessions lie.
    fn sessions(&self) -> Vec<String> {
        self.keys("*:session:*")
    }

    /// The keys that all masters hold and that look so.
    pub fn keys(&self, pattern: &str) -> Vec<String> {
        tokio::task::block_in_place(|| {
            let masters = self.topology.masters().into_iter();
            let replies = masters
                .filter_map(|master| self.topology.node(master).ask(&["KEYS", pattern]).ok());
            let keys = replies.flat_map(|reply| {
                reply.list().iter().map(|key| key.text().to_owned()).collect::<Vec<_>>()
            });
            keys.collect()
        })
    }

    pub async fn end(self) -> Result<(), Box<dyn Error>> {
        self.stored.end().await?;
        self.sealed.end().await
    }
}
