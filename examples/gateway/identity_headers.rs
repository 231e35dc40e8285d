//! Who is signed in, as header fields for the upstream.
//!
//! | field | value |
//! |---|---|
//! | `x-auth-request-user` | `sub`, the provider's identifier of the person |
//! | `x-auth-request-email` | the e-mail address, if the provider calls it verified |
//! | `x-auth-request-groups` | the groups, with commas between |
//!
//! Bytes outside visible ASCII are percent-encoded, and so is `%`; in the name of a group the comma
//! too. So no claim can end a field or pass for two groups. The layer removes these fields from
//! every request before, in all spellings.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use tower_pkce_auth::Identity;

const USER: HeaderName = HeaderName::from_static("x-auth-request-user");
const EMAIL: HeaderName = HeaderName::from_static("x-auth-request-email");
const GROUPS: HeaderName = HeaderName::from_static("x-auth-request-groups");

/// Many servers stop at 8 KiB for all fields together.
const MAX_GROUPS: usize = 4 * 1024;

/// The groups take too much room. A part of them, or none, would be a lie, which a rule "not for
/// this group" would believe; so the request is not sent.
#[derive(Debug, Eq, PartialEq)]
pub struct TooManyGroups;

/// Adds who is signed in.
///
/// # Errors
///
/// The groups take too much room.
pub fn add(headers: &mut HeaderMap, identity: &Identity) -> Result<(), TooManyGroups> {
    headers.insert(USER, value(encode(identity.subject(), "")));
    if let Some(email) = identity.email() {
        headers.insert(EMAIL, value(encode(email, "")));
    }
    let groups = join_groups(identity.groups()).inspect_err(|_| {
        tracing::warn!(
            subject = identity.subject(),
            groups = identity.groups().len(),
            "the groups take more than 4 KiB; the upstream cannot be told of them"
        );
    })?;
    if !groups.is_empty() {
        headers.insert(GROUPS, value(groups));
    }
    Ok(())
}

/// Joins the groups.
fn join_groups(groups: &[String]) -> Result<String, TooManyGroups> {
    let mut joined = String::new();
    for (number, group) in groups.iter().enumerate() {
        if number > 0 {
            joined.push(',');
        }
        joined.push_str(&encode(group, ","));
        if joined.len() > MAX_GROUPS {
            return Err(TooManyGroups);
        }
    }
    Ok(joined)
}

/// Percent-encodes what is not visible ASCII, `%`, and the signs that mean something here.
fn encode(text: &str, also: &str) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' && !also.as_bytes().contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push(char::from(DIGITS[usize::from(byte >> 4)]));
            encoded.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
    encoded
}

fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("it was encoded to visible ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m04_no_claim_leaves_its_field() {
        for (claim, encoded) in [
            ("alice", "alice"),
            ("a\r\nX-Admin: 1", "a%0D%0AX-Admin:%201"),
            ("名", "%E5%90%8D"),
            ("100%", "100%25"),
            ("a\0", "a%00"),
            ("a,b", "a,b"),
        ] {
            assert_eq!(value(encode(claim, "")), encoded);
        }
    }

    #[test]
    fn m04_groups_are_told_apart_and_whole_or_not_at_all() {
        let groups =
            |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(join_groups(&groups(&["a,admin", "b c"])).unwrap(), "a%2Cadmin,b%20c");
        assert_eq!(join_groups(&groups(&["", "a"])).unwrap(), ",a");
        let many = vec!["x".repeat(99); 45];
        assert_eq!(join_groups(&many), Err(TooManyGroups));
        assert!(join_groups(&many[..40]).is_ok());
    }
}
