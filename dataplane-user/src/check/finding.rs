//! What was found, and what it comes to.

use schemars::JsonSchema;
use serde::Serialize;

use super::words::brief;
use crate::inspect::{Listed, Row};

/// Something that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What was looked at.
    pub subject: String,
    /// Whether underpass works with it.
    pub result: Outcome,
    /// How it is.
    pub found: String,
    /// What that means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meaning: Option<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// Whether underpass works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It does.
    Ok,
    /// It does, but not as well as it might, or it is not known whether it does.
    Warning,
    /// It does not.
    Fails,
}

impl Outcome {
    /// The word that is printed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Fails => "fails",
        }
    }
}

impl Finding {
    pub(super) fn ok(subject: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(subject, Outcome::Ok, found)
    }

    pub(super) fn warning(subject: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(subject, Outcome::Warning, found)
    }

    pub(super) fn fails(subject: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(subject, Outcome::Fails, found)
    }

    /// The agent would refuse, in these words, which also say what to do.
    pub(super) fn refused(
        subject: impl Into<String>,
        found: impl Into<String>,
        error: &anyhow::Error,
    ) -> Self {
        Self::fails(subject, found).means(brief(error))
    }

    /// It could not be looked at.
    pub(super) fn unknown(subject: impl Into<String>, error: &anyhow::Error) -> Self {
        Self::warning(subject, "not known").means(brief(error))
    }

    pub(super) fn means(mut self, meaning: impl Into<String>) -> Self {
        self.meaning = Some(meaning.into());
        self
    }

    pub(super) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    fn new(subject: impl Into<String>, result: Outcome, found: impl Into<String>) -> Self {
        Self {
            subject: subject.into(),
            result,
            found: found.into(),
            meaning: None,
            remedy: None,
        }
    }
}

impl Row for Finding {
    const COLUMNS: &'static [&'static str] = &["SUBJECT", "RESULT", "FOUND"];
    const MORE: &'static [&'static str] = &["MEANING", "REMEDY"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.subject.clone(),
            self.result.name().to_owned(),
            self.found.clone(),
        ]
    }

    fn more(&self) -> Vec<String> {
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        vec![or_none(&self.meaning), or_none(&self.remedy)]
    }
}

impl Listed for Finding {
    const KIND: &'static str = "Finding";

    fn key(&self) -> String {
        self.subject.clone()
    }

    fn says_as(&self, other: &Self) -> bool {
        self == other
    }
}
