//! routing.yaml: any text is a configuration or a list of problems, each at a place of the text; no alias bomb, no deep nesting.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use switchover::config::parse;
use switchover::config::problem::render;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let environment = |name: &str| (name.len() % 2 == 0).then(|| "value".to_owned());
    match parse(text, Path::new("routing.yaml"), &environment) {
        Ok(config) => {
            // what checks once checks again, to the same
            assert!(parse(text, Path::new("routing.yaml"), &environment).is_ok_and(|again| again == config));
            assert!(!config.stores.is_empty());
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            assert!(render(&problems).contains("routing.yaml"));
        }
    }
});
