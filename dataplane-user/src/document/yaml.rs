//! YAML into Rust values that remember their lines.

use std::{borrow::Cow, io, path::Path};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_saphyr::{Error, MessageFormatter, Spanned, UserMessageFormatter};

use super::problems::FileError;

/// A value, and the line it is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Located<T> {
    /// What is written there.
    pub(crate) value: T,
    /// Counted from 1. Of a YAML alias, the line that uses it.
    pub(crate) line: u64,
}

impl<T> Located<T> {
    /// Another value at the same line.
    pub(crate) fn with<U>(&self, value: U) -> Located<U> {
        Located {
            value,
            line: self.line,
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Located<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Of the two locations of 32 bytes each that `Spanned` carries, one line is enough.
        let spanned = Spanned::deserialize(deserializer)?;
        Ok(Self {
            line: spanned.referenced.line(),
            value: spanned.value,
        })
    }
}

/// Where something stands is not written.
impl<T: JsonSchema> JsonSchema for Located<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// The text of `file`.
pub(crate) fn read(file: &Path) -> Result<String, FileError> {
    std::fs::read_to_string(file).map_err(|error| FileError::new(file, None, unread(&error)))
}

/// Why a file was not read, and what to do.
fn unread(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "there is no such file: write it, or say where it is (`--config` for the configuration, \
             `source` in it for the cluster's table)"
                .to_owned()
        }
        io::ErrorKind::PermissionDenied => "it may not be read: run this as root".to_owned(),
        _ => format!("it cannot be read: {error}"),
    }
}

/// The one YAML document in `text`, or nothing if it is empty; `file` is named in errors.
pub(crate) fn parse<T: DeserializeOwned>(file: &Path, text: &str) -> Result<Option<T>, FileError> {
    let options = serde_saphyr::options! {
        // A table of a million routes is large, not an attack: its author already is root here.
        // Aliases keep their own limits.
        budget: None,
        strict_booleans: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let line = error.location().map(|location| location.line());
        FileError::new(file, line, reason(&error))
    })
}

/// Says what is wrong in the words of a file's author; the crate's own speak of Rust and of YAML
/// events.
fn reason(error: &Error) -> String {
    match error {
        Error::AliasError { error, .. } => reason(error),
        Error::SerdeUnknownField {
            field, expected, ..
        } => {
            let one_of = if expected.len() > 1 { "one of " } else { "" };
            let expected = expected.join(", ");
            format!("unknown field '{field}', expected {one_of}{expected}")
        }
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("'{key}' is given a second time: keep one of them")
        }
        Error::Unexpected { expected, .. } => match *expected {
            "mapping start" => "expected fields, such as {name: value}".to_owned(),
            "sequence start" => "expected a list, such as [a, b]".to_owned(),
            "string scalar" => "expected a single value".to_owned(),
            other => format!("expected {other}"),
        },
        Error::NullIntoString { .. } => "expected a value, found nothing".to_owned(),
        Error::InvalidScalar { ty: "u64", .. } => "expected a whole number".to_owned(),
        Error::InvalidBooleanStrict { .. } => "expected true or false".to_owned(),
        other => UserMessageFormatter.format_message(other).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Document {
        text: Option<Located<String>>,
        number: Option<Located<u64>>,
        flag: Option<Located<bool>>,
        list: Option<Vec<Located<String>>>,
        inner: Option<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        only: Option<String>,
    }

    fn document(text: &str) -> Result<Option<Document>, String> {
        parse(Path::new("a.yaml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn text_is_taken_as_it_is_written() {
        for written in [
            "66:5a:01:02:03:04",
            "12:34:56:10:20:30",
            "1e3",
            "0x10",
            "010",
            "1_000",
            "on",
            "no",
            "true",
            ".inf",
            "2001-01-01",
            "169.254.1.1",
        ] {
            let document = document(&format!("{{text: {written}}}")).unwrap().unwrap();
            assert_eq!(document.text.unwrap().value, written);
        }
    }

    #[test]
    fn values_remember_their_lines() {
        let document = document(
            "# first\n\
             number: 0x10\n\
             flag:\n  true\n\
             list:\n- &a x\n- *a\n\
             inner: {only: y}\n",
        );
        let document = document.unwrap().unwrap();
        assert_eq!(document.number, Some(Located { value: 16, line: 2 }));
        assert_eq!(
            document.flag,
            Some(Located {
                value: true,
                line: 4
            })
        );
        let lines: Vec<u64> = document
            .list
            .unwrap()
            .iter()
            .map(|item| item.line)
            .collect();
        assert_eq!(lines, [6, 7]);
        assert_eq!(document.inner.unwrap().only.as_deref(), Some("y"));
    }

    #[test]
    fn nothing_but_comments_is_an_empty_document() {
        for text in ["", "\n", "# a comment\n", "---\n", "\u{feff}"] {
            assert!(document(text).unwrap().is_none(), "{text:?}");
        }
    }

    #[test]
    fn a_field_without_a_value_is_an_absent_one() {
        let document = document("text:\nlist:\ninner:\nnumber: ~\n")
            .unwrap()
            .unwrap();
        assert!(document.text.is_none() && document.list.is_none());
        assert!(document.inner.is_none() && document.number.is_none());
    }

    #[test]
    fn errors_name_the_line_and_speak_yaml() {
        for (text, message) in [
            (
                "text: a\nfoo: 1\n",
                "a.yaml:2: unknown field 'foo', expected one of text, number, flag, list, inner",
            ),
            (
                "inner:\n  foo: 1\n",
                "a.yaml:2: unknown field 'foo', expected only",
            ),
            (
                "text: a\n\ntext: b\n",
                "a.yaml:3: 'text' is given a second time: keep one of them",
            ),
            ("number: few\n", "a.yaml:1: expected a whole number"),
            ("number: -1\n", "a.yaml:1: expected a whole number"),
            ("number: 1.5\n", "a.yaml:1: expected a whole number"),
            ("flag: yes\n", "a.yaml:1: expected true or false"),
            ("list: a\n", "a.yaml:1: expected a list, such as [a, b]"),
            ("text: [a]\n", "a.yaml:1: expected a single value"),
            (
                "list:\n- a\n-\n",
                "a.yaml:3: expected a value, found nothing",
            ),
            (
                "inner: a\n",
                "a.yaml:1: expected fields, such as {name: value}",
            ),
            (
                "- text: a\n",
                "a.yaml:1: expected fields, such as {name: value}",
            ),
            (
                "text: a\n---\ntext: b\n",
                "a.yaml:3: only single YAML document expected but multiple found",
            ),
            (
                "text: a\n  number: 4\n",
                "a.yaml:2: mapping values are not allowed in this context",
            ),
            ("text: *a\n", "a.yaml:1: reference to unknown value"),
        ] {
            assert_eq!(document(text).unwrap_err(), message, "{text:?}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let error = read(Path::new("/nonexistent/a.yaml")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/nonexistent/a.yaml: there is no such file: write it, or say where it is (`--config` for the \
             configuration, `source` in it for the cluster's table)"
        );
    }
}
