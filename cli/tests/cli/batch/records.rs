//! JSON Lines, read again.

use serde_json::Value;

/// What became of a picture: its path (and the bytes of it, in hexadecimal digits, if it is not UTF-8), and the caption or the kind of the error.
pub type Record = (String, Option<String>, Result<String, String>);

/// The objects of JSON Lines, of which the last is whole as well.
#[track_caller]
pub fn objects(lines: &[u8]) -> Vec<Value> {
    let lines = std::str::from_utf8(lines).unwrap();
    assert!(lines.is_empty() || lines.ends_with('\n'), "a line was cut off: {lines:?}");
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What JSON Lines say, in their order.
#[track_caller]
pub fn records(lines: &[u8]) -> Vec<Record> {
    objects(lines).iter().map(record).collect()
}

/// What JSON Lines say, in the order of the paths.
#[track_caller]
pub fn sorted(lines: &[u8]) -> Vec<Record> {
    let mut records = records(lines);
    records.sort();
    records
}

#[track_caller]
fn record(object: &Value) -> Record {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let result = match text(&object["caption"]) {
        Some(caption) => Ok(caption),
        None => {
            assert!(text(&object["error"]["message"]).is_some_and(|message| !message.is_empty()), "{object}");
            Err(text(&object["error"]["kind"]).unwrap())
        }
    };
    (text(&object["path"]).unwrap(), text(&object["path_bytes"]), result)
}
