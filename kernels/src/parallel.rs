//! Parallel sections: few of them, and none inside another.
//!
//! Work on tokens that do not see each other is cut into pieces once, for all the steps until tokens meet again; kernels that are called
//! inside a piece stay on its thread.

use std::cell::Cell;

thread_local! {
    static IN_PIECE: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` on a thread of the current rayon pool. A caller from outside the pool hands its work over once, and not for every parallel
/// section inside, each of which would have to wake the pool and be woken by it.
pub fn on_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| work())
}

/// Runs `work`, a piece of a parallel section: the kernels that it calls use this thread alone.
pub fn in_piece<R>(work: impl FnOnce() -> R) -> R {
    /// Sets the flag back even if `work` panics: the thread belongs to a pool.
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            IN_PIECE.set(self.0);
        }
    }
    let _restore = Restore(IN_PIECE.replace(true));
    work()
}

/// Threads that a kernel may use.
pub(crate) fn num_threads() -> usize {
    if IN_PIECE.get() { 1 } else { rayon::current_num_threads() }
}

/// The length of the pieces, about the same for all of them, into which `len` items are cut so that each thread gets the same number of pieces
/// of at most `most` items. At least 1.
pub fn piece_len(len: usize, most: usize) -> usize {
    let threads = num_threads();
    len.div_ceil(threads * len.div_ceil(threads * most).max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_gets_as_many_pieces_of_nearly_one_length() {
        rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap().install(|| {
            assert_eq!(piece_len(260, 160), 130, "two pieces");
            assert_eq!(piece_len(2308, 160), 145, "sixteen");
            assert_eq!(piece_len(1, 160), 1);
            assert_eq!(piece_len(0, 160), 1);
            assert_eq!(in_piece(|| piece_len(260, 160)), 130, "two pieces of one thread");
        });
    }

    #[test]
    fn kernels_inside_a_piece_have_one_thread_even_after_a_panic() {
        rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap().install(|| {
            assert_eq!(num_threads(), 3);
            assert_eq!(in_piece(|| in_piece(num_threads)), 1);
            let result = std::panic::catch_unwind(|| in_piece(|| panic!("on purpose")));
            assert!(result.is_err());
            assert_eq!(num_threads(), 3);
        });
    }
}
