//! Tests of the crate from outside: pictures, views, encoders.

mod encoders;
mod hostile;
mod pictures;
mod sizes;
mod views;

use std::path::PathBuf;

/// A file or folder of the repository's goldens (made by `training/goldens/make_vision.py`).
fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name)
}
