//! Tests of the tokenizer: what MariaDB 10.11 and MySQL 8.0 make of the same bytes.

use super::*;
use crate::sql::dialect::Engine;

fn tokens(text: &str) -> Vec<(Lexeme, String)> {
    tokens_in(text.as_bytes(), &Dialect::default(), Reading::Engine)
}

fn tokens_in(text: &[u8], dialect: &Dialect, reading: Reading) -> Vec<(Lexeme, String)> {
    let mut lexer = Lexer::reading(text, dialect, reading);
    let mut out = Vec::new();
    loop {
        let t = lexer.next_token();
        if t.lexeme == Lexeme::End {
            return out;
        }
        out.push((t.lexeme, String::from_utf8_lossy(lexer.bytes(&t)).into_owned()));
    }
}

fn shape(text: &str) -> String {
    tokens(text).into_iter().map(|(_, s)| s).collect::<Vec<_>>().join("|")
}

#[test]
fn numbers_and_names() {
    assert_eq!(
        shape("1e5 1e 1abc 1.5e-3 .5 0x1F 0xZZ 0b01 0b2 1.e5a"),
        "1e5|1e|1abc|1.5e-3|.5|0x1F|0xZZ|0b01|0b2|1.e5|a"
    );
    assert_eq!(shape("t.1a t.1 t .1 `t`.5"), "t|.|1a|t|.|1|t|.1|`t`|.|5");
    assert_eq!(tokens("t.select").last(), Some(&(Lexeme::Member, "select".into())));
    assert_eq!(tokens("t. select").last(), Some(&(Lexeme::Word, "select".into())));
    assert_eq!(shape("$a_1 été"), "$a_1|été");
    assert_eq!(
        tokens("\\N x'1f' B'01' n'x'").iter().map(|t| t.0).collect::<Vec<_>>(),
        [Lexeme::Number, Lexeme::Number, Lexeme::Number, Lexeme::Text]
    );
}

#[test]
fn strings() {
    assert_eq!(shape(r"'a\'b' 'c''d' 'e"), r"'a\'b'|'c''d'|'e");
    assert_eq!(shape(r#""a""b" `a``b`"#), r#""a""b"|`a``b`"#);
    let plain = Dialect { no_backslash_escapes: true, ..Dialect::default() };
    assert_eq!(tokens_in(br"'a\' b", &plain, Reading::Engine).len(), 2);
    let ansi = Dialect { ansi_quotes: true, ..Dialect::default() };
    assert_eq!(tokens_in(br#""a\""#, &ansi, Reading::Engine), [(Lexeme::Quoted, r#""a\""#.into())]);
}

#[test]
fn a_trail_byte_is_no_backslash() {
    let gbk = Dialect { charset: CharsetClass::Gbk, ..Dialect::default() };
    // In gbk BF 5C is one character, so the quote closes; elsewhere the backslash escapes it.
    let text = b"'\xBF\x5C' OR 1";
    assert_eq!(tokens_in(text, &gbk, Reading::Engine).len(), 3);
    assert_eq!(tokens_in(text, &Dialect::default(), Reading::Engine).len(), 1);
    let sjis = Dialect { charset: CharsetClass::Sjis, ..Dialect::default() };
    assert_eq!(tokens_in(b"\x95\x60 `x`", &sjis, Reading::Engine).len(), 2);
}

#[test]
fn comments() {
    assert_eq!(shape("a -- b\nc # d\ne /* f */ g --1"), "a|c|e|g|-|-|1");
    assert_eq!(shape("a/* /* */ b */"), "a|b|*|/");
    assert_eq!(shape("a --"), "a");
    assert_eq!(shape("a /* open"), "a");
}

#[test]
fn executable_comments() {
    assert_eq!(shape("/*! a */ b"), "/*!|a|b");
    assert_eq!(shape("/*!50701 a /* x */ c */ b"), "/*!50701 a /* x */ c */|b");
    assert_eq!(shape("/*M!50701 a */ /*!100000 b /* c */ d */"), "/*M!50701|a|/*!100000|b|d");
    let mysql = Dialect { engine: Engine::MySql { version: 80_036 }, ..Dialect::default() };
    let text = b"/*!50701 a */ /*!90000 b */ /*M! c */";
    assert_eq!(tokens_in(text, &mysql, Reading::Engine).len(), 4);
    assert_eq!(tokens_in(text, &mysql, Reading::RunAll).len(), 6);
    assert_eq!(tokens_in(text, &mysql, Reading::RunNone).len(), 3);
}

#[test]
fn hints() {
    let t = tokens("SELECT /*+ NO_INDEX(t) */ 1 /* switchover:store=new */ /* other */");
    assert_eq!(t.get(1).map(|t| t.0), Some(Lexeme::Acting(Acting::OptimizerHint)));
    assert_eq!(t.last().map(|t| t.0), Some(Lexeme::Acting(Acting::RoutingHint)));
    assert_eq!(hinted_store(b"/* switchover:store=new */"), Some("new"));
    assert_eq!(hinted_store(b"/*Switchover: STORE = a-b*/"), Some("a-b"));
    assert_eq!(hinted_store(b"/* switchover:store= */"), None);
    assert_eq!(hinted_store(b"/* switchover:other=x */"), None);
}

#[test]
fn variables() {
    assert_eq!(shape("@a.b$1:=@`x y`, @'z', @@session.x, @"), "@a.b$1|:=|@`x y`|,|@'z'|,|@@|session|.|x|,|@");
    assert_eq!(tokens("?")[0].0, Lexeme::Parameter);
}

#[test]
fn every_token_advances() {
    for b in 0..=255u8 {
        for c in 0..=255u8 {
            let text = [b, c, b'\'', b, b'*', b'/'];
            for charset in [CharsetClass::Safe, CharsetClass::Gbk, CharsetClass::Gb18030] {
                let mut lexer = Lexer::new(&text, &Dialect { charset, ..Dialect::default() });
                let mut last = 0;
                loop {
                    let t = lexer.next_token();
                    if t.lexeme == Lexeme::End {
                        break;
                    }
                    assert!(t.end > last && t.end <= text.len().max(t.start), "{text:?}");
                    last = t.end;
                }
            }
        }
    }
}

#[test]
fn eight_bytes_at_once_agree_with_the_table() {
    for b in 0..=255u8 {
        for place in 0..8 {
            let mut bytes = *b"aZ09_$\xE9z";
            bytes[place] = b;
            let expected = bytes.iter().take_while(|b| is_name(**b)).count();
            assert_eq!(name_bytes(u64::from_le_bytes(bytes)), expected, "{bytes:?}");
        }
    }
}
