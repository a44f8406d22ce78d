//! What kube-proxy writes in its mode `nftables`, as nft(8) reads it.
//!
//! Read from the sources of Kubernetes 1.33.

use super::service::{
    AFFINITY_SECONDS, CLUSTER_CIDR, MASQUERADE_MARK as MARK, PORT_NAME, SERVICE_CIDR, Service, hash,
};
use crate::Node;

/// The table for `services` on `node`.
pub(super) fn rules(node: &Node, services: &[Service]) -> String {
    let endpoints = services.iter().map(endpoint_chains);
    let chains: String = endpoints
        .chain(services.iter().map(service_chains))
        .collect();
    format!(
        "table ip kube-proxy {{\n\
           comment \"rules for kube-proxy\"\n\
           {chains}\
           {}{}{}{}\
         }}\n",
        sets(node, services),
        base_chains(),
        checks(),
        translation(),
    )
}

/// The addresses and ports of all Services, and where each leads.
fn sets(node: &Node, services: &[Service]) -> String {
    let each = |element: &dyn Fn(&Service) -> String| {
        let elements: Vec<String> = services.iter().map(element).collect();
        elements.join(", ")
    };
    let cluster_ips = each(&|service| service.cluster_ip.to_string());
    let service_ips = each(&|service| {
        let Service {
            cluster_ip, port, ..
        } = service;
        format!(
            "{cluster_ip} . {} . {port} : goto service-{}",
            service.protocol.word(),
            base(service)
        )
    });
    let node_ports = each(&|service| {
        format!(
            "{} . {} : goto external-{}",
            service.protocol.word(),
            service.node_port,
            base(service)
        )
    });
    format!(
        "set cluster-ips {{ type ipv4_addr; elements = {{ {cluster_ips} }} }}\n\
         set nodeport-ips {{ type ipv4_addr; elements = {{ {} }} }}\n\
         map firewall-ips {{ type ipv4_addr . inet_proto . inet_service : verdict; }}\n\
         map no-endpoint-services {{ type ipv4_addr . inet_proto . inet_service : verdict; }}\n\
         map no-endpoint-nodeports {{ type inet_proto . inet_service : verdict; }}\n\
         map service-ips {{\n\
           type ipv4_addr . inet_proto . inet_service : verdict\n\
           elements = {{ {service_ips} }}\n\
         }}\n\
         map service-nodeports {{\n\
           type inet_proto . inet_service : verdict\n\
           elements = {{ {node_ports} }}\n\
         }}\n",
        node.address().addr()
    )
}

/// Where the kernel calls upon it.
fn base_chains() -> &'static str {
    "chain filter-prerouting-pre-dnat {\n\
       type filter hook prerouting priority -110\n\
       ct state new jump firewall-check\n\
     }\n\
     chain filter-output-pre-dnat {\n\
       type filter hook output priority -110\n\
       ct state new jump firewall-check\n\
     }\n\
     chain filter-forward {\n\
       type filter hook forward priority 0\n\
       ct state new jump service-endpoints-check\n\
       ct state new jump cluster-ips-check\n\
     }\n\
     chain filter-input {\n\
       type filter hook input priority 0\n\
       ct state new jump nodeport-endpoints-check\n\
       ct state new jump service-endpoints-check\n\
     }\n\
     chain filter-output {\n\
       type filter hook output priority 0\n\
       ct state new jump service-endpoints-check\n\
       ct state new jump cluster-ips-check\n\
     }\n\
     chain nat-prerouting { type nat hook prerouting priority -100; jump services; }\n\
     chain nat-output { type nat hook output priority -100; jump services; }\n\
     chain nat-postrouting { type nat hook postrouting priority 100; jump masquerading; }\n"
}

/// What is refused: addresses and ports that no Service has.
fn checks() -> String {
    format!(
        "chain firewall-check {{ ip daddr . meta l4proto . th dport vmap @firewall-ips; }}\n\
         chain service-endpoints-check {{\n\
           ip daddr . meta l4proto . th dport vmap @no-endpoint-services\n\
         }}\n\
         chain nodeport-endpoints-check {{\n\
           ip daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports\n\
         }}\n\
         chain cluster-ips-check {{\n\
           ip daddr @cluster-ips reject\n\
           ip daddr {{ {SERVICE_CIDR} }} drop\n\
         }}\n"
    )
}

/// From addresses to Services, and the way out of what is marked.
fn translation() -> String {
    format!(
        "chain services {{\n\
           ip daddr . meta l4proto . th dport vmap @service-ips\n\
           ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports\n\
         }}\n\
         chain mark-for-masquerade {{ meta mark set meta mark or {MARK}; }}\n\
         chain masquerading {{\n\
           meta mark and {MARK} == 0 return\n\
           meta mark set meta mark xor {MARK}\n\
           masquerade fully-random\n\
         }}\n"
    )
}

/// From a Service to its endpoints: whoever had the client's last connection, or one at random.
fn service_chains(service: &Service) -> String {
    let (base, cluster_ip) = (base(service), service.cluster_ip);
    let endpoints: Vec<String> = endpoints(service).collect();
    let affinity: Vec<String> = endpoints
        .iter()
        .filter(|_| service.affinity)
        .map(|endpoint| format!("ip saddr @affinity-{endpoint} goto endpoint-{endpoint}\n"))
        .collect();
    let ways: Vec<String> = endpoints
        .iter()
        .enumerate()
        .map(|(index, endpoint)| format!("{index} : goto endpoint-{endpoint}"))
        .collect();
    format!(
        "chain service-{base} {{\n\
           ip daddr {cluster_ip} ip saddr != {CLUSTER_CIDR} jump mark-for-masquerade\n\
           {}\
           numgen random mod {} vmap {{ {} }}\n\
         }}\n\
         chain external-{base} {{\n\
           jump mark-for-masquerade\n\
           goto service-{base}\n\
         }}\n",
        affinity.concat(),
        ways.len(),
        ways.join(", ")
    )
}

/// What is done for each endpoint. One that got its own request would answer itself directly.
fn endpoint_chains(service: &Service) -> String {
    let names = endpoints(service);
    let protocol = service.protocol.word();
    let chains = service.endpoints.iter().zip(names).map(|(address, name)| {
        let (set, update) = if service.affinity {
            affinity(&name)
        } else {
            (String::new(), String::new())
        };
        format!(
            "{set}\
             chain endpoint-{name} {{\n\
               ip saddr {} jump mark-for-masquerade\n\
               {update}\
               meta l4proto {protocol} dnat to {address}\n\
             }}\n",
            address.ip()
        )
    });
    chains.collect()
}

/// Who remembers an endpoint's clients, and what has them remembered.
fn affinity(endpoint: &str) -> (String, String) {
    let set = format!(
        "set affinity-{endpoint} {{\n\
           type ipv4_addr\n\
           flags dynamic, timeout\n\
           timeout {AFFINITY_SECONDS}s\n\
         }}\n"
    );
    (set, format!("update @affinity-{endpoint} {{ ip saddr }}\n"))
}

/// What the names of a Service's chains have in common.
fn base(service: &Service) -> String {
    let name = format!(
        "default/{}/{}/{PORT_NAME}",
        service.name,
        service.protocol.word()
    );
    format!("{}-{name}", hash(&name, 8))
}

/// What the names of its endpoints' chains and sets have in common.
fn endpoints(service: &Service) -> impl Iterator<Item = String> {
    service.endpoints.iter().map(|endpoint| {
        let (address, port) = (endpoint.ip(), endpoint.port());
        let name = format!(
            "default/{}/{}/{PORT_NAME}__{address}/{port}",
            service.name,
            service.protocol.word()
        );
        format!("{}-{name}", hash(&name, 8))
    })
}
