//! Long lists of routes as nearly everybody writes them, read line by line: a YAML parser takes
//! several times as long.
//!
//! What is read here can mean nothing else in YAML. Whatever is written in another way, or is wrong
//! in any way, is not taken, and reading all of the file as YAML says what is wrong and where.

/// `text` without its list of routes, and the list; `None` if any of it is written in another way
/// than `- {cidr: PREFIX, node: NAME}` or `- {cidr: PREFIX, blackhole: true}`, or the same on two
/// lines without braces.
pub(super) fn split(text: &str) -> Option<(String, Vec<PlainRoute<'_>>)> {
    const KEY: &str = "\nroutes:\n";
    let (before, mut list) = text.split_at(text.find(KEY)? + KEY.len());
    let mut routes = Vec::new();
    let mut indent = None;
    while let Some((line, rest)) = list.split_once('\n') {
        let item = line.trim_start_matches(' ');
        if item.is_empty() || item.starts_with('#') {
            list = rest;
            continue;
        }
        let Some(item) = item.strip_prefix("- ") else {
            break;
        };
        let depth = line.len() - item.len();
        if *indent.get_or_insert(depth) != depth {
            return None;
        }
        let (cidr, target) = if let Some(flow) = item.strip_prefix('{') {
            list = rest;
            flow.strip_suffix('}')?.trim_matches(' ').split_once(", ")?
        } else {
            let (target, rest) = rest.split_once('\n')?;
            list = rest;
            (item, target.strip_prefix(&" ".repeat(depth))?)
        };
        routes.push(PlainRoute::read(cidr, target)?);
    }
    let ends = list.is_empty() || list.starts_with(|next: char| next.is_ascii_alphabetic());
    (ends && !routes.is_empty()).then(|| (format!("{before}{list}"), routes))
}

/// A route as it is written.
pub(super) struct PlainRoute<'a> {
    pub(super) cidr: &'a str,
    /// The name of its node; none for a blackhole.
    pub(super) node: Option<&'a str>,
}

impl<'a> PlainRoute<'a> {
    fn read(cidr: &'a str, target: &'a str) -> Option<Self> {
        let node = match target.strip_prefix("node: ") {
            Some(node) => Some(plain(node)?),
            None if target == "blackhole: true" => None,
            None => return None,
        };
        Some(Self {
            cidr: plain(cidr.strip_prefix("cidr: ")?)?,
            node,
        })
    }
}

/// Text that means itself to YAML wherever a text is expected.
fn plain(text: &str) -> Option<&str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/' | b'-');
    let begins = text.bytes().next()?.is_ascii_alphanumeric();
    let is_null = text.eq_ignore_ascii_case("null");
    (begins && !is_null && text.bytes().all(is_plain)).then_some(text)
}
