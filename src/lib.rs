mod clock; mod cookies; mod error; mod headers; mod identity; mod names; mod oidc; mod paths; mod pending; mod return_to; mod seal; mod secret; mod session; mod store;
pub use clock::*; pub use error::*; pub use names::*; pub use store::*; pub use paths::PathRule; pub use seal::CookieKeys; pub use secret::ClientSecret; pub use identity::Identity; pub use pending::Pending; pub use session::Sessions;
pub use oidc::{client_auth::ClientAuth, http::*, hyper_client::HyperClient, keys::SigningAlgorithm, metadata::Endpoints, userinfo::Userinfo};
