//! Looking for secrets in bytes, however they are spelt.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};

/// Secrets of a run, each with a name and all its spellings.
#[derive(Clone, Default)]
pub struct Secrets(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    names: Vec<String>,
    /// Spellings by how they begin, with the number of their name.
    spellings: HashMap<[u8; START], Vec<(usize, Vec<u8>)>>,
}

const START: usize = 8;
/// Shorter ones are found by chance.
const SHORTEST: usize = 9;

impl Secrets {
    /// Adds a text, and the bytes that it encodes if it is base64url.
    pub fn add(&self, name: &str, text: &str) {
        if text.len() < SHORTEST {
            return;
        }
        let mut spellings = spellings_of(text.as_bytes());
        if let Ok(bytes) = BASE64_URL_SAFE_NO_PAD.decode(text) {
            // A part of random bytes is enough: an id, a key.
            for part in bytes.chunks(16).filter(|part| part.len() >= SHORTEST) {
                spellings.extend(spellings_of(part));
            }
        }
        let mut inner = self.0.lock().unwrap();
        let number = inner.names.len();
        inner.names.push(name.to_owned());
        for spelling in spellings {
            let start = *spelling.first_chunk().unwrap();
            inner.spellings.entry(start).or_default().push((number, spelling));
        }
    }

    pub fn len(&self) -> usize {
        self.0.lock().unwrap().names.len()
    }

    pub fn count(&self, name: &str) -> usize {
        self.0.lock().unwrap().names.iter().filter(|found| *found == name).count()
    }

    /// The name of a secret that is in these bytes.
    pub fn found(&self, bytes: &[u8]) -> Option<String> {
        let inner = self.0.lock().unwrap();
        let mut rest = bytes;
        while let Some(start) = rest.first_chunk() {
            let spellings = inner.spellings.get(start).into_iter().flatten();
            for (number, spelling) in spellings {
                if rest.starts_with(spelling) {
                    return Some(inner.names[*number].clone());
                }
            }
            rest = &rest[1..];
        }
        None
    }

    pub fn assert_absent(&self, bytes: &[u8], place: &str) {
        assert_eq!(self.found(bytes), None, "it is shown by {place}");
    }
}

/// Raw, hex, and base64 in both alphabets, wherever in the encoded bytes it begins.
pub fn spellings_of(secret: &[u8]) -> Vec<Vec<u8>> {
    let lower: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let upper = lower.to_uppercase();
    let mut spellings = vec![secret.to_vec(), lower.into_bytes(), upper.into_bytes()];
    for before in 0..3 {
        let padded = [&[0; 2][..before], secret].concat();
        for engine in [BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD] {
            let text = engine.encode(&padded).into_bytes();
            // What shares its character with a neighbour is left out.
            let (first, last) = ([0, 2, 3][before], usize::from(padded.len() % 3 != 0));
            spellings.push(text[first..text.len() - last].to_vec());
        }
    }
    spellings
}

/// The arguments of a line of `MONITOR`, byte for byte.
pub fn arguments(line: &str) -> Vec<Vec<u8>> {
    let mut arguments = Vec::new();
    let mut bytes = line.bytes();
    while bytes.any(|byte| byte == b'"') {
        let mut argument = Vec::new();
        loop {
            match bytes.next() {
                None | Some(b'"') => break,
                Some(b'\\') => argument.push(match bytes.next() {
                    Some(b'x') => {
                        let digits = [bytes.next(), bytes.next()].map(Option::unwrap_or_default);
                        let digits = std::str::from_utf8(&digits).unwrap().to_owned();
                        u8::from_str_radix(&digits, 16).unwrap()
                    }
                    Some(b'n') => b'\n',
                    Some(b'r') => b'\r',
                    Some(b't') => b'\t',
                    Some(b'a') => 7,
                    Some(b'b') => 8,
                    other => other.unwrap_or_default(),
                }),
                Some(byte) => argument.push(byte),
            }
        }
        arguments.push(argument);
    }
    arguments
}
