//! The host sides of pods' interfaces.

use super::{Finding, node::Node, words::some_of};
use crate::kernel::Link;

pub(super) fn judge(node: &Node) -> Vec<Finding> {
    const SUBJECT: &str = "workloads";
    let veths = node.links.iter().filter(|link| is_unknown_veth(node, link));
    let veths: Vec<&str> = veths.map(|link| &*link.name).collect();
    let (interfaces, pods) = (node.workloads.len(), node.pods.len());
    if interfaces == 0 && !veths.is_empty() {
        return vec![
            Finding::warning(SUBJECT, "none")
                .means(format!(
                    "no interface matches `workloads`, but there are veths: {}",
                    some_of(veths)
                ))
                .remedy("`workloads:` with what the host sides of pods' veths are called here"),
        ];
    }
    let found = format!("veths: {interfaces}, pods: {pods}");
    if interfaces > 0 && pods == 0 {
        return vec![
            Finding::warning(SUBJECT, found)
                .means(
                    "no route <address>/32 dev <interface> scope link leads to any of them: these pods \
                     are not carried",
                )
                .remedy("a CNI plugin that routes to each pod, as Calico's does"),
        ];
    }
    vec![Finding::ok(SUBJECT, found)]
}

fn is_unknown_veth(node: &Node, link: &Link) -> bool {
    let is_known = |known: &[Link]| known.iter().any(|known| known.index == link.index);
    link.is_veth() && !is_known(&node.uplinks) && !is_known(&node.workloads)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::Outcome::{self, Ok as Fine, Warning},
        node::Pod,
    };

    fn veth(index: u32) -> Link {
        Link {
            index,
            name: format!("veth{index}"),
            kind: Some("veth".to_owned()),
            ..Link::default()
        }
    }

    fn result(node: &Node) -> Outcome {
        judge(node)[0].result
    }

    #[test]
    fn a_node_without_pods_is_fine() {
        assert_eq!(result(&Node::default()), Fine);
        let of_uplinks_alone = Node {
            links: vec![veth(1)],
            uplinks: vec![veth(1)],
            ..Node::default()
        };
        assert_eq!(result(&of_uplinks_alone), Fine);
    }

    #[test]
    fn veths_that_match_nothing_are_named() {
        let node = Node {
            links: vec![veth(1), veth(2)],
            uplinks: vec![veth(1)],
            ..Node::default()
        };
        let found = &judge(&node)[0];
        assert_eq!(found.result, Warning);
        assert!(found.meaning.as_ref().unwrap().ends_with(": veth2"));
    }

    #[test]
    fn pods_are_found_by_their_routes() {
        let mut node = Node {
            links: vec![veth(2)],
            workloads: vec![veth(2)],
            ..Node::default()
        };
        assert_eq!(result(&node), Warning);
        node.pods.push(Pod {
            address: [10, 0, 0, 1].into(),
            ifindex: 2,
            mac: None,
        });
        assert_eq!(result(&node), Fine);
    }
}
