//! What kube-proxy writes in its mode `iptables`, as iptables-restore(8) reads it.
//!
//! Read from the sources of Kubernetes 1.33.

use std::fmt::Write as _;

use super::service::{
    AFFINITY_SECONDS, CLUSTER_CIDR, MASQUERADE_MARK as MARK, PORT_NAME, Service, hash,
};

/// The rules for `services`, and all that leads to them.
pub(super) fn rules(services: &[Service]) -> String {
    filter_table() + &nat_table(services)
}

/// What is let pass whatever the forwarding policy, and what is not: without a connection that it
/// could be of, a packet would leave untranslated.
fn filter_table() -> String {
    format!(
        "*filter\n\
         :KUBE-FORWARD - [0:0]\n\
         :KUBE-FIREWALL - [0:0]\n\
         :KUBE-NODEPORTS - [0:0]\n\
         :KUBE-SERVICES - [0:0]\n\
         :KUBE-EXTERNAL-SERVICES - [0:0]\n\
         :KUBE-PROXY-FIREWALL - [0:0]\n\
         -A INPUT -m conntrack --ctstate NEW -m comment --comment \"load balancer firewall\" \
           -j KUBE-PROXY-FIREWALL\n\
         -A INPUT -m comment --comment \"health check service ports\" -j KUBE-NODEPORTS\n\
         -A INPUT -m conntrack --ctstate NEW -m comment --comment \"external service portals\" \
           -j KUBE-EXTERNAL-SERVICES\n\
         -A INPUT -j KUBE-FIREWALL\n\
         -A FORWARD -m conntrack --ctstate NEW -m comment --comment \"load balancer firewall\" \
           -j KUBE-PROXY-FIREWALL\n\
         -A FORWARD -m comment --comment \"forwarding rules\" -j KUBE-FORWARD\n\
         -A FORWARD -m conntrack --ctstate NEW -m comment --comment \"service portals\" \
           -j KUBE-SERVICES\n\
         -A FORWARD -m conntrack --ctstate NEW -m comment --comment \"external service portals\" \
           -j KUBE-EXTERNAL-SERVICES\n\
         -A OUTPUT -m conntrack --ctstate NEW -m comment --comment \"load balancer firewall\" \
           -j KUBE-PROXY-FIREWALL\n\
         -A OUTPUT -m conntrack --ctstate NEW -m comment --comment \"service portals\" \
           -j KUBE-SERVICES\n\
         -A OUTPUT -j KUBE-FIREWALL\n\
         -A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 \
           -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP\n\
         -A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP\n\
         -A KUBE-FORWARD -m mark --mark {MARK}/{MARK} -j ACCEPT\n\
         -A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
         COMMIT\n"
    )
}

fn nat_table(services: &[Service]) -> String {
    let names: Vec<Chains> = services.iter().map(Chains::of).collect();
    let mut table = "*nat\n\
         :KUBE-SERVICES - [0:0]\n\
         :KUBE-NODEPORTS - [0:0]\n\
         :KUBE-POSTROUTING - [0:0]\n\
         :KUBE-MARK-MASQ - [0:0]\n"
        .to_owned();
    for chain in names.iter().flat_map(Chains::all) {
        add(&mut table, format_args!(":{chain} - [0:0]"));
    }
    add(&mut table, masquerading());
    for (service, chains) in services.iter().zip(&names) {
        add_portals(&mut table, service, chains);
        add_balancing(&mut table, service, chains);
        add_endpoints(&mut table, service, chains);
    }
    // The last of its chain: addresses of the node come behind those of Services.
    add(
        &mut table,
        "-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS",
    );
    add(&mut table, "COMMIT");
    table
}

/// The ways in, and the way out of what is marked.
fn masquerading() -> String {
    format!(
        "-A PREROUTING -m comment --comment \"service portals\" -j KUBE-SERVICES\n\
         -A OUTPUT -m comment --comment \"service portals\" -j KUBE-SERVICES\n\
         -A POSTROUTING -m comment --comment \"postrouting rules\" -j KUBE-POSTROUTING\n\
         -A KUBE-POSTROUTING -m mark ! --mark {MARK}/{MARK} -j RETURN\n\
         -A KUBE-POSTROUTING -j MARK --xor-mark {MARK}\n\
         -A KUBE-POSTROUTING -m comment --comment \"requires SNAT\" -j MASQUERADE --random-fully\n\
         -A KUBE-MARK-MASQ -j MARK --or-mark {MARK}"
    )
}

/// Where its packets are recognised: by its virtual address, and by its port at the node's.
fn add_portals(table: &mut String, service: &Service, chains: &Chains) {
    let Chains { svc, ext, name, .. } = chains;
    let Service {
        cluster_ip,
        port,
        node_port,
        ..
    } = service;
    let protocol = service.protocol.word();
    add(
        table,
        format_args!(
            "-A KUBE-SERVICES -d {cluster_ip}/32 -p {protocol} -m comment --comment \"{name} cluster IP\" \
             -m {protocol} --dport {port} -j {svc}\n\
             -A KUBE-NODEPORTS -p {protocol} -m comment --comment \"{name}\" \
             -m {protocol} --dport {node_port} -j {ext}\n\
             -A {ext} -m comment --comment \"{name} external destinations\" -j KUBE-MARK-MASQ\n\
             -A {ext} -j {svc}\n\
             -A {svc} ! -s {CLUSTER_CIDR} -d {cluster_ip}/32 -p {protocol} -m comment \
             --comment \"{name} cluster IP\" -m {protocol} --dport {port} -j KUBE-MARK-MASQ"
        ),
    );
}

/// Who gets a new connection: whoever had the client's last one, or one at random.
fn add_balancing(table: &mut String, service: &Service, chains: &Chains) {
    let Chains {
        svc, seps, name, ..
    } = chains;
    if service.affinity {
        for sep in seps {
            add(
                table,
                format_args!(
                    "-A {svc} -m comment --comment \"{name}\" -m recent --name {sep} --rcheck \
                     --seconds {AFFINITY_SECONDS} --reap -j {sep}"
                ),
            );
        }
    }
    for (index, sep) in seps.iter().enumerate() {
        // Of those that are left, each is as likely.
        let chance = match seps.len() - index {
            1 => String::new(),
            left => {
                #[expect(clippy::cast_precision_loss, reason = "a handful of endpoints")]
                let probability = 1.0 / left as f64;
                format!("-m statistic --mode random --probability {probability:.10}")
            }
        };
        add(
            table,
            format_args!("-A {svc} -m comment --comment \"{name}\" {chance} -j {sep}"),
        );
    }
}

/// What is done for each endpoint. One that got its own request would answer itself directly.
fn add_endpoints(table: &mut String, service: &Service, chains: &Chains) {
    let Chains { seps, name, .. } = chains;
    let protocol = service.protocol.word();
    for (endpoint, sep) in service.endpoints.iter().zip(seps) {
        let remember = if service.affinity {
            format!("-m recent --name {sep} --set")
        } else {
            String::new()
        };
        add(
            table,
            format_args!(
                "-A {sep} -s {}/32 -m comment --comment \"{name}\" -j KUBE-MARK-MASQ\n\
                 -A {sep} -p {protocol} -m comment --comment \"{name}\" {remember} -m {protocol} \
                 -j DNAT --to-destination {endpoint}",
                endpoint.ip()
            ),
        );
    }
}

/// The names of a Service's chains.
struct Chains {
    /// The Service, as comments call it.
    name: String,
    /// To its endpoints.
    svc: String,
    /// From outside.
    ext: String,
    /// To each endpoint.
    seps: Vec<String>,
}

impl Chains {
    fn of(service: &Service) -> Self {
        let name = format!("default/{}:{PORT_NAME}", service.name);
        let protocol = service.protocol.word();
        let hashed = hash(&format!("{name}{protocol}"), 16);
        let sep = |endpoint| {
            let of = format!("{name}{protocol}{endpoint}");
            format!("KUBE-SEP-{}", hash(&of, 16))
        };
        Self {
            svc: format!("KUBE-SVC-{hashed}"),
            ext: format!("KUBE-EXT-{hashed}"),
            seps: service.endpoints.iter().map(sep).collect(),
            name,
        }
    }

    fn all(&self) -> impl Iterator<Item = &String> {
        [&self.svc, &self.ext].into_iter().chain(&self.seps)
    }
}

fn add(table: &mut String, lines: impl std::fmt::Display) {
    writeln!(table, "{lines}").expect("write into a string");
}
