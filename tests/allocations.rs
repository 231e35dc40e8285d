//! What a request costs in allocations, counted over the same service without the layer.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::convert::Infallible;

use axum::http::{Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::Full;
use support::World;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_pkce_auth::testing::SignedIn;
use tower_pkce_auth::{MemoryStore, PkceAuthLayer, Sessions};

struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged; only a thread's own cell is written.
#[allow(unsafe_code, reason = "an allocator cannot be written without")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

type Body = Full<Bytes>;

fn inner() -> impl Service<
    Request<Body>,
    Response = Response<Body>,
    Error = Infallible,
    Future = std::future::Ready<Result<Response<Body>, Infallible>>,
> + Clone {
    service_fn(|request: Request<Body>| {
        drop(request);
        std::future::ready(Ok(Response::new(Body::default())))
    })
}

/// Counts the allocations of one request after a warm-up, its construction left out.
async fn count<S>(mut service: S, request: impl Fn() -> Request<Body>, status: StatusCode) -> u64
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let mut allocations = 0;
    for _ in 0..3 {
        let request = request();
        let before = COUNT.with(Cell::get);
        let response = service.ready().await.unwrap().call(request).await.unwrap();
        allocations = COUNT.with(Cell::get) - before;
        assert_eq!(response.status(), status);
    }
    allocations
}

fn get(path: &'static str, cookie: Option<&str>) -> impl Fn() -> Request<Body> + use<> {
    let cookie = cookie.map(str::to_owned);
    move || {
        let mut request = Request::get(path).body(Body::default()).unwrap();
        request.headers_mut().insert("accept", "*/*".parse().unwrap());
        request.headers_mut().insert("user-agent", "test".parse().unwrap());
        if let Some(cookie) = &cookie {
            request.headers_mut().insert("cookie", cookie.parse().unwrap());
        }
        request
    }
}

async fn added(
    layer: &PkceAuthLayer,
    path: &'static str,
    cookie: Option<&str>,
    status: u16,
) -> u64 {
    let status = StatusCode::from_u16(status).unwrap();
    let bare = count(inner(), get(path, cookie), StatusCode::OK).await;
    count(layer.layer(inner()), get(path, cookie), status).await - bare
}

#[tokio::test]
async fn requests_cost_few_allocations() {
    let world = World::new().await;
    let builder = || world.builder().open("/open/*".parse().unwrap());
    let sealed = builder().build().unwrap();
    let stored = builder().store(MemoryStore::new()).sessions(Sessions::Stored).build().unwrap();
    let sealed_cookie = SignedIn::new("alice").cookie(&sealed).await;
    let sealed_cookie = sealed_cookie.to_str().unwrap().split("; ").next().unwrap().to_owned();
    let stored_cookie = SignedIn::new("alice").cookie(&stored).await;
    let stored_cookie = stored_cookie.to_str().unwrap().to_owned();
    let both = format!("theme=dark; {sealed_cookie}");

    // What is counted, how many there are, how many there may be.
    let rows = [
        ("open path", added(&sealed, "/open/a", None, 200).await, 0),
        ("open path, dots and escapes", added(&sealed, "/open/a.css", None, 200).await, 0),
        ("open path, signed in", added(&sealed, "/open/a", Some(&sealed_cookie), 200).await, 0),
        ("denied (401)", added(&sealed, "/api", None, 401).await, 7),
        ("signed in, sealed, seen before", added(&sealed, "/", Some(&sealed_cookie), 200).await, 5),
        ("signed in, another cookie beside", added(&sealed, "/", Some(&both), 200).await, 6),
        ("signed in, stored in memory", added(&stored, "/", Some(&stored_cookie), 200).await, 5),
    ];
    println!("allocations added to a request:");
    for (name, counted, bound) in rows {
        println!("  {counted:>3} (at most {bound}) {name}");
    }
    for (name, counted, bound) in rows {
        assert!(counted <= bound, "{name}: {counted} allocations, at most {bound}");
    }
}
