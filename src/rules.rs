//! Who may use the application: access rules by e-mail domain and group.

use crate::error::{AuthError, ErrorKind};
use crate::identity::Facts;

/// Whom the application lets in, of those who can sign in. Without a rule everybody may.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    /// Domains of e-mail addresses, in lower case.
    pub(crate) email_domains: Vec<String>,
    pub(crate) groups: Vec<String>,
}

impl Rules {
    /// Judges a person: one of the domains and one of the groups, where there are such rules.
    pub(crate) fn judge(&self, identity: &Facts) -> Result<(), AuthError> {
        let refused = |detail| Err(AuthError::new(ErrorKind::NotAllowed, detail));
        if !self.email_domains.is_empty() {
            let Some(address) = identity.email() else {
                return refused("email_not_verified");
            };
            let allowed =
                |domain| self.email_domains.iter().any(|known| known.eq_ignore_ascii_case(domain));
            if !domain(address).is_some_and(allowed) {
                return refused("email_domain");
            }
        }
        if !self.groups.is_empty() {
            let member = |group| identity.groups().contains(group);
            if !self.groups.iter().any(member) {
                return refused("group");
            }
        }
        Ok(())
    }
}

/// Returns the domain of an address, if the text is plainly one address: an odd one could be read
/// in two ways, and grants nothing.
fn domain(address: &str) -> Option<&str> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || r#"<>()[]:;,"\"#.contains(c);
    let (local, domain) = address.split_once('@')?;
    let plain = !local.is_empty() && !domain.contains('@') && !address.contains(odd);
    plain.then_some(domain)
}

/// Tells whether a text is a domain as addresses have one: ASCII labels with dots between them.
pub(crate) fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_address_has_a_domain() {
        for (address, expected) in [
            ("a@example.com", Some("example.com")),
            ("a+b.c@EXAMPLE.com", Some("EXAMPLE.com")),
            ("a@evil.example@example.com", None),
            ("\"a@evil\"@example.com", None),
            ("a@evil.example, b@example.com", None),
            ("a@evil.example\n@example.com", None),
            ("<a@example.com>", None),
            ("@example.com", None),
            ("example.com", None),
            ("a@[127.0.0.1]", None),
        ] {
            assert_eq!(domain(address), expected, "{address:?}");
        }
    }
}
