//! Compound statements and routine bodies: each statement in them is read like a statement of its own.

use super::Scanner;
use super::query::State;
use crate::sql::facts::{Flags, Kind};
use crate::sql::lex::Lexeme;
use crate::sql::word;

impl Scanner<'_> {
    /// `BEGIN NOT ATOMIC …`, `IF …`, `l: LOOP …`; anything else is unknown.
    pub(super) fn compound_or_unknown(&mut self) -> Kind {
        let first = self.cur.peek();
        let labelled = first.is_name() && self.cur.peek2().is_op(b':');
        let opens = matches!(
            first.word,
            word::IF | word::CASE | word::LOOP | word::WHILE | word::REPEAT | word::FOR | word::DECLARE
        );
        if (labelled || opens) && !self.in_compound {
            return self.compound();
        }
        self.cur.bump();
        self.set_state(State::Rest);
        self.rest(Kind::Unknown)
    }

    /// A compound statement that runs now.
    pub(super) fn compound(&mut self) -> Kind {
        self.compound_rest()
    }

    /// Reads statements to the end of the text.
    pub(super) fn compound_rest(&mut self) -> Kind {
        self.compound_body();
        // It may commit, and assign what the statements in it assign.
        Kind::Compound
    }

    /// Reads statements, separated by `;` and the words of control flow, to the end of the text.
    pub(super) fn compound_body(&mut self) {
        let outer = std::mem::replace(&mut self.in_compound, true);
        while !self.cur.at_end() {
            self.frames.truncate(self.base);
            self.set_state(State::Start);
            if !self.cur.eat_op(b';') {
                let at = self.cur.peek().start;
                self.inner_statement();
                // Whatever was not taken: never stand still.
                if self.cur.peek().start == at && !self.cur.at_end() {
                    self.cur.bump();
                }
            }
        }
        self.in_compound = outer;
        self.flags.remove(Flags::CALC_FOUND_ROWS);
    }

    fn inner_statement(&mut self) {
        let tok = self.cur.peek();
        if tok.is_name() && self.cur.peek2().is_op(b':') {
            self.cur.bump();
            self.cur.bump();
            return;
        }
        match tok.word {
            word::BEGIN | word::LOOP | word::THEN | word::ELSE | word::DO | word::NOT | word::ATOMIC => {
                self.cur.bump();
            }
            word::REPEAT => {
                self.cur.bump();
            }
            word::END => {
                self.cur.bump();
                self.cur.eat_any(&[word::IF, word::CASE, word::LOOP, word::WHILE, word::REPEAT, word::FOR]);
                if !self.cur.is_op(b';') && self.cur.peek().is_name() {
                    self.cur.bump();
                }
            }
            word::IF | word::ELSEIF | word::WHILE | word::CASE | word::WHEN | word::FOR | word::UNTIL => {
                self.control(tok.word == word::CASE);
            }
            word::DECLARE => self.declare(),
            word::FETCH | word::OPEN | word::CLOSE | word::LEAVE | word::ITERATE => self.skip_statement(),
            word::RETURN | word::SIGNAL | word::RESIGNAL => {
                self.cur.bump();
                self.set_state(State::Rest);
                self.walk();
            }
            _ if tok.is_name() || tok.is_op(b'(') => {
                self.statement();
            }
            // AS, IS, parameters, characteristics of a routine: not a statement yet.
            _ => {
                self.cur.bump();
            }
        }
    }

    fn skip_statement(&mut self) {
        while !self.ended() {
            self.cur.bump();
        }
    }

    /// The condition of IF, WHILE, CASE …, up to the statements that it guards. A CASE within it is an expression.
    fn control(&mut self, case: bool) {
        self.cur.bump();
        self.set_state(State::Rest);
        let mut cases = 0u32;
        while !self.ended() {
            let tok = self.cur.peek();
            if self.frames.len() <= self.base {
                match tok.word {
                    word::CASE => cases += 1,
                    word::END if cases > 0 => cases -= 1,
                    word::WHEN if case && cases == 0 => {}
                    word::THEN | word::DO if cases == 0 => return,
                    word::END => return,
                    _ => {}
                }
            }
            self.step();
        }
    }

    /// DECLARE: a cursor's query and a default's subqueries count; a handler's statement is the next one.
    fn declare(&mut self) {
        self.cur.bump();
        self.set_state(State::Rest);
        let mut handler = false;
        while !self.ended() {
            let tok = self.cur.peek();
            if tok.word == word::HANDLER {
                handler = true;
            }
            if handler && tok.word == word::FOR {
                self.cur.bump();
                self.handler_conditions();
                return;
            }
            self.step();
        }
    }

    /// `SQLSTATE '42000', NOT FOUND, 1062, name …`
    fn handler_conditions(&mut self) {
        loop {
            let first = self.cur.bump();
            let two = first.word == word::NOT
                || (first.lexeme == Lexeme::Word && self.cur.peek().lexeme == Lexeme::Text)
                || self.cur.is(word::VALUE);
            if two {
                let second = self.cur.bump();
                if second.word == word::VALUE {
                    self.cur.bump();
                }
            }
            if !self.cur.eat_op(b',') {
                return;
            }
        }
    }
}
