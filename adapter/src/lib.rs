//! Patch features to image tokens.
