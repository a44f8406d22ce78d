//! How the flow of a packet stands, in words.

use dataplane_common::reason::Reason;

use super::{ICMP, Question};
use crate::inspect::FlowRow;

/// How the flow stands of a packet that could be carried, and with which `reason` that is decided.
pub(super) fn standing(
    question: &Question,
    flow: Option<&FlowRow>,
    reason: Option<Reason>,
) -> String {
    match flow {
        _ if reason == Some(Reason::NotAFlow) => {
            "it is of no flow that could be followed, and is never carried".to_owned()
        }
        Some(flow) => {
            let why = flow.why.iter().map(|why| format!(": {why}"));
            format!(
                "its flow is {}{}",
                flow.state.name(),
                why.collect::<String>()
            )
        }
        None if question.protocol == ICMP => format!(
            "echoes of each identifier are a flow of their own, and this is the first of one \
             (`underpass flows get {} {} --protocol icmp` has those that there are)",
            question.source, question.destination
        ),
        None => "nothing is remembered of its flow: it is carried once the stack has let it \
                 through both ways"
            .to_owned(),
    }
}
