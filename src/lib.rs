mod clock; mod cookies; mod error; mod headers; mod names; mod paths; mod return_to; mod seal; mod secret; mod store;
pub use clock::*; pub use error::*; pub use names::*; pub use store::*; pub use paths::PathRule; pub use seal::CookieKeys; pub use secret::ClientSecret;
#[allow(missing_docs)] pub enum Pending { Memory }
