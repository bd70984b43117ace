//! SET in all its forms, into a list of assignments.

use super::Scanner;
use super::cursor::Tok;
use super::query::State;
use crate::sql::facts::{Assignment, Characteristics, Flags, Kind};
use crate::sql::lex::Lexeme;
use crate::sql::word;

/// Scope of an assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    None,
    Session,
    Global,
}

/// `SET @@tx_isolation = …`, `SET @@tx_read_only = …`
fn one_characteristic(name: &str, value: Option<&str>) -> Characteristics {
    let Some(value) = value else { return Characteristics::default() };
    if name.ends_with("isolation") {
        return Characteristics { isolation: Characteristics::level(value), read_only: None };
    }
    let on = ["1", "on", "true"].iter().any(|v| v.eq_ignore_ascii_case(value));
    Characteristics { isolation: None, read_only: Some(on) }
}

impl Scanner<'_> {
    /// `SET …`; `SET STATEMENT … FOR stmt` is that statement.
    pub(super) fn set(&mut self) -> Kind {
        self.cur.bump();
        self.set_state(State::Rest);
        self.flags |= Flags::LITERALS_MATTER;
        if self.cur.is(word::STATEMENT) && !self.assigns_next() {
            self.walk_to(&[word::FOR]);
            self.cur.eat(word::FOR);
            self.set_state(State::Start);
            return self.statement();
        }
        let mut list = Vec::new();
        while !self.ended() {
            let assignment = self.assignment();
            self.note(&assignment);
            list.push(assignment);
            if !self.walk_to_comma(&[]) {
                break;
            }
        }
        Kind::Set(list.into())
    }

    /// The next token is a name that is assigned to (`SET names = 1` and the like).
    fn assigns_next(&self) -> bool {
        self.cur.peek2().is_op(b'=') || self.cur.peek2().lexeme == Lexeme::Assign
    }

    fn note(&mut self, assignment: &Assignment) {
        match assignment {
            Assignment::User { .. } => self.flags |= Flags::WRITES_USER_VARIABLES,
            Assignment::Global { .. } => {}
            Assignment::Session { name, value } => {
                self.flags |= Flags::SETS_SESSION;
                let off = value.as_deref().is_some_and(|v| v == "0" || v.eq_ignore_ascii_case("off"));
                if &**name == "autocommit" && !off {
                    self.flags |= Flags::IMPLICIT_COMMIT;
                }
            }
            _ => self.flags |= Flags::SETS_SESSION,
        }
    }

    fn assignment(&mut self) -> Assignment {
        let first = self.cur.peek();
        match first.lexeme {
            Lexeme::UserVariable => {
                self.cur.bump();
                self.eat_assign();
                Assignment::User { name: self.variable_name(first) }
            }
            Lexeme::SystemVariable => {
                self.cur.bump();
                let scope = if self.cur.peek2().is_op(b'.') { self.scope() } else { Scope::None };
                if scope != Scope::None {
                    self.cur.eat_op(b'.');
                }
                self.variable(scope, true)
            }
            _ if self.assigns_next() => self.variable(Scope::None, false),
            _ => self.worded(),
        }
    }

    /// Forms that begin with a keyword.
    fn worded(&mut self) -> Assignment {
        let first = self.cur.peek();
        match first.word {
            word::NAMES => self.names(false),
            word::CHARSET => self.names(true),
            word::CHARACTER | word::CHAR if self.cur.next_is(word::SET) => {
                self.cur.bump();
                self.names(true)
            }
            word::TRANSACTION => Assignment::NextTransaction(self.characteristics()),
            word::PASSWORD => {
                self.flags |= Flags::IMPLICIT_COMMIT;
                self.whole_rest();
                Assignment::Other
            }
            word::ROLE | word::DEFAULT | word::RESOURCE => {
                self.whole_rest();
                Assignment::Other
            }
            _ => {
                let scope = self.scope();
                if self.cur.is(word::TRANSACTION) && !self.assigns_next() {
                    self.whole_rest();
                    return match scope {
                        Scope::Global => Assignment::Global { name: "transaction".into() },
                        _ => Assignment::SessionTransaction,
                    };
                }
                self.variable(scope, false)
            }
        }
    }

    /// `TRANSACTION ISOLATION LEVEL x, READ ONLY`
    fn characteristics(&mut self) -> Characteristics {
        let mut words = Vec::new();
        self.cur.bump();
        while !self.ended() {
            let tok = self.cur.bump();
            words.push(String::from_utf8_lossy(self.cur.bytes(tok.span())).to_ascii_uppercase());
        }
        let text = words.join(" ");
        let level = text.split_once("LEVEL ").map(|(_, rest)| rest.split(',').next().unwrap_or_default().trim());
        let read_only =
            if text.contains("READ ONLY") { Some(true) } else { text.contains("READ WRITE").then_some(false) };
        Characteristics { isolation: level.and_then(Characteristics::level), read_only }
    }

    /// SET ROLE, SET TRANSACTION … take the rest of the statement, commas included.
    fn whole_rest(&mut self) {
        self.accounts = true;
        self.walk();
    }

    /// Takes GLOBAL, SESSION, LOCAL, PERSIST … if one stands next.
    fn scope(&mut self) -> Scope {
        let scope = match self.cur.peek().word {
            word::SESSION | word::LOCAL => Scope::Session,
            word::GLOBAL | word::PERSIST | word::PERSIST_ONLY => Scope::Global,
            _ => return Scope::None,
        };
        self.cur.bump();
        scope
    }

    fn eat_assign(&mut self) {
        if self.cur.is_op(b'=') || self.cur.peek().lexeme == Lexeme::Assign {
            self.cur.bump();
        }
    }

    /// `[component.]name = value`; `SET @@tx_isolation = …` without a scope is for the next transaction, without `@@` it is
    /// for the session.
    fn variable(&mut self, scope: Scope, at_signs: bool) -> Assignment {
        let mut name = String::from(self.name_text()).to_lowercase();
        while self.cur.is_op(b'.') && self.cur.peek2().is_name() {
            self.cur.bump();
            name = format!("{name}.{}", self.name_text().to_lowercase());
        }
        self.eat_assign();
        if scope == Scope::Global {
            return Assignment::Global { name: name.into() };
        }
        let transactional = matches!(
            name.as_str(),
            "tx_isolation" | "transaction_isolation" | "tx_read_only" | "transaction_read_only"
        );
        if at_signs && scope == Scope::None && transactional {
            let value = self.plain_value();
            return Assignment::NextTransaction(one_characteristic(&name, value.as_deref()));
        }
        let value = self.plain_value();
        Assignment::Session { name: name.into(), value }
    }

    /// The value if it is one literal or word.
    fn plain_value(&mut self) -> Option<Box<str>> {
        let mut first = self.cur.peek();
        let mut behind = self.cur.peek2();
        let negative = first.is_op(b'-') && behind.lexeme == Lexeme::Number;
        if negative {
            let mut ahead = self.cur.ahead();
            ahead.bump();
            (first, behind) = (ahead.peek(), ahead.peek2());
        }
        if !matches!(behind.lexeme, Lexeme::End | Lexeme::Op(b',' | b';')) || first.word == word::DEFAULT {
            return None;
        }
        let text = match first.lexeme {
            Lexeme::Text => String::from_utf8_lossy(&self.cur.string_value(first)).into_owned(),
            Lexeme::Number | Lexeme::Word | Lexeme::Quoted => self.cur.unquoted(first.span()).into_string(),
            _ => return None,
        };
        Some(if negative { format!("-{text}").into() } else { text.into() })
    }

    /// `NAMES x [COLLATE y]`, `CHARACTER SET x`
    fn names(&mut self, character_set_form: bool) -> Assignment {
        self.cur.bump();
        self.eat_assign();
        let tok = self.cur.peek();
        let name = |tok: Tok| match tok.lexeme {
            _ if tok.word == word::DEFAULT => None,
            Lexeme::Text => Some(String::from_utf8_lossy(&self.cur.string_value(tok)).to_lowercase()),
            Lexeme::Word | Lexeme::Quoted => Some(self.cur.unquoted(tok.span()).to_lowercase()),
            _ => None,
        };
        let mut ahead = self.cur.ahead();
        ahead.bump();
        let collates = self.cur.bytes(ahead.peek().span()).eq_ignore_ascii_case(b"COLLATE");
        let collation = if collates { name(ahead.peek2()) } else { None };
        let (charset, collation) = (name(tok).map(Into::into), collation.map(Into::into));
        Assignment::Names { charset, collation, character_set_form }
    }
}
