//! Tokens, the splitter and fingerprints over any bytes in any dialect: they end, advance, and agree with one another.
#![no_main]

use libfuzzer_sys::fuzz_target;
use switchover::sql::fingerprint::digest_text;
use switchover::sql::lex::{Lexeme, Lexer, Reading};
use switchover::sql::split::split;
use switchover::sql::{CharsetClass, Dialect, Engine, fingerprint};

fn dialect(byte: u8) -> Dialect {
    Dialect {
        charset: [CharsetClass::Safe, CharsetClass::Gbk, CharsetClass::Sjis, CharsetClass::Big5][usize::from(byte & 3)],
        ansi_quotes: byte & 4 != 0,
        no_backslash_escapes: byte & 8 != 0,
        ignore_space: byte & 16 != 0,
        engine: if byte & 32 != 0 { Engine::MySql { version: 80_036 } } else { Engine::default() },
    }
}

fuzz_target!(|data: &[u8]| {
    let [first, sql @ ..] = data else { return };
    let dialect = dialect(*first);
    for reading in [Reading::Engine, Reading::RunAll, Reading::RunNone] {
        let mut lexer = Lexer::reading(sql, &dialect, reading);
        let mut at = 0;
        // one byte a token at least, so that any text ends
        for _ in 0..=sql.len() {
            let token = lexer.next_token();
            if token.lexeme == Lexeme::End {
                at = usize::MAX;
                break;
            }
            assert!(token.start >= at && token.end > token.start && token.end <= sql.len(), "{token:?} at {at}");
            assert_eq!(lexer.bytes(&token), &sql[token.start..token.end]);
            at = token.end;
        }
        assert_eq!(at, usize::MAX, "more tokens than bytes");
    }
    let mut end = 0;
    for span in split(sql, &dialect) {
        let (start, stop) = (span.start as usize, span.end as usize);
        assert!(start >= end && stop >= start && stop <= sql.len());
        // only a semicolon stands between two statements
        assert!(end == start || &sql[end..start] == b";");
        end = stop;
    }
    let one = fingerprint(sql, &dialect);
    assert_eq!(one, fingerprint(sql, &dialect));
    assert!(digest_text(sql, &dialect).len() <= sql.len() * 4 + 64);
});
