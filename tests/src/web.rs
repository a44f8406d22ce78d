//! Web servers in pods: nginx(8), a client that says who answered, and ab(1) for load.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::{Background, NetNs, Node, Pod, eventually, http, patient};

/// Where servers of pods listen.
pub const PORT: u16 = 8080;

/// What a server has that is always as long: no page depends on who asks for it.
const PAGE: &str = "/page";

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a load may take.
const LOAD_PATIENCE: Duration = Duration::from_mins(1);

/// A running nginx.
#[derive(Debug)]
pub struct WebServer {
    name: String,
    ns: NetNs,
    _process: Background,
}

impl WebServer {
    /// Starts one in a pod, and waits until it answers. To whoever asks it says which pod it is in,
    /// and whose address the question came from.
    pub fn start(node: &Node, pod: &Pod) -> Result<Self> {
        let name = format!("{}/{}", node.name(), pod.name());
        Self::start_as(node, pod.ns(), &name, pod.name())
    }

    /// As [`WebServer::start`], on the node itself.
    pub fn start_on_host(node: &Node) -> Result<Self> {
        Self::start_as(node, node.ns(), node.name(), "host")
    }

    fn start_as(node: &Node, ns: &NetNs, name: &str, word: &str) -> Result<Self> {
        let process_name = format!("nginx-{word}");
        let dir = node.dir().join(&process_name);
        fs::create_dir(&dir).with_context(|| format!("create {}", dir.display()))?;
        let config = dir.join("nginx.conf");
        fs::write(&config, configuration(name))
            .with_context(|| format!("write {}", config.display()))?;
        let command = ns.command("nginx").args(["-e", "stderr"]);
        let command = command.arg("-p").arg(&dir).arg("-c").arg(&config);
        let mut process = node.start(&process_name, command)?;
        eventually(&format!("nginx of {name} answers"), || {
            if let Some(status) = process.exit_status()? {
                anyhow::bail!("nginx of {name} ended ({status}): {}", process.log()?);
            }
            Ok(http::ask(ns, "GET", &format!("127.0.0.1:{PORT}"), "/")?.is_some())
        })?;
        Ok(Self {
            name: name.to_owned(),
            ns: ns.clone(),
            _process: process,
        })
    }

    /// Its node and its pod, `node-0/p1`, or the node alone.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many connections it has accepted, with those that ask this.
    pub fn accepted(&self) -> Result<u64> {
        let answer = http::ask(&self.ns, "GET", &format!("127.0.0.1:{PORT}"), "/status")?;
        let body = answer.context("nginx does not answer any more")?.body;
        // Below a line of names, those accepted, those handled, and requests.
        let accepted = body.lines().nth(2).and_then(|line| {
            let mut numbers = line.split_whitespace();
            numbers.next()?.parse().ok()
        });
        accepted.with_context(|| format!("understand nginx's status {body:?}"))
    }
}

/// One process, without files but those of its directory.
fn configuration(name: &str) -> String {
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|of| format!("  {of}_temp_path {of};\n"))
        .concat();
    format!(
        "daemon off;\n\
         master_process off;\n\
         pid nginx.pid;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n\
           access_log off;\n\
           keepalive_requests 1000000;\n\
           {temporary}\
           default_type text/plain;\n\
           server {{\n\
             listen {PORT} backlog=4096;\n\
             location / {{ return 200 \"{name} $remote_addr\"; }}\n\
             location = {PAGE} {{ return 200 \"{}\"; }}\n\
             location = /status {{ stub_status; }}\n\
           }}\n\
         }}\n",
        "underpass ".repeat(200)
    )
}

/// Who answered a question, and who had asked it, as the server saw it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Answered {
    /// See [`WebServer::name`].
    pub by: String,
    /// The client's address, or what it was translated to.
    pub to: Ipv4Addr,
}

/// One connection to a server, for many questions.
#[derive(Debug)]
pub struct Session(BufReader<TcpStream>);

impl Session {
    /// Connects to a virtual address or a pod's own.
    pub fn begin(ns: &NetNs, to: SocketAddrV4) -> Result<Self> {
        let stream = ns.run(|| {
            TcpStream::connect_timeout(&to.into(), patient(PATIENCE))
                .with_context(|| format!("connect to {to}"))
        })?;
        stream
            .set_read_timeout(Some(patient(PATIENCE)))
            .context("limit how long an answer may take")?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Asks who is there.
    pub fn ask(&mut self) -> Result<Answered> {
        let request = "GET / HTTP/1.1\r\nHost: service\r\n\r\n";
        let stream = self.0.get_mut();
        stream.write_all(request.as_bytes()).context("ask")?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            let read = self.0.read_line(&mut line).context("read an answer")?;
            ensure!(read > 0, "the server closed the connection");
            let header = line.trim_end().to_ascii_lowercase();
            if let Some(value) = header.strip_prefix("content-length: ") {
                length = value.parse().context("understand the answer's length")?;
            }
            if header.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).context("read an answer")?;
        let body = String::from_utf8(body)?;
        let answered = body.split_once(' ').and_then(|(by, to)| {
            Some(Answered {
                by: by.to_owned(),
                to: to.parse().ok()?,
            })
        });
        answered.with_context(|| format!("understand the answer {body:?}"))
    }
}

/// How to load a server.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// How many requests.
    pub requests: u32,
    /// How many at once.
    pub at_once: u32,
    /// Whether a connection is kept for the next request, or each request has its own.
    pub keep_alive: bool,
}

impl Load {
    /// Puts it upon the server at `to`, and fails unless every request was answered. Returns how many
    /// were in a second.
    pub fn put(self, ns: &NetNs, to: SocketAddrV4) -> Result<f64> {
        let command = ns
            .command("ab")
            .args(["-q", "-n", &self.requests.to_string()])
            .args(["-c", &self.at_once.to_string()])
            .args(self.keep_alive.then_some("-k"))
            .arg(format!("http://{to}{PAGE}"));
        let mut client = Background::start_unnamed(command)?;
        let status = client.wait(LOAD_PATIENCE)?;
        let report = client.log()?;
        ensure!(
            status.success()
                && number(&report, "Complete requests:") == Some(self.requests)
                && number(&report, "Failed requests:") == Some(0)
                && number::<u32>(&report, "Non-2xx responses:").is_none(),
            "ab ({status}): {report}"
        );
        number(&report, "Requests per second:")
            .with_context(|| format!("ab counts no requests: {report}"))
    }
}

/// The number that ab reports by this name.
fn number<T: FromStr>(report: &str, name: &str) -> Option<T> {
    let line = report.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
