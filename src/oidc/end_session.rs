//! The request of RP-initiated logout (OpenID Connect RP-Initiated Logout 1.0 section 2).

use url::Url;

use crate::names::ClientId;

/// Builds the URL that signs the person out at the provider too.
///
/// The client id goes along even with a hint: providers that list several audiences cannot tell
/// from the hint alone which client asks.
pub(crate) fn url(
    endpoint: &Url,
    client_id: &ClientId,
    id_token_hint: Option<&str>,
    back: &str,
    state: &str,
) -> String {
    let mut url = endpoint.clone();
    {
        let mut query = url.query_pairs_mut();
        if let Some(hint) = id_token_hint {
            query.append_pair("id_token_hint", hint);
        }
        query.append_pair("client_id", client_id.as_str());
        query.append_pair("post_logout_redirect_uri", back);
        query.append_pair("state", state);
    }
    url.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn j03_j04_j05_the_query_of_the_endpoint_is_kept() {
        let endpoint = Url::parse("https://op/logout?tenant=a%20b").unwrap();
        let back = "https://rp/auth/signed-out";
        let url = url(&endpoint, &ClientId::new("a&b"), Some("h.i.nt"), back, "s");
        assert_eq!(
            url,
            "https://op/logout?tenant=a%20b&id_token_hint=h.i.nt&client_id=a%26b\
             &post_logout_redirect_uri=https%3A%2F%2Frp%2Fauth%2Fsigned-out&state=s"
        );
    }
}
