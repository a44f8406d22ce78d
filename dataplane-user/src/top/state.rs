//! What is on the screen, and what was chosen of it.

use std::time::Duration;

use super::{
    history::History,
    rates::rates,
    report::{Sort, Top},
    sample::Sample,
};

/// The state of the dashboard.
#[derive(Debug)]
pub struct State {
    /// Whose it is: the name of the node.
    pub node: String,
    /// How often it is looked.
    pub interval: Duration,
    /// What is in which order.
    pub sort: Sort,
    /// Only rows with this text are shown.
    pub filter: String,
    /// Whether the filter is being typed.
    pub is_typing: bool,
    /// Whether the help is shown.
    pub has_help: bool,
    /// The panel that is scrolled.
    pub panel: Panel,
    /// How many of its rows are above what is shown.
    pub scrolled: usize,
    last: Option<Sample>,
    live: Shown,
    /// What was shown when it was paused.
    paused: Option<Shown>,
}

/// What is shown: rates, and those before; or why there are none.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// The rates, once they have been read.
    pub top: Option<Top>,
    /// The rates before.
    pub history: History,
    /// Why nothing could be read.
    pub failure: Option<String>,
}

/// A part of the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Panel {
    /// Rates by hook and mode.
    Traffic,
    /// What is dropped or left to the stack.
    Reasons,
    /// The other nodes.
    Peers,
    /// The pods.
    Endpoints,
    /// The maps.
    Maps,
}

impl Panel {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] = [
        Self::Traffic,
        Self::Reasons,
        Self::Peers,
        Self::Endpoints,
        Self::Maps,
    ];

    /// What it is called.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Traffic => "1 Traffic",
            Self::Reasons => "2 Dropped, left to the stack",
            Self::Peers => "3 Peers",
            Self::Endpoints => "4 Pods",
            Self::Maps => "5 Maps",
        }
    }

    /// The one so many further on, round and round.
    #[must_use]
    pub fn further(self, by: usize) -> Self {
        Self::ALL[(self as usize + by) % Self::ALL.len()]
    }
}

impl State {
    /// Nothing has been read yet.
    #[must_use]
    pub fn new(node: &str, interval: Duration, sort: Sort, filter: &str) -> Self {
        Self {
            node: node.to_owned(),
            interval,
            sort,
            filter: filter.to_owned(),
            is_typing: false,
            has_help: false,
            panel: Panel::Traffic,
            scrolled: 0,
            last: None,
            live: Shown::default(),
            paused: None,
        }
    }

    /// Takes in what was read now, paused or not. The first there is, and the first after a failure,
    /// has no rates yet.
    pub fn take(&mut self, sample: Sample) {
        let before = self.last.as_ref();
        let top = rates(before.unwrap_or(&sample), &sample);
        if before.is_some() {
            self.live.history.push(&top);
        }
        self.live.top = Some(top);
        self.live.failure = None;
        self.last = Some(sample);
    }

    /// Takes in that nothing could be read, and why.
    pub fn fail(&mut self, why: String) {
        self.last = None;
        self.live = Shown {
            failure: Some(why),
            ..Shown::default()
        };
    }

    /// Stops what is shown where it is, or goes on with what is now.
    pub fn pause(&mut self) {
        self.paused = match self.paused {
            Some(_) => None,
            None => Some(self.live.clone()),
        };
    }

    /// Whether what is shown is not what is now.
    #[must_use]
    pub const fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    /// What is shown.
    #[must_use]
    pub fn shown(&self) -> &Shown {
        self.paused.as_ref().unwrap_or(&self.live)
    }

    /// The rates that are shown, as they were chosen.
    #[must_use]
    pub fn arranged(&self) -> Option<Top> {
        let top = self.shown().top.as_ref()?;
        Some(top.arranged(self.sort, &self.filter))
    }

    /// How many rows there are in the panel that is scrolled.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.arranged().map_or(0, |top| match self.panel {
            Panel::Traffic => top.traffic.len(),
            Panel::Reasons => top.reasons.len(),
            Panel::Peers => top.peers.len(),
            Panel::Endpoints => top.endpoints.len(),
            Panel::Maps => top.maps.len(),
        })
    }
}
