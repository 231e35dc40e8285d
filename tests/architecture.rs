//! The house holds: each file stands on its floor and imports downwards only.

use std::fs;
use std::path::{Path, PathBuf};

/// The floors from below; a module is named by the first part of its path under `src/`.
const FLOORS: &[&[&str]] = &[
    &["clock", "error", "evolve", "names", "secret"],
    &["cookies", "headers", "limit", "paths", "return_to", "seal", "store"],
    &["oidc"],
    &["identity", "pending", "rules", "session"],
    &["access", "csrf", "flow", "respond"],
    &["admission", "after", "builder", "future", "guard", "layer", "service"],
    &["axum", "manual", "testing"],
];

/// What is named in a few places only, and where.
const RESERVED: &[(&str, &[&str])] = &[
    ("openidconnect::", &["oidc"]),
    ("redis::", &["store"]),
    ("SystemTime::now", &["clock"]),
    ("Instant::now", &["clock"]),
    ("getrandom::", &["secret"]),
    ("Cookie::build", &["cookies"]),
    // rustls is told which provider to use; the test kit makes keys to sign with.
    ("aws_lc_rs", &["oidc/hyper_client", "seal", "store/redis", "testing"]),
];

#[test]
fn imports_go_downwards() {
    let mut wrong = Vec::new();
    for (file, module) in sources() {
        let floor = floor(&module).unwrap_or_else(|| panic!("{file:?} stands on no floor"));
        for path in crate_paths(&code(&file)) {
            // A type exported at the root may be linked to in docs, never imported from there.
            let Some(target) = self::floor(&path) else {
                wrong.push(format!("{}: crate::{path} is no module", file.display()));
                continue;
            };
            if target > floor {
                wrong.push(format!("{}: crate::{path} is above it", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn some_words_are_said_in_one_place() {
    let mut wrong = Vec::new();
    for (file, _) in sources() {
        let name = file.strip_prefix(root().join("src")).unwrap().with_extension("");
        let name = name.to_str().unwrap().to_owned();
        let code = code(&file);
        for (word, places) in RESERVED {
            let allowed =
                places.iter().any(|place| name == *place || name.starts_with(&format!("{place}/")));
            if code.contains(word) && !allowed {
                wrong.push(format!("src/{name}.rs says {word}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_public_api_names_no_crate_that_may_be_replaced() {
    for (file, _) in sources() {
        for line in code(&file).lines().map(str::trim) {
            let public = line.starts_with("pub fn") || line.starts_with("pub use");
            let foreign = ["openidconnect", "oauth2::", "jsonwebtoken", "aws_lc_rs", "rustls"]
                .iter()
                .any(|name| line.contains(name));
            assert!(!(public && foreign), "{}: {line}", file.display());
        }
    }
}

/// Every source file with the name of its module, `lib.rs` left out: it names all floors.
fn sources() -> Vec<(PathBuf, String)> {
    let src = root().join("src");
    let mut files = Vec::new();
    let mut folders = vec![src.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("lib.rs") {
                files.push(path);
            }
        }
    }
    assert!(files.len() > 40, "the sources are read");
    let module = |path: &PathBuf| {
        let relative = path.strip_prefix(&src).unwrap();
        let first = relative.components().next().unwrap().as_os_str().to_str().unwrap();
        first.trim_end_matches(".rs").to_owned()
    };
    files.into_iter().map(|path| (path.clone(), module(&path))).collect()
}

/// The code of a file up to its tests, without comments.
fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The first parts of all `crate::…` paths.
fn crate_paths(code: &str) -> Vec<String> {
    code.match_indices("crate::")
        .filter(|(at, _)| {
            // `tower_pkce_auth::` and the like end in other letters.
            !code[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
        })
        .map(|(at, word)| {
            let rest = &code[at + word.len()..];
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
            rest[..end.unwrap_or(rest.len())].to_owned()
        })
        .collect()
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|modules| modules.contains(&module))
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
