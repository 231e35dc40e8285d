//! JSON as security wants it: an object, no name twice, nothing behind it, bounded depth.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Reads a JSON object in which no object, at any depth, holds a name twice (RFC 8259 section 4).
///
/// `serde_json` bounds the depth and refuses anything behind the object.
pub(crate) fn object(bytes: &[u8]) -> Option<Map<String, Value>> {
    // Names first, then values: how numbers are represented is `serde_json`'s affair.
    serde_json::from_slice::<UniqueNames>(bytes).ok()?;
    match serde_json::from_slice(bytes).ok()? {
        Value::Object(map) => Some(map),
        _ => None,
    }
}

/// Reads a string member that is not empty; everything else counts as absent.
pub(crate) fn text<'a>(map: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    map.get(name)?.as_str().filter(|text| !text.is_empty())
}

/// Reads any JSON and keeps nothing, but fails where an object holds a name twice.
struct UniqueNames;

impl<'de> Deserialize<'de> for UniqueNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for UniqueNames {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without repeated names")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self, A::Error> {
        while seq.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self, A::Error> {
        let mut names = HashSet::new();
        while let Some((name, _)) = access.next_entry::<String, Self>()? {
            if !names.insert(name) {
                return Err(A::Error::custom("a name stands twice"));
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d10_d18_e36_e44_only_strict_objects_are_read() {
        assert!(object(br#"{"a":1,"b":{"a":[1,{"a":null}]},"c":1.5,"d":-2,"e":true}"#).is_some());
        let deep = format!("{}1{}", r#"{"a":"#.repeat(10_000), "}".repeat(10_000));
        for bad in [
            &b""[..],
            b"[]",
            b"\"x\"",
            b"null",
            b"1",
            b"{",
            b"{} {}",
            b"{}x",
            b"{\"a\":1,\"a\":1}",
            b"{\"x\":{\"a\":1,\"a\":2}}",
            b"{\"a\":NaN}",
            b"{\"a\":1e400}",
            b"{/**/}",
            b"\xff\xfe",
            b"{\"a\":\"\xff\"}",
            b"{\"a\":1,}",
            b"\xef\xbb\xbf{}",
            deep.as_bytes(),
        ] {
            assert!(object(bad).is_none(), "{:?}", &bad[..bad.len().min(30)]);
        }
    }
}
