//! The allocator beside one that gives nothing, or gives by chance.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use proptest::prelude::*;

use super::*;
use crate::unix::reserve::{share_of_all, try_grow, with};

/// The system's, where the kernel gives memory when it is told to.
struct Kernel {
    gives: AtomicBool,
}

impl Kernel {
    const fn empty() -> Self {
        Self { gives: AtomicBool::new(false) }
    }

    fn gives(&self) -> bool {
        self.gives.load(Ordering::Relaxed)
    }
}

// SAFETY: it is the system's, which also gives nothing at times.
unsafe impl GlobalAlloc for Kernel {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: our caller's promise.
        if self.gives() { unsafe { System.alloc(layout) } } else { std::ptr::null_mut() }
    }

    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        // SAFETY: our caller's promise.
        unsafe { System.dealloc(address, layout) };
    }

    unsafe fn realloc(&self, address: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        match self.gives() {
            // SAFETY: our caller's promise.
            true => unsafe { System.realloc(address, layout, new_size) },
            false => std::ptr::null_mut(),
        }
    }
}

/// Some memory, filled with a byte of its own.
struct Piece {
    address: *mut u8,
    layout: Layout,
    byte: u8,
}

// SAFETY: nobody else has it.
unsafe impl Send for Piece {}

impl Piece {
    /// `None` where there is no memory. `zeroed`: it must be.
    fn new<const KIB: usize>(
        reserve: &Reserve<KIB, Kernel>,
        layout: Layout,
        byte: u8,
        zeroed: bool,
    ) -> Option<Self> {
        let address = match zeroed {
            // SAFETY: no layout here is empty.
            true => unsafe { reserve.alloc_zeroed(layout) },
            // SAFETY: no layout here is empty.
            false => unsafe { reserve.alloc(layout) },
        };
        if address.is_null() {
            return None;
        }
        assert_eq!(address.addr() % layout.align(), 0);
        let piece = Self { address, layout, byte };
        assert!(!zeroed || piece.holds(0, layout.size()));
        piece.fill();
        Some(piece)
    }

    fn fill(&self) {
        // SAFETY: it is as long as that, and ours.
        unsafe { self.address.write_bytes(self.byte, self.layout.size()) };
    }

    fn holds(&self, byte: u8, length: usize) -> bool {
        // SAFETY: it is as long as that or longer, ours, and has been written to.
        let bytes = unsafe { std::slice::from_raw_parts(self.address, length) };
        bytes.iter().all(|found| *found == byte)
    }

    fn is_whole(&self) -> bool {
        self.holds(self.byte, self.layout.size())
    }

    /// Whether there was memory for it.
    fn resize<const KIB: usize>(&mut self, reserve: &Reserve<KIB, Kernel>, size: usize) -> bool {
        // SAFETY: it is the allocator's, with that layout.
        let moved = unsafe { reserve.realloc(self.address, self.layout, size) };
        if moved.is_null() {
            return false;
        }
        let kept = self.layout.size().min(size);
        self.address = moved;
        self.layout = Layout::from_size_align(size, self.layout.align()).unwrap();
        assert_eq!(moved.addr() % self.layout.align(), 0);
        assert!(self.holds(self.byte, kept));
        self.fill();
        true
    }

    fn free<const KIB: usize>(self, reserve: &Reserve<KIB, Kernel>) {
        assert!(self.is_whole());
        // SAFETY: it is the allocator's, with that layout.
        unsafe { reserve.dealloc(self.address, self.layout) };
    }
}

#[derive(Debug, Clone)]
enum Step {
    Alloc { size: usize, align: u32, zeroed: bool },
    Resize { which: usize, size: usize },
    Free { which: usize },
    Kernel { gives: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let size = || prop_oneof![1_usize..100, 1_usize..5_000];
    prop_oneof![
        4 => (size(), 0_u32..14, any::<bool>())
            .prop_map(|(size, align, zeroed)| Step::Alloc { size, align, zeroed }),
        3 => (any::<usize>(), size()).prop_map(|(which, size)| Step::Resize { which, size }),
        2 => any::<usize>().prop_map(|which| Step::Free { which }),
        1 => any::<bool>().prop_map(|gives| Step::Kernel { gives }),
    ]
}

fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).unwrap()
}

proptest! {
    /// Nobody has what another has, wherever it is and however it is moved; nothing stays taken.
    #[test]
    fn everybody_has_memory_alone(steps in prop::collection::vec(step(), 1..120)) {
        share_of_all();
        let reserve = Box::new(Reserve::<32, Kernel>::over(Kernel::empty()));
        let mut pieces: Vec<Piece> = Vec::new();
        let mut bytes = (1..=u8::MAX).cycle();
        for step in steps {
            match step {
                Step::Kernel { gives } => reserve.usual.gives.store(gives, Ordering::Relaxed),
                Step::Alloc { size, align, zeroed } => {
                    let layout = layout(size, 1 << align);
                    let piece = Piece::new(&reserve, layout, bytes.next().unwrap(), zeroed);
                    // what the kernel gives is given; the reserve has nothing that is aligned more
                    let kernel = reserve.usual.gives();
                    prop_assert!(piece.is_some() || !kernel);
                    prop_assert!(piece.is_none() || kernel || layout.align() <= ALIGN);
                    pieces.extend(piece);
                }
                Step::Resize { which, size } if !pieces.is_empty() => {
                    let count = pieces.len();
                    let piece = &mut pieces[which % count];
                    // with the kernel's memory always, and to what is shorter always
                    let must = reserve.usual.gives() || size <= piece.layout.size()
                        && reserve.offset(piece.address).is_some();
                    prop_assert!(piece.resize(&reserve, size) || !must);
                }
                Step::Free { which } if !pieces.is_empty() => {
                    let place = which % pieces.len();
                    pieces.swap_remove(place).free(&reserve);
                }
                _ => {}
            }
            prop_assert!(pieces.iter().all(Piece::is_whole));
            let inside = pieces.iter().filter(|p| reserve.offset(p.address).is_some());
            let taken: usize = inside.map(|p| p.layout.size().next_multiple_of(PIECE)).sum();
            prop_assert_eq!(reserve.map().taken(), taken);
        }
        pieces.into_iter().for_each(|piece| piece.free(&reserve));
        prop_assert_eq!(reserve.map().taken(), 0);
    }
}

#[test]
fn an_empty_reserve_gives_null_and_what_is_freed_can_be_had_again() {
    share_of_all();
    let reserve = Reserve::<4, Kernel>::over(Kernel::empty());
    let get = || Piece::new(&reserve, layout(1024, 8), 7, false);
    let mut all: Vec<Piece> = std::iter::from_fn(get).collect();
    assert_eq!((all.len(), reserve.map().taken()), (4, 4096));
    assert!(Piece::new(&reserve, layout(1, 1), 7, false).is_none());
    assert!(!all[3].resize(&reserve, 1025), "it has no place to grow to");
    assert!(all.iter().all(Piece::is_whole));
    all.swap_remove(1).free(&reserve);
    let again = get().unwrap();
    assert!(get().is_none());
    again.free(&reserve);
    all.into_iter().for_each(|piece| piece.free(&reserve));
    let whole = Piece::new(&reserve, layout(4096, 4096), 7, true).unwrap();
    whole.free(&reserve);
    assert!(Piece::new(&reserve, layout(4097, 1), 7, true).is_none());
}

#[test]
fn threads_have_the_half_and_who_can_do_without_has_nothing() {
    let reserve = Box::leak(Box::new(Reserve::<8, Kernel>::over(Kernel::empty())));
    let count = |reserve: &'static Reserve<8, Kernel>| {
        let get = || Piece::new(reserve, layout(512, 1), 1, false);
        let all: Vec<Piece> = std::iter::from_fn(get).collect();
        let count = all.len();
        all.into_iter().for_each(|piece| piece.free(reserve));
        count
    };
    let reserve = &*reserve;
    assert_eq!(std::thread::spawn(move || count(reserve)).join().unwrap(), 8);
    let helper = move || {
        share_of_all();
        count(reserve)
    };
    assert_eq!(std::thread::spawn(helper).join().unwrap(), 16);
    share_of_all();
    let mut piece = Piece::new(reserve, layout(64, 1), 1, false).unwrap();
    with(Share::Nothing, || {
        assert!(Piece::new(reserve, layout(1, 1), 1, false).is_none());
        assert!(!piece.resize(reserve, 65), "there is a place for it, but not for this one");
    });
    assert_eq!(with(Share::Sparing, || count(reserve)), 7);
    assert!(with(Share::Sparing, || piece.resize(reserve, 65)));
    piece.free(reserve);
    // by the program's own allocator, which is the system's here
    assert!(try_grow(&mut Vec::new(), 1 << 20));
    assert!(!try_grow(&mut Vec::new(), usize::MAX / 4));
}

/// What one thread has taken another gives back, while all of them take.
#[test]
fn threads_free_what_others_have_taken() {
    let reserve = &*Box::leak(Box::new(Reserve::<64, Kernel>::over(Kernel::empty())));
    let (send, receive): (Vec<_>, Vec<_>) = (0..4).map(|_| mpsc::channel::<Piece>()).unzip();
    let threads = receive.into_iter().zip(0_usize..).map(|(receive, own)| {
        let next = send[(own + 1) % 4].clone();
        std::thread::spawn(move || {
            share_of_all();
            let mut had = 0_usize;
            for round in 0..2_000_usize {
                let size = (round * 37 + own * 11) % 900 + 1;
                let byte = u8::try_from(round % 251).unwrap();
                if let Some(mut piece) = Piece::new(reserve, layout(size, 16), byte, false) {
                    had += 1;
                    piece.resize(reserve, size / 2 + 1);
                    next.send(piece).unwrap();
                }
                receive.try_iter().for_each(|piece| piece.free(reserve));
            }
            drop(next);
            receive.into_iter().for_each(|piece| piece.free(reserve));
            had
        })
    });
    let threads: Vec<_> = threads.collect();
    drop(send);
    let had: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert!(had > 100, "{had}");
    assert_eq!(reserve.map().taken(), 0);
}
