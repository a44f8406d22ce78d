//! Network namespaces to test in, and what to furnish them with.

use std::{
    fs::{self, File},
    os::fd::AsRawFd,
    panic::resume_unwind,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use nix::sched::{CloneFlags, setns, unshare};
use rtnetlink::{LinkUnspec, LinkVeth};

use crate::kernel::{Events, Netlink};

/// How long to wait for what the kernel does in its own time.
const PATIENCE: Duration = Duration::from_secs(5);

/// Plays `scene` in a new network namespace, on a thread and a runtime of its own.
pub(super) fn in_new_namespace(scene: impl AsyncFnOnce(Netlink, Events) + Send + 'static) {
    let stage = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("root may create network namespaces");
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime can be built")
            .block_on(async {
                let (netlink, events) = Netlink::connect().expect("netlink answers");
                scene(netlink, events).await;
            });
    });
    if let Err(panic) = stage.join() {
        resume_unwind(panic);
    }
}

/// A further network namespace, for the other end of a link.
pub(super) struct Namespace(File);

impl Namespace {
    pub(super) fn new() -> Self {
        let file = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("root may create network namespaces");
            File::open("/proc/thread-self/ns/net").expect("a thread has a network namespace")
        });
        Self(file.join().expect("the thread does not panic"))
    }

    /// Runs `ip` in the namespace.
    pub(super) fn ip(&self, arguments: &str) -> String {
        self.inside(|| ip(arguments))
    }

    /// Has the namespace forward between its interfaces.
    pub(super) fn forward(&self) {
        let enable = || fs::write("/proc/sys/net/ipv4/ip_forward", "1");
        self.inside(enable).expect("root may set sysctls");
    }

    fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).expect("root may enter namespaces");
                act()
            });
            inside.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }
}

/// Runs `ip` with these arguments, separated by spaces, and returns what it prints.
pub(super) fn ip(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .expect("iproute2 is installed");
    assert!(output.status.success(), "ip {arguments}: {output:?}");
    String::from_utf8(output.stdout).expect("ip prints UTF-8")
}

/// Creates a veth pair, both ends up.
pub(super) async fn add_veth(netlink: &Netlink, name: &str, peer: &str) {
    let pair = LinkVeth::new(name, peer).up().build();
    netlink
        .change(
            RouteNetlinkMessage::NewLink(pair),
            NLM_F_CREATE | NLM_F_EXCL,
        )
        .await
        .expect("a veth pair can be created");
    ip(&format!("link set {peer} up"));
}

/// Creates a veth pair, both ends up and the peer in another namespace.
pub(super) async fn add_veth_into(netlink: &Netlink, name: &str, peer: &str, there: &Namespace) {
    add_veth(netlink, name, peer).await;
    let moved = LinkUnspec::new_with_name(peer)
        .setns_by_fd(there.0.as_raw_fd())
        .build();
    netlink
        .change(RouteNetlinkMessage::NewLink(moved), 0)
        .await
        .expect("a link can be moved");
    there.ip(&format!("link set {peer} up"));
}

/// The index of an interface.
pub(super) async fn index_of(netlink: &Netlink, name: &str) -> u32 {
    let links = netlink.links().await.expect("links are listed");
    let link = links.iter().find(|link| link.name == name);
    link.unwrap_or_else(|| panic!("there is no {name}")).index
}

/// Asks again and again until there is an answer.
pub(super) async fn eventually<T>(question: impl AsyncFn() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = question().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "no answer within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
