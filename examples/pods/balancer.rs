//! A balancer without any stickiness: each request goes to a pod by chance.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A running balancer; it ends when dropped.
pub struct Balancer {
    pub origin: String,
    pods: Arc<Mutex<Vec<SocketAddr>>>,
    task: JoinHandle<()>,
}

impl Balancer {
    /// Listens on a free port; every answer is 502 until there are pods.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let origin = format!("http://{}", listener.local_addr()?);
        let pods = Arc::<Mutex<Vec<SocketAddr>>>::default();
        let task = tokio::spawn(serve(listener, pods.clone()));
        Ok(Self { origin, pods, task })
    }

    /// Sends requests to these pods from now on.
    pub fn set_pods(&self, pods: Vec<SocketAddr>) {
        *self.pods.lock().unwrap_or_else(PoisonError::into_inner) = pods;
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, pods: Arc<Mutex<Vec<SocketAddr>>>) {
    let client = Client::builder(TokioExecutor::new()).build_http();
    while let Ok((stream, _)) = listener.accept().await {
        let (client, pods) = (client.clone(), pods.clone());
        let service = service_fn(move |request| {
            let pod = any(&pods.lock().unwrap_or_else(PoisonError::into_inner));
            forward(client.clone(), pod, request)
        });
        tokio::spawn(async move {
            // A browser that goes away is no news.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Picks one by chance.
fn any(pods: &[SocketAddr]) -> Option<SocketAddr> {
    let number = usize::try_from(getrandom::u32().ok()?).ok()?;
    pods.get(number.checked_rem(pods.len())?).copied()
}

/// Passes a request on as it is; a pod that cannot be reached, or breaks off, is a 502.
async fn forward(
    client: Client<HttpConnector, Incoming>,
    pod: Option<SocketAddr>,
    mut request: Request<Incoming>,
) -> Result<Response<Either<Incoming, Full<Bytes>>>, Infallible> {
    let target = pod.and_then(|pod| at(pod, request.uri()));
    let answer = match target {
        Some(uri) => {
            *request.uri_mut() = uri;
            client.request(request).await.ok()
        }
        None => None,
    };
    Ok(answer.map_or_else(bad_gateway, |answer| answer.map(Either::Left)))
}

fn at(pod: SocketAddr, uri: &Uri) -> Option<Uri> {
    let path = uri.path_and_query().cloned();
    Uri::builder()
        .scheme(Scheme::HTTP)
        .authority(Authority::try_from(pod.to_string()).ok()?)
        .path_and_query(path.unwrap_or_else(|| PathAndQuery::from_static("/")))
        .build()
        .ok()
}

fn bad_gateway() -> Response<Either<Incoming, Full<Bytes>>> {
    let mut answer = Response::new(Either::Right(Full::from("this pod does not answer\n")));
    *answer.status_mut() = StatusCode::BAD_GATEWAY;
    answer
}
