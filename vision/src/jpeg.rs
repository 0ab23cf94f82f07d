//! Whether a JPEG is complete. The decoder fills what is missing with grey and says nothing; a caption of half a
//! picture would be wrong without a word.

/// True when the end-of-image marker is reached: segments are skipped by their length (thumbnails inside them have
/// markers of their own), entropy-coded data are searched for the next marker.
///
/// Source: ITU-T T.81, annex B.
pub(crate) fn is_complete(bytes: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xda;
    const END_OF_IMAGE: u8 = 0xd9;
    let mut position = 2; // after the start-of-image marker
    while let Some(&[0xff, code]) = bytes.get(position..position + 2) {
        match code {
            END_OF_IMAGE => return true,
            0xff => position += 1, // fill byte
            0x01 | 0xd0..=0xd8 => position += 2,
            _ => {
                let Some(&[high, low]) = bytes.get(position + 2..position + 4) else { return false };
                position += 2 + usize::from(u16::from_be_bytes([high, low]));
                if code == START_OF_SCAN {
                    position = match next_marker(bytes, position) {
                        Some(next) => next,
                        None => return false,
                    };
                }
            }
        }
    }
    // Bytes where a marker should be: the decoder knows better whether that matters.
    position < bytes.len().saturating_sub(1)
}

/// The position of the first marker at or after `position` that is neither a stuffed byte nor a restart.
fn next_marker(bytes: &[u8], position: usize) -> Option<usize> {
    let data = bytes.get(position..)?;
    let offset = data.windows(2).position(|pair| pair[0] == 0xff && !matches!(pair[1], 0x00 | 0xd0..=0xd7 | 0xff))?;
    Some(position + offset)
}

#[cfg(test)]
mod tests {
    use super::is_complete;

    const SCAN: [u8; 8] = [0xff, 0xda, 0, 4, 1, 2, 7, 7];

    fn jpeg(parts: &[&[u8]]) -> Vec<u8> {
        [&[0xff, 0xd8][..], &parts.concat()].concat()
    }

    #[test]
    fn a_scan_with_its_end_marker_is_complete() {
        assert!(is_complete(&jpeg(&[&SCAN, &[1, 0xff, 0, 2, 0xff, 0xd0, 3, 0xff, 0xd9]])));
    }

    #[test]
    fn a_scan_without_end_marker_is_not_complete() {
        assert!(!is_complete(&jpeg(&[&SCAN, &[1, 0xff, 0, 2, 0xff, 0xd0, 3]])));
        assert!(!is_complete(&jpeg(&[&SCAN, &[1, 0xff]])));
    }

    #[test]
    fn the_end_marker_of_a_thumbnail_does_not_count() {
        let thumbnail = [0xff, 0xe1, 0, 6, 0xff, 0xd8, 0xff, 0xd9];
        assert!(!is_complete(&jpeg(&[&thumbnail, &SCAN, &[1, 2]])));
        assert!(is_complete(&jpeg(&[&thumbnail, &SCAN, &[1, 2, 0xff, 0xd9]])));
    }

    #[test]
    fn bytes_after_the_end_do_not_matter() {
        assert!(is_complete(&jpeg(&[&SCAN, &[1, 0xff, 0xd9, 1, 2, 3]])));
    }

    #[test]
    fn a_segment_longer_than_the_file_is_not_complete() {
        assert!(!is_complete(&jpeg(&[&[0xff, 0xe1, 0xff, 0xff, 1]])));
    }
}
