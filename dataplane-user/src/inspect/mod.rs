//! Reading the pinned maps, with the agent dead or alive.

mod acceleration;
mod diff;
mod envelope;
mod explain;
mod flows;
mod links;
mod lists;
mod maps;
mod mode;
mod monitor;
mod next_hops;
mod output;
mod programs;
mod rows;
mod schema;
mod snapshot;
mod status;
mod watch;

pub use acceleration::{Acceleration, SysctlRow};
pub use diff::{Difference, diff};
pub use envelope::API_VERSION;
pub use explain::{Explanation, FarNode, ICMP, Others, OuterHeader, Question, explain};
pub use flows::{
    DirectionRow, End, FlowRow, Selection, State, count_flows, flows, protocol_name,
    protocol_number, recall,
};
pub use links::{LinkRow, links};
pub use lists::{counter_rows, endpoints, peers, routes, unmirrored};
pub use maps::{MapRow, maps};
pub use mode::mode;
pub use monitor::{
    Capture, HeadingRow, PacketRow, PacketTable, Reader, Request, Side, TowardsRow, listen,
};
pub use next_hops::{NextHopRow, next_hops};
pub use output::{
    Format, Listed, Row, render, render_explanation, render_findings, render_manifest,
    render_status, render_stories,
};
pub use programs::{ProgramRow, programs};
pub use rows::{CounterRow, EndpointRow, PeerRow, RouteRow, UnmirroredRow, WayRow};
pub use schema::schema;
pub use snapshot::{Snapshot, counters};
pub use status::{FillRow, HookRow, Status, fill_rows, status};
pub use watch::{Change, Watch};

pub(crate) use envelope::Single;
pub(crate) use flows::remote;
pub(crate) use output::{render_object, table};
pub(crate) use rows::{interface, kind, optional};
