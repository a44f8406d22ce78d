//! Why a packet went where it went.
//!
//! One [`Reason`] is the error type of parsing and deciding, the index of the counter, the label of
//! the metric and the word the command line prints. Every packet counts once at each hook it passes.

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// A program carried it on.
    Forward,
    /// It went to the host's network stack.
    Stack,
    /// It was dropped.
    Drop,
}

impl Action {
    /// The word that is printed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Stack => "stack",
            Self::Drop => "drop",
        }
    }
}

macro_rules! reasons {
    ($($variant:ident $action:ident $name:literal $description:literal)+) => {
        /// Why a packet was forwarded, left to the stack or dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Reason {
            $(#[doc = $description] $variant,)+
        }

        impl Reason {
            /// Every reason, in the order of its number.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// What happens to a packet for this reason: the one place that says so.
            #[inline(always)]
            #[must_use]
            pub const fn action(self) -> Action {
                match self {
                    $(Self::$variant => Action::$action,)+
                }
            }

            /// The word that is printed, and the label of the metric.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// One line for a person.
            #[must_use]
            pub const fn description(self) -> &'static str {
                match self {
                    $(Self::$variant => $description,)+
                }
            }
        }
    };
}

reasons! {
    ArpAnswered Forward "arp-answered" "a pod asked for its gateway and was answered"
    DeliveredLocal Forward "delivered-local" "from a pod to a pod on this node"
    SentDirect Forward "sent-direct" "to another node without encapsulation"
    SentIpip Forward "sent-ipip" "to another node by IPIP"
    SentVxlan Forward "sent-vxlan" "to another node by VXLAN"
    ReceivedDirect Forward "received-direct" "from another node without encapsulation, to a pod"
    ReceivedIpip Forward "received-ipip" "from another node by IPIP, to a pod"
    ReceivedVxlan Forward "received-vxlan" "from another node by VXLAN, to a pod"

    TakenOut Forward "taken-out" "taken out of its tunnel by XDP; traffic control has it next"
    Detour Forward "detour" "from the stack, by the carrier's ingress: the neighbour is not resolved"
    CutUp Forward "cut-up" "to another node, by the carrier, which cuts up what came in a tunnel as one"

    NoConfig Stack "no-config" "the agent has not written the configuration yet"
    ArpOther Stack "arp-other" "ARP that is not a pod's question for its gateway"
    NotIpv4 Stack "not-ipv4" "a frame that does not hold IPv4"
    OtherHost Stack "other-host" "the frame is addressed to another interface, or to many"
    VlanTag Stack "vlan-tag" "the frame has a VLAN tag"
    Malformed Stack "malformed" "the IP header contradicts itself or the frame"
    HeaderChecksum Stack "header-checksum" "the IP header's checksum is wrong"
    BigTcp Stack "big-tcp" "a packet longer than its length field can say"
    Options Stack "ip-options" "the IP header has options"
    Fragment Stack "fragment" "a fragment of an IP packet"
    TtlExpired Stack "ttl-expired" "the TTL would reach zero; the stack answers"
    TooBig Stack "too-big" "longer than the path's MTU; the stack fragments or answers"
    Multicast Stack "multicast" "multicast, broadcast, or to an address that no host has"
    NoRoute Stack "no-route" "no route in the table"
    LocalAddress Stack "local-address" "an address of this node that is not a pod's"
    NextHopUnset Stack "next-hop-unset" "the route's next hop is not written"
    Unresolved Stack "unresolved" "the pod's Ethernet address is not known yet; the stack resolves it"
    InterfaceGone Stack "interface-gone" "the pod's interface was deleted; the stack knows who has its address now"
    Hairpin Stack "hairpin" "from a pod to itself"
    UnsupportedGso Stack "unsupported-gso" "a segmentation offload other than TCP and UDP"
    NoRoom Stack "no-room" "the kernel did not make room for the outer headers"
    NoCarrier Stack "no-carrier" "only the carrier could send it, and there is none; the stack sends it"
    NoMetadata Stack "no-metadata" "no room for XDP metadata; traffic control opens the tunnel"
    NotForHost Stack "not-for-host" "from the wire, not to this node's own address; traffic control has it next"
    NotForPod Stack "not-for-pod" "from the wire, to something that is not a local pod"
    SourceOutside Stack "source-outside" "from the wire to a pod, from where no direct route leads"
    NotOurTunnel Stack "not-our-tunnel" "another VXLAN network, or not VXLAN at all"
    OuterChecksum Stack "outer-checksum" "the outer UDP checksum is not verified yet; the stack does it"
    UdpAggregate Stack "udp-aggregate" "UDP in VXLAN, many datagrams in one; the stack takes it out"
    ForHost Stack "for-host" "out of a tunnel, for this node's own stack"
    InnerNotIpv4 Stack "inner-not-ipv4" "a VXLAN frame that does not hold IPv4"
    InnerOtherHost Stack "inner-other-host" "a VXLAN frame for another VTEP"
    KernelEncap Stack "kernel-encap" "VXLAN that the kernel's device encapsulates"
    UnlistedPeer Stack "unlisted-peer" "a tunnel packet from where no tunnel of ours leads; the stack's"
    OwnerUnknown Stack "owner-unknown" "in a tunnel, from an address whose one owner no route tells; the stack's"
    Accepted Stack "accepted" "out of a tunnel, found right, left to the stack"

    NotAFlow Stack "not-a-flow" "of a protocol whose flows are not followed; the stack's"
    Handshake Stack "handshake" "opens, closes or resets a connection; the stack's"
    NotEstablished Stack "not-established" "the stack has not yet let its flow through both ways, unchanged"
    Reverify Stack "reverify" "the stack sees its flow again: the period is over, or rules or routes changed"
    Unmarked Stack "unmarked" "leaves the stack, and no flow is learned from it"
    Verified Stack "verified" "the stack let it through as it came"
    Translated Stack "translated" "the stack changed its addresses or ports, or rules, routes or the connection changed meanwhile"

    SpoofedSource Drop "spoofed-source" "a pod sent from an address that is not, or not yet known as, its own"
    WorkloadTunnel Drop "workload-tunnel" "a pod sent IPIP or VXLAN itself"
    Blackhole Drop "blackhole" "a blackhole route"
    UnknownPeer Drop "unknown-peer" "a tunnel packet from an address that is no node's"
    Martian Drop "martian" "out of a tunnel, from or to an address that no host has (RFC 1812)"
    ForeignSource Drop "foreign-source" "the inner source does not belong to the node that sent it"
    ForeignDestination Drop "foreign-destination" "the inner destination is not on this node"
    NestedTunnel Drop "nested-tunnel" "a tunnel in a tunnel, for this node to open"
    InnerMalformed Drop "inner-malformed" "the inner IP header contradicts itself or the frame"
    NotInner Drop "not-inner" "out of a tunnel, and not plain IPv4"
    Congestion Drop "congestion" "congestion was marked on a flow that does not understand it (RFC 6040)"
    WrongNetwork Drop "wrong-network" "the kernel's device decapsulated another VXLAN network"
    WrongEndpoint Drop "wrong-endpoint" "a tunnel packet to another address than the node's own"
    Rewrite Drop "rewrite" "the headers were out of reach after room was made"
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn numbers_are_places_in_all_and_names_are_unique() {
        let mut names = BTreeSet::new();
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
            assert!(names.insert(reason.name()), "{} twice", reason.name());
        }
    }
}
