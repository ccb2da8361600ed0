//! Connections of those who are not known yet: so many, and who has waited longest makes room.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

#[derive(Debug, Default)]
struct List {
    next: u64,
    waiting: BTreeMap<u64, oneshot::Sender<()>>,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Unknown {
    most: usize,
    list: Arc<Mutex<List>>,
}

/// One of them, as long as this is held.
#[derive(Debug)]
pub(crate) struct Ticket {
    number: u64,
    list: Arc<Mutex<List>>,
    room: oneshot::Receiver<()>,
}

impl Unknown {
    pub(crate) fn new(most: usize) -> Self {
        Self { most: most.max(1), list: Arc::default() }
    }

    /// One more. The oldest has to go where there are too many.
    pub(crate) fn enter(&self) -> Ticket {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        while list.waiting.len() >= self.most {
            // dropped, which its ticket hears
            let _ = list.waiting.pop_first();
        }
        let number = list.next;
        list.next = number.wrapping_add(1);
        let (sender, room) = oneshot::channel();
        list.waiting.insert(number, sender);
        Ticket { number, list: Arc::clone(&self.list), room }
    }
}

impl Ticket {
    /// Waits until it has to make room.
    pub(crate) async fn room(&mut self) {
        let _ = (&mut self.room).await;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.waiting.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_makes_room() {
        let unknown = Unknown::new(2);
        let (mut first, mut second) = (unknown.enter(), unknown.enter());
        assert!(first.room.try_recv() == Err(oneshot::error::TryRecvError::Empty));
        let third = unknown.enter();
        first.room().await;
        drop(third);
        let _fourth = unknown.enter();
        assert!(second.room.try_recv() == Err(oneshot::error::TryRecvError::Empty));
        drop(first);
        let _fifth = unknown.enter();
        second.room().await;
    }
}
