//! What this process may do.

use anyhow::Result;

use super::Finding;

pub(super) fn judge(checked: Result<()>) -> Finding {
    const SUBJECT: &str = "capabilities";
    match checked {
        Ok(()) => Finding::ok(SUBJECT, "all that the agent needs"),
        Err(error) => Finding::refused(SUBJECT, "some are missing", &error),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;
    use crate::check::Outcome;

    #[test]
    fn what_is_missing_is_told_in_the_agents_words() {
        assert_eq!(judge(Ok(())).result, Outcome::Ok);
        let missing = judge(Err(anyhow!("the agent lacks CAP_NET_ADMIN")));
        assert_eq!(missing.result, Outcome::Fails);
        assert_eq!(
            missing.meaning.as_deref(),
            Some("the agent lacks CAP_NET_ADMIN")
        );
    }
}
