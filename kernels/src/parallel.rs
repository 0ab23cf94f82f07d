//! Parallel sections: a team of threads that waits for them, awake.
//!
//! A token of the decoder is some hundred products of a tenth of a millisecond. Waking a thread for each would cost as much as the product, so
//! the threads of the rayon pool come together once, for a whole pass ([`on_pool`]), and spin between its sections ([`for_each`]). Whoever
//! comes takes the next piece; nobody waits for a thread that did not come. Sections do not nest: what is called inside a piece stays on its
//! thread.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ThreadId};

thread_local! {
    static IN_PIECE: Cell<bool> = const { Cell::new(false) };
    /// The team that this thread leads.
    static TEAM: RefCell<Option<Arc<Team>>> = const { RefCell::new(None) };
}

/// Polls before a thread that waits offers its core to others: some tenths of a millisecond.
const SPINS: u32 = 5_000;

/// Threads that a section may use.
pub(crate) fn num_threads() -> usize {
    if IN_PIECE.get() { 1 } else { rayon::current_num_threads() }
}

/// The length of the pieces, about the same for all of them, into which `len` items are cut so that each thread gets the same number of pieces
/// of at most `most` items. At least 1.
pub fn piece_len(len: usize, most: usize) -> usize {
    let threads = num_threads();
    len.div_ceil(threads * len.div_ceil(threads * most).max(1)).max(1)
}

/// Runs `work` on a thread of the current rayon pool, with the other threads of the pool as its team: they wait for its parallel sections until
/// it ends. Inside another such call, or a piece, it is a plain call.
pub fn on_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    if num_threads() == 1 || TEAM.with_borrow(Option::is_some) {
        return work();
    }
    rayon::scope(|scope| {
        let team = Arc::new(Team::new());
        for _ in 1..rayon::current_num_threads() {
            let team = Arc::clone(&team);
            scope.spawn(move |_| team.help());
        }
        TEAM.set(Some(team));
        let _dismiss = Dismiss;
        work()
    })
}

/// Calls `work` with each of `items`, on the threads of the pool.
pub fn for_each<T: Send>(items: Vec<T>, work: impl Fn(T) + Sync) {
    map(items, work);
}

/// What `work` gives for each of `items`, on the threads of the pool.
pub fn map<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    if items.len() < 2 || num_threads() == 1 {
        return items.into_iter().map(work).collect();
    }
    enum Slot<T, R> {
        Item(T),
        Taken,
        Result(R),
    }
    let slots: Vec<Mutex<Slot<T, R>>> = items.into_iter().map(|item| Mutex::new(Slot::Item(item))).collect();
    on_pool(|| {
        let team = TEAM.with_borrow(Clone::clone).expect("this thread leads a team");
        team.run(slots.len(), &|index| {
            let slot = || slots[index].lock().unwrap_or_else(PoisonError::into_inner);
            let item = std::mem::replace(&mut *slot(), Slot::Taken);
            if let Slot::Item(item) = item {
                let result = work(item);
                *slot() = Slot::Result(result);
            }
        });
    });
    let results = slots.into_iter().map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner));
    results
        .map(|slot| match slot {
            Slot::Result(result) => result,
            Slot::Item(_) | Slot::Taken => unreachable!("a section ends when all its pieces are done"),
        })
        .collect()
}

/// Ends the team of this thread, even when its work panics.
struct Dismiss;

impl Drop for Dismiss {
    fn drop(&mut self) {
        if let Some(team) = TEAM.take() {
            team.is_over.store(true, Ordering::Release);
        }
    }
}

/// The pieces of a section.
struct Section<'a> {
    work: &'a (dyn Fn(usize) + Sync),
    count: usize,
    /// The next piece that nobody has taken.
    next: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Section<'_> {
    /// Does pieces until all are taken. Does not panic.
    fn take_part(&self) {
        loop {
            let piece = self.next.fetch_add(1, Ordering::Relaxed);
            if piece >= self.count {
                return;
            }
            let was_in_piece = IN_PIECE.replace(true);
            let result = catch_unwind(AssertUnwindSafe(|| (self.work)(piece)));
            IN_PIECE.set(was_in_piece);
            if let Err(panic) = result {
                *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
            }
        }
    }
}

/// The threads that help one leader.
struct Team {
    leader: ThreadId,
    /// The section that runs, or null.
    section: AtomicPtr<Section<'static>>,
    /// Sections so far.
    epoch: AtomicUsize,
    /// Helpers that may be using `section`.
    num_busy: AtomicUsize,
    is_over: AtomicBool,
}

impl Team {
    fn new() -> Team {
        Team {
            leader: thread::current().id(),
            section: AtomicPtr::new(ptr::null_mut()),
            epoch: AtomicUsize::new(0),
            num_busy: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
        }
    }

    /// Runs a section, as the leader.
    fn run(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
        let section = Section { work, count, next: AtomicUsize::new(0), panic: Mutex::new(None) };
        self.section.store(ptr::from_ref(&section).cast_mut().cast(), Ordering::SeqCst);
        self.epoch.fetch_add(1, Ordering::SeqCst);
        section.take_part();
        self.section.store(ptr::null_mut(), Ordering::SeqCst);
        let mut polls = 0;
        while self.num_busy.load(Ordering::SeqCst) != 0 {
            wait(&mut polls);
        }
        if let Some(panic) = section.panic.into_inner().unwrap_or_else(PoisonError::into_inner) {
            resume_unwind(panic);
        }
    }

    /// Takes part in sections until the team is dismissed.
    fn help(&self) {
        // Where all other threads are busy, the pool gives this to the leader itself, at the end or while it waits for work of its own.
        if thread::current().id() == self.leader {
            return;
        }
        let (mut seen, mut polls) = (0, 0);
        while !self.is_over.load(Ordering::Acquire) {
            let epoch = self.epoch.load(Ordering::Acquire);
            if epoch == seen {
                wait(&mut polls);
                continue;
            }
            (seen, polls) = (epoch, 0);
            self.num_busy.fetch_add(1, Ordering::SeqCst);
            // SAFETY: if the pointer is not null, the leader has not yet set it to null; after it does, it waits until `num_busy`, which this thread
            // has raised before it read the pointer, is 0, and only then drops the section and what it borrows.
            if let Some(section) = unsafe { self.section.load(Ordering::SeqCst).as_ref() } {
                section.take_part();
            }
            self.num_busy.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Waits a little; after many times, lets another thread have the core.
fn wait(polls: &mut u32) {
    if *polls < SPINS {
        *polls += 1;
        std::hint::spin_loop();
    } else {
        thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(threads: usize) -> rayon::ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
    }

    #[test]
    fn every_item_is_worked_on_once_and_results_keep_their_order() {
        for threads in [1, 2, 5] {
            pool(threads).install(|| {
                for count in [0, 1, 2, 100] {
                    let mut data = vec![0_usize; 3 * count];
                    let items: Vec<(usize, &mut [usize])> = data.chunks_mut(3).enumerate().collect();
                    let results = map(items, |(index, chunk)| {
                        chunk.fill(index);
                        index * 2
                    });
                    assert_eq!(results, (0..count).map(|index| index * 2).collect::<Vec<_>>());
                    assert_eq!(data, (0..3 * count).map(|index| index / 3).collect::<Vec<_>>());
                }
            });
        }
    }

    #[test]
    fn a_team_serves_many_sections_and_teams_of_one_pool_do_not_wait_for_each_other() {
        let (pool, total) = (pool(3), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    pool.install(|| {
                        on_pool(|| {
                            for _ in 0..200 {
                                for_each((0..7).collect(), |value: usize| {
                                    total.fetch_add(value, Ordering::Relaxed);
                                });
                            }
                        });
                    });
                });
            }
        });
        assert_eq!(total.into_inner(), 4 * 200 * 21);
    }

    #[test]
    fn a_section_inside_a_piece_has_one_thread() {
        pool(3).install(|| {
            assert_eq!(num_threads(), 3);
            let inner = map(vec![(); 4], |()| (num_threads(), map(vec![1, 2], |value| value + num_threads())));
            assert_eq!(inner, vec![(1, vec![2, 3]); 4]);
            assert_eq!(num_threads(), 3);
        });
    }

    #[test]
    fn a_panic_in_a_piece_reaches_the_caller_and_leaves_the_threads_usable() {
        pool(2).install(|| {
            let result = catch_unwind(|| for_each((0..10).collect(), |value: i32| assert_ne!(value, 7, "on purpose")));
            assert!(result.is_err());
            assert_eq!(map(vec![1, 2, 3], |value| value * num_threads()), [1, 2, 3]);
            assert_eq!(num_threads(), 2);
        });
    }

    #[test]
    fn pieces_are_of_nearly_one_length_and_as_many_for_each_thread() {
        pool(2).install(|| {
            assert_eq!(piece_len(260, 160), 130, "two pieces");
            assert_eq!(piece_len(2308, 160), 145, "sixteen");
            assert_eq!(piece_len(1, 160), 1);
            assert_eq!(piece_len(0, 160), 1);
        });
    }
}
