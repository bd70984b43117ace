//! A plan-cache hit allocates nothing: fingerprint and look-up, over every shape of the corpus.

#![allow(unsafe_code, reason = "a counting allocator is unsafe by its trait")]
#![allow(clippy::unwrap_used, reason = "a test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use switchover::sql::{CharsetClass, Dialect, PlanCache, analyze, fingerprint};

/// Counts the allocations of each thread.
struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = COUNT.try_with(|c| c.set(c.get() + 1));
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count() -> usize {
    COUNT.with(Cell::get)
}

#[test]
fn a_hit_allocates_nothing() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/statements.txt")).unwrap();
    let statements: Vec<String> = text
        .split("\n\n")
        .map(|block| {
            let lines = block.lines().filter(|l| !l.starts_with("# ") && !l.starts_with("@ ") && !l.starts_with("=> "));
            lines.collect::<Vec<_>>().join("\n")
        })
        .collect();
    for charset in [CharsetClass::Safe, CharsetClass::Gbk] {
        let dialect = Dialect { charset, ..Dialect::default() };
        let mut cache = PlanCache::new(16 << 20);
        let mut kept = 0;
        for sql in &statements {
            let analysis = analyze(sql.as_bytes(), &dialect);
            if analysis.cacheable() {
                let weight = analysis.weight();
                cache.insert(fingerprint(sql.as_bytes(), &dialect), analysis, weight);
                kept += 1;
            }
        }
        let before = count();
        let mut hits = 0;
        for sql in &statements {
            hits += usize::from(cache.get(fingerprint(sql.as_bytes(), &dialect)).is_some());
        }
        assert_eq!(count() - before, 0);
        assert_eq!(hits, kept);
        assert!(hits > 250);
    }
    let before = count();
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(count() - before, 1, "the counter counts");
}
