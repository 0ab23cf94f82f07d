//! Nineteen files that look like pictures and are none, each in another way.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use image::ImageFormat;

use crate::pictures::{picture, png_header};

/// Files in each folder, and the kind of their error.
const CONTENTS: [(&[u8], &str); 14] = [
    (b"cut.png", "truncated"),
    (b"cut.jpg", "truncated"),
    (b"cut.gif", "corrupt"),
    (b"cut.webp", "corrupt"),
    (b"cut.tiff", "truncated"),
    (b"cut.bmp", "truncated"),
    (b"bomb.png", "too_large"),
    (b"empty.png", "not_a_picture"),
    (b"text.png", "not_a_picture"),
    (b"page.jpg", "not_a_picture"),
    (b"zero-size.png", "empty"),
    (b"flipped-bits.png", "corrupt"),
    (b"line\nbreak.jpg", "unsupported"),
    (b"na\xefve.png", "too_large"),
];

/// Files that are not regular ones, or may not be read.
const OTHERS: [(&str, &str); 5] = [
    ("secret.png", "io"),
    ("pipe.png", "io"),
    ("socket.png", "io"),
    ("link-to-itself.png", "io"),
    ("dangling-link.png", "io"),
];

/// The names of all of them, and the kinds of their errors.
pub fn names_and_kinds() -> Vec<(&'static OsStr, &'static str)> {
    let others = OTHERS.iter().map(|(name, kind)| (OsStr::new(*name), *kind));
    CONTENTS.iter().map(|(name, kind)| (OsStr::from_bytes(name), *kind)).chain(others).collect()
}

/// Writes all of them into `folder`.
pub fn write(folder: &Path) {
    for (name, _) in CONTENTS {
        fs::write(folder.join(OsStr::from_bytes(name)), content(name)).unwrap();
    }
    let secret = folder.join("secret.png");
    fs::write(&secret, picture(40, 30, ImageFormat::Png)).unwrap();
    fs::set_permissions(secret, Permissions::from_mode(0o000)).unwrap();
    assert!(Command::new("mkfifo").arg(folder.join("pipe.png")).status().unwrap().success());
    drop(UnixListener::bind(folder.join("socket.png")).unwrap());
    symlink("link-to-itself.png", folder.join("link-to-itself.png")).unwrap();
    symlink("nowhere.png", folder.join("dangling-link.png")).unwrap();
}

/// Whether this process may read `secret.png` in spite of its permissions.
pub fn is_privileged(folder: &Path) -> bool {
    File::open(folder.join("secret.png")).is_ok()
}

fn content(name: &[u8]) -> Vec<u8> {
    let half = |format| {
        let bytes = picture(90, 60, format);
        bytes[..bytes.len() / 2].to_vec()
    };
    match name {
        b"cut.png" => half(ImageFormat::Png),
        b"cut.jpg" => half(ImageFormat::Jpeg),
        b"cut.gif" => half(ImageFormat::Gif),
        b"cut.webp" => half(ImageFormat::WebP),
        b"cut.tiff" => half(ImageFormat::Tiff),
        b"cut.bmp" => half(ImageFormat::Bmp),
        b"bomb.png" => png_header(60_000, 60_000),
        b"text.png" => b"This is no picture.\n".to_vec(),
        b"page.jpg" => b"<!doctype html><title>404 Not Found</title>\n".to_vec(),
        b"zero-size.png" => png_header(0, 0),
        b"flipped-bits.png" => flipped(picture(90, 60, ImageFormat::Png)),
        b"line\nbreak.jpg" => b"\0\0\0\x18ftypheic\0\0\0\0mif1heic".to_vec(),
        b"na\xefve.png" => png_header(u32::MAX >> 1, 1),
        _ => Vec::new(),
    }
}

/// A PNG with another size in its header than its checksum was made of.
fn flipped(mut png: Vec<u8>) -> Vec<u8> {
    png[19] ^= 0b101;
    png
}
