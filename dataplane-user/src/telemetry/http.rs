//! `/healthz`, `/readyz` and `/metrics` over HTTP/1.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration, time::Instant};

use anyhow::Result;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Bytes,
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::TextEncoder;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tracing::{debug, info, warn};

use super::{Metrics, health::Sync, packets};
use crate::dataplane::{self, Pins};

/// Connections at a time; more wait in the kernel's queue.
const CONNECTIONS: usize = 32;
/// How long a connection may last: whoever does not read its answer keeps nobody else from theirs.
const PATIENCE: Duration = Duration::from_secs(10);
/// How soon an address that could not be had is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// What is answered from.
pub(super) struct Answers {
    pub(super) metrics: Arc<Metrics>,
    pub(super) pins: Pins,
}

/// Serves at `address`, and where that cannot be had, waits until it can: forwarding is worth more
/// than being asked about it.
pub(super) async fn serve(address: SocketAddr, answers: Arc<Answers>) {
    let listener = listen(address).await;
    info!("health and metrics are at http://{address}");
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = places.clone().acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let answers = answers.clone();
                tokio::spawn(async move {
                    let _place = place;
                    converse(stream, &answers).await;
                });
            }
            Err(error) => {
                // No descriptor is free, as a rule, which passes.
                debug!("cannot accept a connection to {address}: {error}");
                sleep(RETRY).await;
            }
        }
    }
}

/// Listens at `address` as soon as it can be had, and says once why it cannot.
async fn listen(address: SocketAddr) -> TcpListener {
    let mut said = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) if !said => {
                warn!(
                    "health and metrics cannot be served at {address}: {}; forwarding goes on \
                     without, and the address is tried again every {RETRY:?}",
                    why_not(address, &error)
                );
                said = true;
            }
            Err(_) => {}
        }
        sleep(RETRY).await;
    }
}

fn why_not(address: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "another process listens there (`ss -tlnp sport = {}` names it): stop it, or set \
             `listen` to another port",
            address.port()
        ),
        io::ErrorKind::AddrNotAvailable => {
            "no interface of this node has that address: correct `listen`".to_owned()
        }
        _ => error.to_string(),
    }
}

/// Answers one request.
async fn converse(stream: TcpStream, answers: &Answers) {
    let service = service_fn(async |request: Request<_>| {
        let answer = answers.answer(request.method(), request.uri().path());
        Ok::<_, Infallible>(answer.await)
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    match timeout(PATIENCE, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!("a connection for health and metrics ended: {error}"),
        Err(_) => debug!("a connection for health and metrics was closed after {PATIENCE:?}"),
    }
}

type Answer = Response<Full<Bytes>>;

impl Answers {
    async fn answer(&self, method: &Method, path: &str) -> Answer {
        // Who asks by HEAD gets no body: hyper sees to that.
        if !matches!(*method, Method::GET | Method::HEAD) {
            return wrong_method();
        }
        match path {
            "/healthz" => self.is_alive(),
            "/readyz" => self.is_ready().await,
            "/metrics" => self.metrics(),
            _ => text(
                StatusCode::NOT_FOUND,
                "there are /healthz, /readyz and /metrics\n".to_owned(),
            ),
        }
    }

    fn is_alive(&self) -> Answer {
        match self.why_stuck() {
            None => text(StatusCode::OK, "alive\n".to_owned()),
            Some(reason) => unwell(reason),
        }
    }

    async fn is_ready(&self) -> Answer {
        match self.why_unready().await {
            None => text(StatusCode::OK, "ready\n".to_owned()),
            Some(reason) => unwell(reason),
        }
    }

    /// What the loop said last, and whether it still is so.
    async fn why_unready(&self) -> Option<String> {
        match self.metrics.health.sync() {
            Sync::Starting => return Some("starting: not in sync yet".to_owned()),
            Sync::Out(reason) => return Some(format!("not in sync: {reason}")),
            Sync::In => {}
        }
        if let Some(reason) = self.why_stuck() {
            return Some(reason);
        }
        let attached = self.metrics.health.attached();
        let intact = dataplane::check_intact(&self.pins, &attached).await;
        intact.err().map(|error| format!("{error:#}"))
    }

    fn why_stuck(&self) -> Option<String> {
        let silent = self.metrics.health.stuck(Instant::now())?;
        Some(format!(
            "the agent's loop is stuck: it has given no sign of life for {silent:.0?}"
        ))
    }

    fn metrics(&self) -> Answer {
        match self.exposition() {
            Ok(metrics) => answer(StatusCode::OK, prometheus::TEXT_FORMAT, metrics),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n")),
        }
    }

    /// Where the maps cannot be read, as before they are there, what the agent itself counts.
    fn exposition(&self) -> Result<String> {
        let mut families = self.metrics.gather()?;
        let mut comment = String::new();
        match packets::gather(&self.pins) {
            Ok(packets) => families.extend(packets),
            Err(error) => comment = format!("# {}\n", format!("{error:#}").replace('\n', " ")),
        }
        Ok(TextEncoder::new().encode_to_string(&families)? + &comment)
    }
}

fn wrong_method() -> Answer {
    let methods = "GET, HEAD";
    let mut answer = text(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("ask by {methods}\n"),
    );
    let headers = answer.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static(methods));
    answer
}

fn unwell(reason: String) -> Answer {
    text(StatusCode::SERVICE_UNAVAILABLE, reason + "\n")
}

fn text(status: StatusCode, body: String) -> Answer {
    answer(status, "text/plain; charset=utf-8", body)
}

fn answer(status: StatusCode, format: &'static str, body: String) -> Answer {
    let mut answer = Answer::new(body.into());
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(format));
    answer
}
