//! Which variables of the environment are meant for the gateway, which are misspelt or empty, and
//! how lists stand in them.

use std::ffi::OsString;

/// The secret shared with the provider; it has no flag, because everybody sees flags.
pub const CLIENT_SECRET: &str = "GATEWAY_CLIENT_SECRET";

const PREFIX: &str = "GATEWAY_";

/// Refuses variables that begin like ours and are none, and says which was probably meant.
///
/// Refuses ours too where they are empty: a template whose value is missing would else be taken for
/// "not set", which opens what an allow list was to close.
///
/// # Errors
///
/// One text that names all of them.
pub fn judge(
    variables: impl Iterator<Item = (OsString, OsString)>,
    known: &[String],
) -> Result<(), String> {
    let mut problems = Vec::new();
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else {
            continue;
        };
        if known.iter().any(|known| known == name) {
            if value.to_str().is_some_and(|value| value.trim().is_empty()) {
                problems.push(format!("{name} is empty in the environment; unset it, or fill it"));
            }
            continue;
        }
        if is_service_link(name) {
            continue;
        }
        let nearest = known.iter().min_by_key(|known| distance(known, name));
        let nearest = nearest.map_or("", String::as_str);
        problems.push(format!("unexpected {name} in the environment; the nearest is {nearest}"));
    }
    problems.sort();
    if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
}

/// Reads a list: entries with commas between, and none of them empty.
///
/// # Errors
///
/// A text that names the variable.
pub fn split(name: &str, text: &str) -> Result<Vec<String>, String> {
    let entries = text.split(',').map(|entry| match entry.trim() {
        "" => Err(format!("{name} has an empty entry before or after a comma")),
        entry => Ok(entry.to_owned()),
    });
    entries.collect()
}

/// Kubernetes tells every pod of its services by such variables: those of a service called
/// `gateway` or `gateway-…` begin like ours.
fn is_service_link(name: &str) -> bool {
    let port = name.find("_PORT").map(|at| &name[at + "_PORT".len()..]);
    name.ends_with("_SERVICE_HOST")
        || port.is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
}

/// The number of letters to add, remove or replace to make one word the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(names: &[&str]) -> Result<(), String> {
        let known = ["GATEWAY_ISSUER", "GATEWAY_LISTEN", CLIENT_SECRET].map(str::to_owned);
        judge(names.iter().map(|name| (name.into(), "x".into())), &known)
    }

    #[test]
    fn misspelt_variables_are_refused_with_the_nearest() {
        let problem = judged(&["GATEWAY_ISUER", "PATH", "GATEWAY_LISTEN"]).unwrap_err();
        assert_eq!(
            problem,
            "unexpected GATEWAY_ISUER in the environment; the nearest is GATEWAY_ISSUER"
        );
    }

    #[test]
    fn empty_variables_are_refused_by_name() {
        let known = ["GATEWAY_ALLOW_GROUP".to_owned(), CLIENT_SECRET.to_owned()];
        for (value, empty) in [("", true), (" ", true), ("staff", false)] {
            for name in &known {
                let judged = judge([(name.into(), value.into())].into_iter(), &known);
                assert_eq!(judged.is_err(), empty, "{name}={value:?}");
                assert!(judged.err().unwrap_or(name.clone()).contains(name), "{value:?}");
            }
        }
        let link = [("GATEWAY_SERVICE_HOST".into(), "".into())];
        assert_eq!(judge(link.into_iter(), &known), Ok(()), "others may be empty");
    }

    #[test]
    fn lists_have_no_empty_entry() {
        assert_eq!(split("X", "openid, email,profile").unwrap(), ["openid", "email", "profile"]);
        for bad in ["", ",", " , ", "a,", ",a", "a,,b"] {
            let problem = split("GATEWAY_ALLOW_GROUP", bad).unwrap_err();
            assert!(problem.contains("GATEWAY_ALLOW_GROUP"), "{bad:?}: {problem}");
        }
    }

    #[test]
    fn links_of_kubernetes_services_are_not_ours() {
        assert_eq!(
            judged(&[
                "GATEWAY_SERVICE_HOST",
                "GATEWAY_SERVICE_PORT",
                "GATEWAY_SERVICE_PORT_HTTP",
                "GATEWAY_PORT",
                "GATEWAY_PORT_8080_TCP_ADDR",
                "GATEWAY_STAFF_SERVICE_HOST",
            ]),
            Ok(())
        );
        assert!(judged(&["GATEWAY_PORTS"]).is_err());
    }

    #[test]
    fn distances() {
        for (a, b, steps) in [("", "abc", 3), ("kitten", "sitting", 3), ("same", "same", 0)] {
            assert_eq!(distance(a, b), steps, "{a} {b}");
        }
    }
}
