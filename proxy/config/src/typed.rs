//! A YAML value as a type, with every field that does not fit.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;
use serde_yaml::Value;

/// What was read, and what did not fit.
pub(crate) struct Reading<T> {
    /// `None` where `mistakes` has the reason.
    pub(crate) value: Option<T>,
    /// Field and what to do.
    pub(crate) mistakes: Vec<(String, String)>,
    /// Fields that the type does not know.
    pub(crate) unknown: BTreeSet<String>,
}

/// How often a document is read at most to find all its mistakes.
const MAX_READINGS: usize = 20;

/// Reads a value. serde stops at the first mistake, so what is wrong is taken out and the rest read again, until
/// all mistakes are found.
pub(crate) fn read<T: DeserializeOwned>(mut value: Value) -> Reading<T> {
    let mut reading = Reading { value: None, mistakes: Vec::new(), unknown: BTreeSet::new() };
    for _ in 0..MAX_READINGS {
        let mut ignored = |path: serde_ignored::Path<'_>| {
            reading.unknown.insert(field(&path));
        };
        let source = serde_ignored::Deserializer::new(value.clone(), &mut ignored);
        let failure = match serde_path_to_error::deserialize(source) {
            Ok(read) => {
                reading.value = reading.mistakes.is_empty().then_some(read);
                break;
            }
            Err(failure) => failure,
        };
        let (at, message) = mistake(&failure);
        // A required field that was taken out for a mistake, its own or one below it, is now missed.
        let known = reading.mistakes.iter().any(|(field, _)| {
            field
                .strip_prefix(at.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        });
        if !known {
            reading.mistakes.push((at, message));
        }
        if !take_out(&mut value, &failure.path().iter().collect::<Vec<_>>()) {
            break;
        }
    }
    reading
}

/// Removes the value at a path; an item of a list with its list, because the items after it would change place.
fn take_out(value: &mut Value, path: &[&Segment]) -> bool {
    match (path, value) {
        ([Segment::Map { key }, rest @ ..], Value::Mapping(fields)) => {
            let taken = fields.get_mut(key.as_str()).is_some_and(|inner| take_out(inner, rest));
            taken || fields.shift_remove(key.as_str()).is_some()
        }
        ([Segment::Seq { index }, rest @ ..], Value::Sequence(items)) => {
            items.get_mut(*index).is_some_and(|inner| take_out(inner, rest))
        }
        _ => false,
    }
}

/// Field and message of a failure. serde's own message is not passed on: it repeats the value that it found,
/// which may be a password in the wrong place.
fn mistake(failure: &serde_path_to_error::Error<serde_yaml::Error>) -> (String, String) {
    let path = failure.path().to_string();
    let path = if path == "." { String::new() } else { path };
    let text = failure.inner().to_string();
    if let Some(name) = text.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
        let field = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        return (field, "is required; add it".to_owned());
    }
    let message = match text.rsplit_once("expected ") {
        _ if path.ends_with("At") || path.ends_with("Timestamp") => {
            "must be a time such as 2030-01-31T00:00:00Z".to_owned()
        }
        Some((_, expected)) => format!("must be {}", plain(expected)),
        None if path.starts_with("data.") => "must be base64; plain text goes into stringData".to_owned(),
        None => "has a value that does not belong here".to_owned(),
    };
    (path, message)
}

/// What serde expects, in plain words.
fn plain(expected: &str) -> &str {
    match expected {
        "a boolean" | "bool" => "true or false",
        "a string" | "string" | "String" => "text; put it in quotes",
        "i32" | "i64" | "u32" | "u64" | "an integer" => "a whole number",
        "a sequence" | "sequence" => "a list",
        "ByteString" | "a base64-encoded string" => "base64; plain text goes into stringData",
        variants if variants.starts_with("one of") || variants.starts_with('`') => variants,
        _ => "a mapping",
    }
}

/// A path as problems write it.
fn field(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", field(parent)),
        Path::Map { parent, key } => {
            let parent = field(parent);
            if parent.is_empty() { key.clone() } else { format!("{parent}.{key}") }
        }
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            field(parent)
        }
    }
}
