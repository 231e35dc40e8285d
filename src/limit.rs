//! Limits for what strangers start: so many logins a client, and so many records a lifetime.
//!
//! Nothing here is kept for a stranger beyond a bound, and nothing that is thrown out does its owner
//! harm: a client whose count is forgotten may start as many logins as a new one.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Clock;

/// Who asked, for the limit of logins a client may start: an extension of the request.
///
/// Whoever stands before the layer and knows the true address puts it into the request's
/// extensions: the peer of the connection, or what a trusted proxy says of it. The layer itself
/// reads no `X-Forwarded-For`. Without this extension there is no limit per client; that on what all
/// of them together can store holds all the same.
///
/// IPv4 addresses are counted one by one, IPv6 addresses by their /64, which is what one
/// subscriber has.
///
/// # Security
///
/// An address that the client can choose limits nobody; that of a proxy limits everybody behind it
/// together. See [`client_limit`](crate::Builder::client_limit).
///
/// # Examples
///
/// ```
/// use std::net::SocketAddr;
/// use axum::Router;
/// use axum::extract::{ConnectInfo, Request};
/// use axum::middleware::map_request;
/// use tower_pkce_auth::ClientAddress;
///
/// async fn note_peer(ConnectInfo(peer): ConnectInfo<SocketAddr>, mut request: Request) -> Request {
///     request.extensions_mut().insert(ClientAddress::new(peer.ip()));
///     request
/// }
///
/// # fn wrap(app: Router) {
/// // `app` has the layer; this stands before it.
/// let app = app.layer(map_request(note_peer));
/// let service = app.into_make_service_with_connect_info::<SocketAddr>();
/// # }
/// ```
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct ClientAddress(IpAddr);

impl ClientAddress {
    /// Notes an address.
    #[must_use]
    pub const fn new(address: IpAddr) -> Self {
        Self(address)
    }

    fn network(self) -> Network {
        match self.0.to_canonical() {
            IpAddr::V4(address) => Network::V4(address.into()),
            IpAddr::V6(address) => {
                let bits = u128::from(address);
                if bits >> 32 == NAT64 {
                    // IPv4 clients, as servers without IPv4 see them (RFC 6052, RFC 7755).
                    let [.., a, b, c, d] = address.octets();
                    return Network::V4(Ipv4Addr::new(a, b, c, d).into());
                }
                Network::V6((bits >> 64) as u64)
            }
        }
    }
}

/// It does not print the address: none is ever logged.
impl fmt::Debug for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientAddress(..)")
    }
}

/// Whose starts are counted together.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Network {
    V4(u32),
    V6(u64),
}

/// `64:ff9b::/96`, without its last 32 bits.
const NAT64: u128 = 0x0064_ff9b_0000_0000_0000_0000;
/// How many clients one generation holds: what fits into a table of 32,768 slots. Two tables with
/// slots of 24 bytes and one take 1.7 MB.
const CLIENTS: usize = 28_672;
const MINUTE: u64 = 60_000_000_000;

/// A token bucket for each client: a minute's worth at once, refilled evenly.
#[derive(Debug)]
pub(crate) struct ClientLimit {
    /// Nanoseconds that one start takes to be refilled.
    interval: u64,
    clock: Arc<dyn Clock>,
    buckets: Mutex<Buckets>,
}

/// When each bucket will be full again, in two generations as the session cache has them: what was
/// not asked for while another generation grew is forgotten.
#[derive(Debug, Default)]
struct Buckets {
    young: HashMap<Network, u64>,
    old: HashMap<Network, u64>,
    /// When the log was told last.
    told: Option<u64>,
}

impl ClientLimit {
    pub(crate) fn new(per_minute: u32, clock: Arc<dyn Clock>) -> Self {
        Self { interval: MINUTE / u64::from(per_minute.max(1)), clock, buckets: Mutex::default() }
    }

    /// Takes one start from the client's bucket; nothing is taken from an empty one.
    ///
    /// # Errors
    ///
    /// How long the client should wait.
    pub(crate) fn take(&self, client: ClientAddress) -> Result<(), Duration> {
        let now = nanos(&*self.clock);
        let network = client.network();
        let mut buckets = lock(&self.buckets);
        let full_at = buckets.find(network).unwrap_or(0).max(now);
        let next = full_at.saturating_add(self.interval);
        let missing = next.saturating_sub(now).saturating_sub(MINUTE);
        if missing > 0 {
            if buckets.told.is_none_or(|told| now.saturating_sub(told) >= MINUTE) {
                buckets.told = Some(now);
                tracing::warn!(
                    "a client starts more logins than one may; if many people share its address, \
                     raise the limit"
                );
            }
            return Err(Duration::from_nanos(missing));
        }
        buckets.put(network, next);
        Ok(())
    }
}

impl Buckets {
    fn find(&self, network: Network) -> Option<u64> {
        self.young.get(&network).or_else(|| self.old.get(&network)).copied()
    }

    fn put(&mut self, network: Network, full_at: u64) {
        if self.young.len() >= CLIENTS && !self.young.contains_key(&network) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(network, full_at);
    }
}

/// The parts that a lifetime is counted in.
const SLOTS: usize = 16;

/// So many in any stretch of time as long as a lifetime: what is written with that time to live
/// never lies in the store in a larger number.
#[derive(Debug)]
pub(crate) struct Budget {
    most: u32,
    /// Nanoseconds of one slot.
    slot: u64,
    clock: Arc<dyn Clock>,
    counts: Mutex<Counts>,
    words: [&'static str; 2],
}

#[derive(Debug, Default)]
struct Counts {
    /// The number of the current slot, since the clock began.
    current: u64,
    /// This one and as many as a lifetime touches before it.
    slots: [u32; SLOTS + 1],
    used_up: bool,
}

impl Budget {
    /// Makes one; `words` are logged when it is used up, and when half of it is free again.
    pub(crate) fn new(
        most: u32,
        lifetime: Duration,
        clock: Arc<dyn Clock>,
        words: [&'static str; 2],
    ) -> Self {
        let lifetime = u64::try_from(lifetime.as_nanos()).unwrap_or(u64::MAX);
        let slot = lifetime.div_ceil(SLOTS as u64).max(1);
        Self { most, slot, clock, counts: Mutex::default(), words }
    }

    /// Takes one, if there is one left.
    pub(crate) fn take(&self) -> bool {
        let number = nanos(&*self.clock) / self.slot;
        let mut counts = lock(&self.counts);
        counts.advance(number);
        let used: u32 = counts.slots.iter().fold(0, |sum, slot| sum.saturating_add(*slot));
        let left = used < self.most;
        if left {
            let index = counts.index();
            counts.slots[index] += 1;
        }
        if !left && !counts.used_up {
            counts.used_up = true;
            tracing::warn!(most = self.most, "{}", self.words[0]);
        } else if counts.used_up && used <= self.most / 2 && left {
            counts.used_up = false;
            tracing::warn!("{}", self.words[1]);
        }
        left
    }
}

impl Counts {
    /// Forgets what is older than a lifetime.
    fn advance(&mut self, number: u64) {
        if number.saturating_sub(self.current) > SLOTS as u64 {
            self.slots = [0; SLOTS + 1];
            self.current = number;
        }
        while self.current < number {
            self.current += 1;
            let index = self.index();
            self.slots[index] = 0;
        }
    }

    fn index(&self) -> usize {
        usize::try_from(self.current % self.slots.len() as u64).expect("less than a length")
    }
}

fn nanos(clock: &dyn Clock) -> u64 {
    u64::try_from(clock.monotonic().as_nanos()).unwrap_or(u64::MAX)
}

/// No code runs under these locks that could panic half-way through a change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixTime;

    #[derive(Debug, Default)]
    struct Hand(Mutex<Duration>);

    impl Hand {
        fn advance(&self, time: Duration) {
            *self.0.lock().unwrap() += time;
        }
    }

    impl Clock for Hand {
        fn now(&self) -> UnixTime {
            UnixTime::default()
        }

        fn monotonic(&self) -> Duration {
            *self.0.lock().unwrap()
        }
    }

    fn client(text: &str) -> ClientAddress {
        ClientAddress::new(text.parse().unwrap())
    }

    #[test]
    fn addresses_of_one_subscriber_count_as_one() {
        for (a, b, same) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("192.0.2.1", "64:ff9b::192.0.2.1", true),
            ("64:ff9b::192.0.2.2", "64:ff9b::192.0.2.1", false),
            ("2001:db8::1", "2001:db8::ffff:1:2:3", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("::1", "0.0.0.1", false),
        ] {
            assert_eq!(client(a).network() == client(b).network(), same, "{a} {b}");
        }
        assert!(!format!("{:?}", client("192.0.2.1")).contains("192"));
    }

    #[test]
    fn a_bucket_holds_a_minute_and_refills_evenly() {
        let clock = Arc::new(Hand::default());
        for per_minute in [1, 7, 60, 1000] {
            let limit = ClientLimit::new(per_minute, clock.clone());
            let one = client("192.0.2.1");
            let starts = |most| (0..most).take_while(|_| limit.take(one).is_ok()).count();
            assert_eq!(starts(5000), per_minute as usize);
            let wait = limit.take(one).unwrap_err();
            clock.advance(wait - Duration::from_nanos(1));
            assert!(limit.take(one).is_err(), "{per_minute}");
            clock.advance(Duration::from_nanos(1));
            assert_eq!(starts(5000), 1, "{per_minute}");
            clock.advance(Duration::from_secs(30));
            assert_eq!(starts(5000), per_minute as usize / 2, "{per_minute}");
            clock.advance(Duration::from_secs(3600));
            assert_eq!(starts(5000), per_minute as usize, "never more");
        }
    }

    #[test]
    fn a_flood_of_addresses_is_forgotten_and_nobody_is_refused_for_it() {
        let limit = ClientLimit::new(2, Arc::new(Hand::default()));
        let one = client("192.0.2.1");
        assert!(limit.take(one).is_ok());
        for n in 0..100_000u32 {
            let address = IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + n));
            assert!(limit.take(ClientAddress::new(address)).is_ok(), "{n}");
            let buckets = lock(&limit.buckets);
            assert!(buckets.young.len() <= CLIENTS && buckets.old.len() <= CLIENTS);
            assert!(buckets.young.capacity() <= CLIENTS, "no table grows beyond what is stated");
        }
        assert!(limit.take(one).is_ok() && limit.take(one).is_ok(), "forgotten is as good as new");
    }

    #[test]
    fn no_stretch_of_a_lifetime_sees_more_than_the_budget() {
        let clock = Arc::new(Hand::default());
        let lifetime = Duration::from_secs(160);
        let budget = Budget::new(100, lifetime, clock.clone(), ["", ""]);
        let mut taken: Vec<Duration> = Vec::new();
        let mut most = 0;
        for step in 0..4_000u64 {
            let now = clock.monotonic();
            if budget.take() {
                taken.push(now);
            }
            let alive = taken.iter().filter(|then| now - **then < lifetime).count();
            assert!(alive <= 100, "{alive} at {now:?}");
            most = most.max(alive);
            // Now slowly, now fast.
            clock.advance(Duration::from_millis(if step / 200 % 2 == 0 { 10 } else { 1_300 }));
        }
        assert_eq!(most, 100, "what is allowed is used");
        clock.advance(Duration::from_secs(1_000_000));
        assert_eq!((0..200).filter(|_| budget.take()).count(), 100, "all of it comes back");
        assert!(!Budget::new(0, lifetime, clock, ["", ""]).take());
    }
}
