//! Work done ahead on threads of its own: items in, results out in the same order, a bounded number of them at once.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// An iterator over `work(item)` for each item of another, in its order. Threads of its own work ahead of whoever asks: on at most `limit` items, those that
/// are done and not yet asked for included. They stop when the iterator is dropped, after the item they are at.
pub(crate) struct LookAhead<I: Iterator, R> {
    items: I,
    limit: usize,
    /// None once there are no more items.
    jobs: Option<Sender<(usize, I::Item)>>,
    results: Receiver<(usize, thread::Result<R>)>,
    /// Done before its turn, by number.
    early: BTreeMap<usize, thread::Result<R>>,
    num_sent: usize,
    num_taken: usize,
}

impl<I, R> LookAhead<I, R>
where
    I: Iterator,
    I::Item: Send + 'static,
    R: Send + 'static,
{
    /// Starts `num_threads` threads. All numbers are at least 1.
    pub(crate) fn new(
        items: I,
        limit: usize,
        num_threads: usize,
        work: impl Fn(I::Item) -> R + Send + Sync + 'static,
    ) -> Self {
        let (jobs, waiting_jobs) = channel();
        let (done, results) = channel();
        let (work, waiting_jobs) = (Arc::new(work), Arc::new(Mutex::new(waiting_jobs)));
        for _ in 0..num_threads.clamp(1, limit.max(1)) {
            let (work, waiting_jobs, done) = (Arc::clone(&work), Arc::clone(&waiting_jobs), done.clone());
            thread::spawn(move || help(&*work, &waiting_jobs, &done));
        }
        let limit = limit.max(1);
        Self { items, limit, jobs: Some(jobs), results, early: BTreeMap::new(), num_sent: 0, num_taken: 0 }
    }

    /// Sends items ahead, up to the limit.
    fn send_jobs(&mut self) {
        while let Some(jobs) = &self.jobs
            && self.num_sent - self.num_taken < self.limit
        {
            match self.items.next() {
                Some(item) => {
                    // It fails only when all threads are gone, which they are not while `jobs` is there.
                    let _ = jobs.send((self.num_sent, item));
                    self.num_sent += 1;
                }
                None => self.jobs = None,
            }
        }
    }

    /// The next result, if it is there already.
    pub(crate) fn next_if_ready(&mut self) -> Option<R> {
        self.send_jobs();
        self.early.extend(self.results.try_iter());
        let result = self.early.remove(&self.num_taken)?;
        self.take(result)
    }

    /// Counts a result as taken. The panic of a piece of work goes on in the thread that asks for it.
    fn take(&mut self, result: thread::Result<R>) -> Option<R> {
        self.num_taken += 1;
        self.send_jobs();
        Some(result.unwrap_or_else(|panic| resume_unwind(panic)))
    }
}

impl<I, R> Iterator for LookAhead<I, R>
where
    I: Iterator,
    I::Item: Send + 'static,
    R: Send + 'static,
{
    type Item = R;

    /// Waits for the next result.
    fn next(&mut self) -> Option<R> {
        self.send_jobs();
        if self.num_taken == self.num_sent {
            return None;
        }
        loop {
            if let Some(result) = self.early.remove(&self.num_taken) {
                return self.take(result);
            }
            let (number, result) = self.results.recv().ok()?;
            self.early.insert(number, result);
        }
    }
}

/// Does jobs until there are no more, or nobody wants the results.
fn help<T, R>(
    work: &(impl Fn(T) -> R + ?Sized),
    jobs: &Mutex<Receiver<(usize, T)>>,
    done: &Sender<(usize, thread::Result<R>)>,
) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((number, item)) = job else { return };
        let result = catch_unwind(AssertUnwindSafe(|| work(item)));
        if done.send((number, result)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items_whoever_is_done_first() {
        for (limit, num_threads) in [(1, 1), (3, 2), (8, 4), (100, 3)] {
            let slow_first = |item: u64| {
                thread::sleep(Duration::from_micros(if item.is_multiple_of(3) { 300 } else { 0 }));
                item * 2
            };
            let results: Vec<u64> = LookAhead::new(0..50, limit, num_threads, slow_first).collect();
            assert_eq!(results, (0..50).map(|item| item * 2).collect::<Vec<_>>());
        }
        assert_eq!(LookAhead::new(0..0, 4, 2, |item: u8| item).count(), 0);
    }

    #[test]
    fn never_more_than_the_limit_are_begun_and_not_taken() {
        let begun = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&begun);
        let mut ahead = LookAhead::new(0..100, 4, 3, move |_: usize| counter.fetch_add(1, Ordering::SeqCst));
        for taken in 1..=100 {
            ahead.next().unwrap();
            thread::sleep(Duration::from_micros(200));
            assert!(begun.load(Ordering::SeqCst) <= taken + 4);
        }
    }

    #[test]
    fn what_is_ready_can_be_asked_for_without_waiting() {
        let (go, wait) = channel::<()>();
        let wait = Mutex::new(wait);
        let mut ahead = LookAhead::new(0..2, 2, 1, move |item: usize| {
            wait.lock().unwrap().recv().unwrap();
            item
        });
        assert_eq!(ahead.next_if_ready(), None);
        go.send(()).unwrap();
        assert_eq!(ahead.next(), Some(0));
        assert_eq!(ahead.next_if_ready(), None);
        go.send(()).unwrap();
        assert_eq!((ahead.next(), ahead.next_if_ready(), ahead.next()), (Some(1), None, None));
    }

    #[test]
    fn a_panic_reaches_whoever_asks_and_the_others_go_on() {
        let mut ahead = LookAhead::new(0..4, 4, 2, |item: u8| {
            assert_ne!(item, 1, "on purpose");
            item
        });
        assert_eq!(ahead.next(), Some(0));
        assert!(catch_unwind(AssertUnwindSafe(|| ahead.next())).is_err());
        assert_eq!(ahead.collect::<Vec<_>>(), [2, 3]);
    }
}
