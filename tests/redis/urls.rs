//! What is refused before anything is connected.

use tower_pkce_auth::RedisStore;

use crate::tools::CA;

#[test]
fn a_url_that_cannot_be_used_is_refused_and_not_repeated() {
    let mut accepted = Vec::new();
    for url in [
        "",
        "s3cret",
        "s3cret@localhost:6379",
        "//user:s3cret@localhost",
        "http://user:s3cret@localhost:6379",
        "redis+sentinel://user:s3cret@localhost",
        "redis+cluster://user:s3cret@localhost/1",
        "redis://user:s3cret@localhost:port",
        "redis://user:s3cret@localhost:99999",
        "redis://user:s3cret@localhost/database",
        "redis://user:s3cret@",
        "redis://user:s3cret@/1",
        "redis://user:s3cret%zz@[::1",
        "rediss://user:s3cret@localhost:6379/0#insecure",
        "rediss://user:s3cret@localhost:6379/0#INSECURE",
        "rediss://user:s3cret@localhost:6379/0#anything",
    ] {
        let Err(error) = RedisStore::new(url) else {
            accepted.push(url);
            continue;
        };
        let shown = format!("{error}\n{error:?}");
        assert!(shown.contains("Redis URL"), "{url}: {shown}");
        assert!(!shown.contains("s3cret") && !shown.contains("user:"), "{url}: {shown}");
    }
    assert!(accepted.is_empty(), "{accepted:?}");
}

#[test]
fn a_certificate_authority_needs_tls_and_must_be_one() {
    let mut accepted = Vec::new();
    for (url, pem) in [
        ("redis://:s3cret@localhost", CA),
        ("redis+unix:///run/redis.sock", CA),
        ("rediss://:s3cret@localhost", b"".as_slice()),
        ("rediss://:s3cret@localhost", b"no PEM"),
        (
            "rediss://:s3cret@localhost",
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ),
        ("rediss://:s3cret@localhost", b"-----BEGIN CERTIFICATE-----\nAAAA\n"),
        ("rediss://:s3cret@localhost", include_bytes!("../tls/server.key")),
    ] {
        let text = String::from_utf8_lossy(pem);
        let Err(error) = RedisStore::builder(url).ca_pem(pem).build() else {
            accepted.push((url, text));
            continue;
        };
        let shown = format!("{error}\n{error:?}");
        assert!(shown.contains("certificate"), "{shown}");
        assert!(!shown.contains("s3cret"), "{shown}");
    }
    assert!(accepted.is_empty(), "{accepted:?}");
    let builder = RedisStore::builder("rediss://:s3cret@localhost").ca_pem(CA);
    assert!(!format!("{builder:?}").contains("s3cret"));
    assert!(builder.build().is_ok());
}

#[test]
fn debug_says_where_the_server_is_and_not_how_to_get_in() {
    for (url, place) in [
        ("redis://app:s3cret@redis.internal:6380/3", "redis.internal:6380"),
        ("rediss://app:s3cret@redis.internal", "redis.internal:6379"),
        ("redis+unix:///run/redis.sock?user=app&pass=s3cret", "/run/redis.sock"),
        ("redis+sentinel://app:s3cret@one,two:5/primary/3", "primary by one:26379,two:5"),
        ("rediss+cluster://app:s3cret@one,two:5", "one:6379,two:5"),
    ] {
        let store = RedisStore::new(url).unwrap();
        let shown = format!("{store:?} {store:#?} {:?}", RedisStore::builder(url));
        assert!(shown.contains(place), "{shown}");
        assert!(!shown.contains("s3cret") && !shown.contains("app"), "{shown}");
    }
}
