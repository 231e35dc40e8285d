//! What is sent: noise, pieces that mean something to parsers, and genuine values that were spoilt.

use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_oneof};
use proptest::sample::{Index, select};

use crate::judge::Hostile;

pub const FORM: &str = "application/x-www-form-urlencoded";
pub const METHODS: [&str; 13] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE", "BREW", "get",
    "M-SEARCH", "POST~",
];

pub fn noise() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..80)
}

/// Pieces that mean something to parsers, and noise between them.
pub fn pieces(known: Vec<String>) -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![6 => select(known).prop_map(String::into_bytes), 1 => noise()];
    vec(piece, 0..10).prop_map(|pieces| pieces.concat())
}

pub fn words(words: &str, more: &[&str]) -> Vec<String> {
    words.split(' ').chain(more.iter().copied()).map(str::to_owned).collect()
}

/// Something that was ours, spoilt: it never equals the genuine value.
#[derive(Clone, Debug)]
pub enum Spoilt {
    Noise(Vec<u8>),
    Huge(u8),
    Cut(Index, Index),
    Flipped(Index, Index, u8),
    Doubled(Index),
    /// Of another name.
    Swapped(Index),
}

pub fn spoilt() -> impl Strategy<Value = Spoilt> {
    let i = any::<Index>;
    prop_oneof![
        2 => noise().prop_map(Spoilt::Noise),
        1 => any::<u8>().prop_map(Spoilt::Huge),
        3 => (i(), i()).prop_map(|(of, at)| Spoilt::Cut(of, at)),
        3 => (i(), i(), any::<u8>()).prop_map(|(of, at, to)| Spoilt::Flipped(of, at, to)),
        1 => i().prop_map(Spoilt::Doubled),
        4 => i().prop_map(Spoilt::Swapped),
    ]
}

impl Hostile {
    /// Everything sealed that can be stolen, with the name it belongs to.
    pub fn loot(&self) -> Vec<(String, String)> {
        let mut loot = self.cookies.clone();
        for value in [&self.state, &self.code, &self.ticket] {
            loot.push((String::new(), value.clone()));
        }
        loot
    }

    pub fn spoil(&self, name: &str, how: &Spoilt) -> Vec<u8> {
        let loot = self.loot();
        match how {
            Spoilt::Noise(bytes) => bytes.clone(),
            Spoilt::Huge(byte) => [b"s5.".as_slice(), &vec![*byte; 65_536]].concat(),
            Spoilt::Cut(of, at) => {
                let value = &loot[of.index(loot.len())].1;
                value.as_bytes()[..at.index(value.len())].to_vec()
            }
            Spoilt::Flipped(of, at, to) => {
                let mut value = loot[of.index(loot.len())].1.clone().into_bytes();
                let at = at.index(value.len());
                let to = b"ABCabc019-_.=%"[usize::from(*to) % 14];
                value[at] = if value[at] == to { b'Z' } else { to };
                value
            }
            Spoilt::Doubled(of) => loot[of.index(loot.len())].1.repeat(2).into_bytes(),
            Spoilt::Swapped(of) => {
                let (owner, value) = &loot[of.index(loot.len())];
                let end = if owner == name { "A" } else { "" };
                format!("{value}{end}").into_bytes()
            }
        }
    }

    /// The names of our cookies, and some that nearly are.
    pub fn names(&self) -> Vec<String> {
        let base = self.base();
        let near = ["s1", "s2", "s4", "s5", "x", "p-0123456789abcdef", "p-zz", "p-", "S"];
        let near = near.iter().map(|end| format!("{base}-{end}"));
        let prefixed = [format!("__Host-{base}-s"), base.to_owned(), "theme".to_owned()];
        let own = self.cookies.iter().map(|(name, _)| name.clone());
        own.chain(near).chain(prefixed).collect()
    }
}
