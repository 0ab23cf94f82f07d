//! Pictures and text in, text out.
