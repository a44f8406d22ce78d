//! What a running agent says of itself, over HTTP.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::archive::Archive;

pub(super) async fn add(
    archive: &mut Archive,
    listen: Option<SocketAddr>,
    patience: Duration,
) -> Result<()> {
    for path in ["healthz", "readyz", "metrics"] {
        archive
            .add(&format!("agent/{path}.txt"), async || {
                let address = reachable(listen.context("`listen` is off in the configuration")?);
                let answer = timeout(patience, ask(address, path)).await;
                let answer = answer.unwrap_or_else(|_| Err(anyhow!("it took too long")));
                answer.with_context(|| format!("no agent answers at http://{address}/{path}"))
            })
            .await?;
    }
    Ok(())
}

/// Whoever listens at every address is asked at the loopback's.
fn reachable(address: SocketAddr) -> SocketAddr {
    let loopback = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        other => other,
    };
    SocketAddr::new(loopback, address.port())
}

/// The whole answer, with its status and header.
async fn ask(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let question = format!("GET /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(question.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_asked_at_no_address() {
        for (listens, asked) in [
            ("127.0.0.1:9478", "127.0.0.1:9478"),
            ("0.0.0.0:9478", "127.0.0.1:9478"),
            ("[::]:80", "[::1]:80"),
            ("192.168.1.10:80", "192.168.1.10:80"),
        ] {
            let reached = reachable(listens.parse().unwrap());
            assert_eq!(reached.to_string(), asked, "{listens}");
        }
    }
}
