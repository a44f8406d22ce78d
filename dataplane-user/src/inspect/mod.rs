//! Reading the pinned maps, with the agent dead or alive.

mod acceleration;
mod diff;
mod explain;
mod flows;
mod output;
mod rows;
mod snapshot;
mod status;

pub use acceleration::{Acceleration, SysctlRow};
pub use diff::{Difference, diff};
pub use explain::{Explanation, explain};
pub use flows::{
    DirectionRow, End, FlowRow, Selection, State, count_flows, flows, protocol_number,
};
pub use output::{Format, Row, render, render_explanation, render_status, render_stories};
pub use rows::{CounterRow, EndpointRow, PeerRow, RouteRow, UnmirroredRow, WayRow};
pub use snapshot::{Snapshot, counters};
pub use status::{HookRow, MapRow, Status, status};
