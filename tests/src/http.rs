//! Asking an HTTP server of a namespace.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{NetNs, Node, patient};

/// Where an agent says how it is, unless told otherwise.
pub const AGENT: &str = "127.0.0.1:9478";

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers, with the status line.
    pub head: String,
    /// What follows.
    pub body: String,
}

/// Asks a node's agent for `path`.
pub fn get(node: &Node, path: &str) -> Result<Answer> {
    let answer = ask(node.ns(), "GET", AGENT, path)?;
    answer.with_context(|| format!("nobody listens at {AGENT} of {}", node.name()))
}

/// Asks by `method` for `path` at `address`, such as `127.0.0.1:9478`. Nothing if nobody listens.
pub fn ask(ns: &NetNs, method: &str, address: &str, path: &str) -> Result<Option<Answer>> {
    let what = format!("{method} http://{address}{path}");
    let mut stream = match ns.run(|| Ok(TcpStream::connect(address)))? {
        Ok(stream) => stream,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Ok(None),
        Err(error) => return Err(error).context(what),
    };
    let mut text = String::new();
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream
        .set_read_timeout(Some(patient(PATIENCE)))
        .and_then(|()| stream.write_all(request.as_bytes()))
        .and_then(|()| stream.read_to_string(&mut text))
        .with_context(|| what.clone())?;
    let (head, body) = text
        .split_once("\r\n\r\n")
        .with_context(|| format!("{what}: not HTTP: {text:?}"))?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok(Some(Answer {
        status: status.with_context(|| format!("{what}: no status in {head:?}"))?,
        head: head.to_owned(),
        body: body.to_owned(),
    }))
}
