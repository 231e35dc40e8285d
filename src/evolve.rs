//! Records that pods of two releases can read: what is sealed or stored by one is read, and written
//! again, by the other.
//!
//! A format is only ever added to, at its end: to the record itself, never to what lies inside it. Whoever knows less reads what it knows and keeps the
//! rest, as bytes, for when it writes the record again. Whoever knows more reads zeros for what is
//! not there: `None`, `false`, an empty list, the number 0.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// More than what is ever added at once.
const ABSENT: usize = 64;

/// What a later release has added; nobody here knows what it means.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Later(Vec<u8>);

/// Writes a record, and after it what a later release had added.
pub(crate) fn encode<T: Serialize>(record: &T, later: &Later) -> Vec<u8> {
    let mut bytes = postcard::to_allocvec(record).expect("a record of plain fields is encodable");
    bytes.extend_from_slice(&later.0);
    bytes
}

/// Reads a record of this, an earlier or a later release; `None` if it is something else.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<(T, Later)> {
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len() + ABSENT, 0);
    let (record, rest) = postcard::take_from_bytes(&padded).ok()?;
    let read = padded.len() - rest.len();
    let later = Later(bytes.get(read..).unwrap_or_default().to_vec());
    Some((record, later))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq, Serialize)]
    struct First {
        id: u32,
        name: String,
    }

    #[derive(Debug, Deserialize, PartialEq, Serialize)]
    struct Second {
        id: u32,
        name: String,
        floor: u64,
        group: Option<String>,
        tags: Vec<u8>,
    }

    #[test]
    fn a_record_goes_back_and_forth_between_two_releases() {
        let new = Second {
            id: 300,
            name: "alice".into(),
            floor: 7,
            group: Some("staff".into()),
            tags: vec![1, 2],
        };
        let sealed = encode(&new, &Later::default());
        let (mut old, later) = decode::<First>(&sealed).unwrap();
        assert_eq!(old, First { id: 300, name: "alice".into() });
        old.name = "alice b.".into();
        let (back, later) = decode::<Second>(&encode(&old, &later)).unwrap();
        assert_eq!(later, Later::default());
        assert_eq!(back, Second { name: "alice b.".into(), ..new }, "nothing is lost on the way");

        let sealed = encode(&First { id: 1, name: "bob".into() }, &Later::default());
        let (new, later) = decode::<Second>(&sealed).unwrap();
        assert_eq!(later, Later::default(), "zeros that were not there are not kept");
        assert_eq!((new.floor, new.group, new.tags), (0, None, vec![]));
    }

    #[test]
    fn what_is_no_record_is_none() {
        assert_eq!(decode::<First>(&[0xff; 64]), None);
        assert_eq!(decode::<First>(&[1, 200, 200, 3]), None, "a name longer than all there is");
    }
}
