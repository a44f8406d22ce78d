//! The command lines whose output is kept.

/// A command line, in every form of output that its command has.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The words that name the command.
    pub command: &'static str,
    /// What follows them. `{dir}` and `{pins}` are the node's directories, `{client}` and `{server}` the
    /// ports of a connection between its pods.
    pub arguments: &'static str,
    /// What it is told by from others of its command.
    name: &'static str,
    /// Of a list, only rows with this word are kept.
    pub keeping: Option<&'static str>,
    /// So many lines are kept.
    pub lines: usize,
    /// Whether it is the default form alone that is kept.
    pub is_one_form: bool,
}

const fn run(command: &'static str, arguments: &'static str) -> Case {
    Case {
        command,
        arguments,
        name: "",
        keeping: None,
        lines: usize::MAX,
        is_one_form: false,
    }
}

/// What says the same in every form.
const fn refused(command: &'static str, arguments: &'static str, name: &'static str) -> Case {
    Case {
        is_one_form: true,
        ..run(command, arguments).named(name)
    }
}

impl Case {
    const fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    const fn keeping(self, word: &'static str) -> Self {
        Self {
            keeping: Some(word),
            ..self
        }
    }

    const fn lines(self, lines: usize) -> Self {
        Self { lines, ..self }
    }

    /// The name of its files, without what says the form.
    pub fn stem(&self) -> String {
        let words = self.command.split(' ').chain([self.name]);
        let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
        words.join("-")
    }
}

/// While the agent runs and a connection between both pods is carried. To keep a command's output, add a
/// line, and renew the files as CONTRIBUTING.md says.
pub const WITH_AGENT: &[Case] = &[
    run("", "--help").named("help"),
    run("status", ""),
    run("routes list", ""),
    run("routes get", "10.244.1.2"),
    run("routes watch", ""),
    run("next-hops list", ""),
    run("next-hops get", "192.168.1.11"),
    run("next-hops watch", ""),
    run("endpoints list", ""),
    run("endpoints get", "10.244.0.2"),
    run("endpoints watch", ""),
    run("peers list", ""),
    run("peers get", "192.168.1.12"),
    run("peers watch", ""),
    run("flows list", ""),
    run("flows get", "10.244.0.2 10.244.0.3"),
    run("flows watch", ""),
    run("counters", "").keeping("delivered-local"),
    run("counters list", "").keeping("delivered-local"),
    run("counters get", "no-route"),
    run("counters watch", "").keeping("delivered-local"),
    run("links list", ""),
    run("links get", "eth0"),
    run("links watch", ""),
    run("maps list", ""),
    run("maps get", "ROUTES"),
    run("maps watch", ""),
    run("programs list", ""),
    run("programs get", "from_uplink"),
    run("programs watch", ""),
    run("diff", ""),
    run(
        "explain",
        "10.244.0.2 10.244.1.2 --proto tcp --sport 40000 --dport 80",
    )
    .named("vxlan"),
    run(
        "explain",
        "10.244.0.2 10.244.2.2 --proto udp --sport 40000 --dport 53",
    )
    .named("ipip"),
    run("explain", "10.244.0.2 10.244.3.2").named("direct"),
    run("explain", "10.244.1.2 10.244.0.2").named("inbound"),
    run("explain", "10.244.0.2 203.0.113.9").named("outside"),
    run(
        "explain",
        "10.244.0.2 10.244.0.3 --proto tcp --sport {client} --dport {server}",
    )
    .named("accelerated"),
    run("schema", "").lines(8),
    run("completion", "bash").lines(3).named("bash"),
    run("completion", "fish").lines(3).named("fish"),
    run("completion", "zsh").lines(3).named("zsh"),
    run("man", ""),
    run("detach", "--dry-run").named("dry-run"),
    // What is not there.
    refused("routes get", "10.9.9.9", "not-found"),
    refused("routes get", "10.244.0.0/16", "not-found-prefix"),
    refused("next-hops get", "192.168.1.99", "not-found"),
    refused("endpoints get", "10.9.9.9", "not-found"),
    refused("peers get", "192.168.1.99", "not-found"),
    refused("flows get", "10.9.9.9 10.9.9.8", "not-found"),
    refused("counters get", "from_nowhere", "not-found"),
    refused("links get", "eth9", "not-found"),
    refused("maps get", "NOWHERE", "not-found"),
    refused("programs get", "from_nowhere", "not-found"),
    // What is wrong with the arguments.
    refused("", "nonsense", "usage-command"),
    refused("routes get", "10.0.0.1/8", "usage-prefix"),
    refused("counters watch", "--interval soon", "usage-interval"),
    refused("explain", "10.244.0.2", "usage-missing"),
    refused(
        "explain",
        "10.244.0.2 10.244.1.2 --proto tcp",
        "usage-ports",
    ),
    // What is wrong with the node.
    refused("routes list", "--pins {pins}/none", "nothing-pinned"),
    refused("routes list", "--config {dir}/missing.yaml", "no-config"),
    refused("routes list", "--config {dir}/broken.yaml", "broken-config"),
    refused("routes list", "--unmirrored", "unmirrored"),
    refused(
        "diff",
        "--config {dir}/broken-cluster.yaml",
        "broken-cluster",
    ),
    refused("agent", "--config {dir}/broken.yaml", "broken-config"),
    refused("agent", "", "second"),
    refused("prepare", "", "second"),
    refused("detach", "", "agent-running"),
];

/// When every flow is to be seen anew, of which packets come no more.
pub const FLUSHED: &[Case] = &[
    run("flows flush", ""),
    run("flows list", "").named("flushed"),
    run(
        "explain",
        "10.244.0.2 10.244.0.3 --proto tcp --sport {client} --dport {server}",
    )
    .named("revoked"),
    run(
        "monitor",
        "--hook from_workload --protocol udp --port 9 --limit 1",
    ),
];

/// When the agent is dead, and its cluster file has changed.
pub const WITHOUT_AGENT: &[Case] = &[
    run("status", "").named("without-agent"),
    run("diff", "").named("different"),
    refused("detach", "", "done"),
];

/// What these print is the machine's, or the moment's: tests of their own look at it.
pub const ELSEWHERE: &[&str] = &["bugtool", "check", "top"];
