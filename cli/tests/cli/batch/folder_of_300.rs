//! A folder of 300 pictures as people have them: six formats, odd names, folders in folders, links, and twenty that are broken.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::Cursor;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use image::imageops::{crop_imm, flip_horizontal, flip_vertical};
use image::{DynamicImage, ImageFormat};
use tempfile::TempDir;

use super::broken;

/// Good pictures in the folder.
pub const NUM_GOOD: usize = 280;
/// Pictures that fail: those of [`broken`], and one that is removed while the command runs.
pub const NUM_BROKEN: usize = 20;
/// The longer side of the pictures. What matters here is how many there are.
const MAX_SIDE: u32 = 288;
/// Somebody who owns nothing: `nobody` on most systems.
const NOBODY: u32 = 65_534;

const FORMATS: [(&str, ImageFormat); 6] = [
    ("png", ImageFormat::Png),
    ("jpg", ImageFormat::Jpeg),
    ("webp", ImageFormat::WebP),
    ("gif", ImageFormat::Gif),
    ("bmp", ImageFormat::Bmp),
    ("tiff", ImageFormat::Tiff),
];

/// The folder, and a command that may read all of it but one file.
pub struct FolderOf300 {
    root: TempDir,
    /// The good pictures.
    pub good: Vec<PathBuf>,
    /// The pictures that fail, but the one that is removed, with the kinds of their errors.
    pub broken: Vec<(PathBuf, &'static str)>,
    is_privileged: bool,
}

impl FolderOf300 {
    /// Writes all files.
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let pictures = root.path().join("pictures");
        fs::create_dir_all(pictures.join("broken")).unwrap();
        let good: Vec<PathBuf> = files().iter().map(|(name, _)| pictures.join(name)).collect();
        for (path, (_, bytes)) in good.iter().zip(files()) {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        // The last is a link; it may lead out of the folder, and need not be named like a picture.
        let link = good.last().unwrap();
        fs::rename(link, root.path().join("elsewhere")).unwrap();
        symlink("../../elsewhere", link).unwrap();
        // Directories are not gone into twice, and what is no picture by name and content is left out.
        symlink(&pictures, pictures.join("trip/loop")).unwrap();
        fs::write(pictures.join("notes.txt"), "not a picture").unwrap();
        fs::write(pictures.join("broken/.hidden.png"), "not a picture").unwrap();

        broken::write(&pictures.join("broken"));
        let broken = broken::names_and_kinds();
        let broken = broken.into_iter().map(|(name, kind)| (pictures.join("broken").join(name), kind)).collect();
        let folder = Self { is_privileged: broken::is_privileged(&pictures.join("broken")), root, good, broken };
        fs::write(folder.removed(), &files()[0].1).unwrap();
        if folder.is_privileged {
            // Nobody may read where it was built.
            fs::copy(env!("CARGO_BIN_EXE_ocelli"), folder.file("ocelli")).unwrap();
            fs::set_permissions(folder.root.path(), Permissions::from_mode(0o777)).unwrap();
        }
        folder
    }

    /// The folder of the pictures.
    pub fn pictures(&self) -> PathBuf {
        self.file("pictures")
    }

    /// A good picture outside of that folder, which is there to be removed. It is the last argument of [`FolderOf300::caption`].
    pub fn removed(&self) -> PathBuf {
        self.file("removed.png")
    }

    /// The place of a file outside of the folder of the pictures.
    pub fn file(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Lets the user of the command read a folder, or go on with a file, that belongs to the user of the test.
    pub fn share(&self, path: &Path) {
        if self.is_privileged {
            fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
        }
    }

    /// `ocelli caption` with `arguments`, by somebody who may not read everything.
    pub fn command<A: AsRef<Path>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let binary = if self.is_privileged { self.file("ocelli") } else { PathBuf::from(env!("CARGO_BIN_EXE_ocelli")) };
        let mut command = Command::new(binary);
        command.args(["caption", "--mode", "rapid", "--threads", "2"]).env_clear().env("MALLOC_ARENA_MAX", "2");
        command.args(arguments.into_iter().map(|argument| argument.as_ref().to_owned())).current_dir(self.root.path());
        if self.is_privileged {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    /// `ocelli caption` of all 300 pictures.
    pub fn caption(&self, options: &[&str]) -> Command {
        let mut command = self.command(options);
        command.arg("-r").args([self.pictures(), self.removed()]);
        command
    }
}

/// Names and contents of the good pictures: parts of the example scenes, mirrored, in all formats.
fn files() -> &'static [(PathBuf, Vec<u8>)] {
    static FILES: OnceLock<Vec<(PathBuf, Vec<u8>)>> = OnceLock::new();
    FILES.get_or_init(|| {
        let scenes = scenes();
        (0..NUM_GOOD).map(|number| file(number, &scenes[number % scenes.len()], number / scenes.len())).collect()
    })
}

fn scenes() -> Vec<DynamicImage> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/examples");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension != "json"));
    paths.sort();
    paths.iter().map(|path| image::open(path).unwrap().thumbnail(MAX_SIDE, MAX_SIDE).to_rgb8().into()).collect()
}

/// The picture with this number: part `part` of a scene.
fn file(number: usize, scene: &DynamicImage, part: usize) -> (PathBuf, Vec<u8>) {
    let (extension, format) = FORMATS[(number + part) % FORMATS.len()];
    let (width, height) = (scene.width() - 10 * (part as u32 % 6), scene.height() - 7 * (part as u32 % 4));
    let mut picture = crop_imm(scene.as_rgb8().unwrap(), 0, 0, width, height).to_image();
    if part % 2 == 1 {
        picture = flip_horizontal(&picture);
    }
    if part % 3 == 2 {
        picture = flip_vertical(&picture);
    }
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    (name(number, extension), bytes.into_inner())
}

/// The name of a picture, in one of several folders; the first have odd ones.
fn name(number: usize, extension: &str) -> PathBuf {
    let odd: &[u8] = match number {
        0 => b"two\nlines.png",
        1 => b"caf\xe9.png",
        2 => b"without extension",
        3 => b"wrong extension.bmp",
        4 => b"an extension of others.dat",
        5 => b"LOUD.JPEG",
        6 => b"a \"quoted\", with comma.gif",
        7 => "ç\u{1f431}\u{202e}.png".as_bytes(),
        8 => b"-v.png",
        9 => b"tab\tand\rreturn.tif",
        _ => &format!("{number:03}.{extension}").into_bytes(),
    };
    let folder = ["", "trip", "trip/day 1", "trip/day 2/morning", "f\u{fc}r Oma"][number % 5];
    Path::new(folder).join(OsString::from_vec(odd.to_vec()))
}
