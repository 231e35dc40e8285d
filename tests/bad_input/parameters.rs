//! Parameters: the callback's, tickets, return targets.

use axum::http::Method;
use proptest::prelude::{Just, any, prop_oneof};

use crate::inputs::{pieces, spoilt, words};
use crate::judge::{At, Hostile, PLACES, add, property, with_query};
use crate::support::{self, navigation, parameter};

#[test]
fn c03_c05_c30_no_query_is_answered_with_a_session() {
    let hostile = Hostile::new(|_, builder| builder).with_member();
    let mut known = words(
        "state= code= iss= error= response= error_description= again= return_to= switch=1 \
         id_token=x.y.z access_token=x & & & = % %00 %ff%fe %zz %2 + //evil.example /%5cevil \
         /x ; access_denied login_required server_error <script> %0d%0aSet-Cookie:x=y \
         javascript:alert(1) https%3A%2F%2Fevil.example",
        &["/\\evil", "\u{e9}", "\u{1f600}"],
    );
    let issuer: String =
        url::form_urlencoded::byte_serialize(hostile.world.provider.issuer().as_bytes()).collect();
    known.extend([hostile.state.clone(), hostile.ticket.clone(), "a".repeat(3_000)]);
    known.push(issuer.clone());
    let own = known.clone().into_iter().chain([hostile.code.clone()]).collect();
    let ends: Vec<_> = PLACES.iter().filter(|(at, _)| *at == At::Ours).collect();
    property(150, pieces(own), |query| {
        for (at, path) in &ends {
            let request = with_query(path.split('?').next().unwrap(), &query);
            hostile.runtime.block_on(hostile.judge(*at, request));
        }
    });
    // A login of this browser is pending, and something else is in the query.
    known.retain(|word| *word != hostile.state);
    let codes = (pieces(known), any::<bool>());
    property(150, codes, |(query, first)| {
        hostile.runtime.block_on(async {
            let (cookie, state) = hostile.start().await;
            let state = format!("state={state}&iss={issuer}");
            let parts = if first { [state.as_bytes(), &query] } else { [&query, state.as_bytes()] };
            let mut request = with_query("/auth/callback", &parts.join(&b'&'));
            add(&mut request, "cookie", cookie.as_bytes());
            hostile.judge_with(At::Ours, request, true).await;
        });
    });
}

#[test]
fn c18_c21_no_foreign_code_signs_anybody_in() {
    let hostile = Hostile::new(|_, builder| builder).with_member();
    let code = prop_oneof!["[ -~]{1,60}", Just(hostile.code.repeat(50)), Just("x".repeat(20_000))];
    property(60, code, |code| {
        hostile.runtime.block_on(async {
            let (cookie, state) = hostile.start().await;
            let mut query = url::form_urlencoded::Serializer::new(String::new());
            let iss = hostile.world.provider.issuer();
            query.append_pair("code", &code).append_pair("state", &state).append_pair("iss", iss);
            let query = query.finish();
            let mut request = with_query("/auth/callback", query.as_bytes());
            add(&mut request, "cookie", cookie.as_bytes());
            let before = hostile.world.provider.counts().token;
            let reply = hostile.judge_with(At::Ours, request, true).await;
            assert_eq!(
                hostile.world.provider.counts().token,
                before + 1,
                "asked, once: {:?}",
                reply.reason()
            );
            let asked = hostile.world.provider.token_requests().pop().unwrap();
            assert_eq!(asked.form_value("code"), Some(code.as_str()), "C21: byte for byte");
        });
    });
}

#[test]
fn l03_tickets_and_targets_lead_to_the_provider_or_to_our_own_pages() {
    let hostile = Hostile::new(|_, builder| builder).with_member();
    let known = words(
        "/ // /x ? # @ : evil.example http: %2f %5c %09 %2e%2e .. . javascript: auth login \
         logout é %",
        &["\\", "\t", "\r\n"],
    );
    property(256, (pieces(known), spoilt()), |(target, how)| {
        let ticket = hostile.spoil("", &how);
        let name =
            |bytes: &[u8]| -> String { url::form_urlencoded::byte_serialize(bytes).collect() };
        let queries = [
            format!("return_to={}", name(&target)),
            format!("again={}", name(&ticket[..ticket.len().min(4_000)])),
        ];
        hostile.runtime.block_on(async {
            for query in queries {
                let path = format!("/auth/login?{query}");
                let reply = hostile.judge(At::Ours, navigation(Method::GET, &path)).await;
                assert_eq!(reply.status, 302, "a login begins all the same: {path}");
                assert!(parameter(&reply.location(), "state").is_some(), "at the provider: {path}");
                // Somebody who is signed in goes straight to the target.
                let location = hostile.member.clone().get(&path).await.location();
                let base = url::Url::parse(support::ORIGIN).unwrap();
                let url = base.join(&location).unwrap();
                assert_eq!(url.origin(), base.origin(), "L01 {path}: {location}");
                let path = url.path();
                assert!(!path.starts_with("//") && !path.starts_with("/auth/"), "L10 {location}");
            }
        });
    });
}
