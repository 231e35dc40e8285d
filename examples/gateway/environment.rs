//! Which variables of the environment are meant for the gateway, and which are misspelt.

use std::ffi::OsString;

/// The secret shared with the provider; it has no flag, because everybody sees flags.
pub const CLIENT_SECRET: &str = "GATEWAY_CLIENT_SECRET";

const PREFIX: &str = "GATEWAY_";

/// Refuses variables that begin like ours and are none, and says which was probably meant.
///
/// # Errors
///
/// One text that names all of them.
pub fn judge(
    variables: impl Iterator<Item = (OsString, OsString)>,
    known: &[String],
) -> Result<(), String> {
    let mut problems = Vec::new();
    for (name, _) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else {
            continue;
        };
        if known.iter().any(|known| known == name) || is_service_link(name) {
            continue;
        }
        let nearest = known.iter().min_by_key(|known| distance(known, name));
        let nearest = nearest.map_or("", String::as_str);
        problems.push(format!("unexpected {name} in the environment; the nearest is {nearest}"));
    }
    problems.sort();
    if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
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
