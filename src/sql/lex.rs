//! The tokenizer: the bytes of a statement → tokens as MySQL and MariaDB see them, without allocation.
//!
//! It never fails: what no server would accept comes out as some token, and the store says what is wrong with it.
//! Insignificant comments are skipped; those that act come out as [`Lexeme::Acting`]. Every call advances by at least one
//! byte, so that any text ends. Source: MariaDB 10.11 `sql/sql_lex.cc` (`lex_one_token`), MySQL 8.0 manual 9.1–9.7.

use super::dialect::{CharsetClass, Dialect};
use super::facts::Span;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lexeme {
    /// An unquoted word: keyword or name.
    Word,
    /// An unquoted word directly after `name.`: never a keyword; may begin with a digit.
    Member,
    /// A quoted name, quotes included: `` `x` ``, or `"x"` with ANSI_QUOTES.
    Quoted,
    /// A string literal, quotes included (also `N'…'`).
    Text,
    /// A number, hex or bit literal, or `\N`.
    Number,
    /// `?`
    Parameter,
    /// `@x`, `` @`x` ``, `@'x'`, `@"x"`, or a bare `@`.
    UserVariable,
    /// `@@`; the words after it name a system variable.
    SystemVariable,
    /// `:=`
    Assign,
    /// Any other byte that stands for itself.
    Op(u8),
    /// A comment that acts.
    Acting(Acting),
    /// The end of the text (or of what is read of it).
    End,
}

/// Comments that change what a statement does or where it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acting {
    /// `/*+ … */`
    OptimizerHint,
    /// `/* switchover: … */`
    RoutingHint,
    /// The opening of an executable comment whose content is read as text: `/*!50000`.
    Entered,
    /// A whole executable comment that is skipped.
    Skipped,
}

/// How executable comments are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// As the dialect's engine does.
    Engine,
    /// All are run.
    RunAll,
    /// None is run.
    RunNone,
}

/// A token: what it is and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub lexeme: Lexeme,
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Token {
    /// Its place as facts give it; texts above 4 GiB cannot reach the proxy.
    #[must_use]
    pub fn span(&self) -> Span {
        Span { start: offset(self.start), end: offset(self.end) }
    }
}

pub(crate) fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

// Classes of a token's first byte.
const SPACE: u8 = 0;
const LETTER: u8 = 1;
const DIGIT: u8 = 2;
const QUOTE: u8 = 3;
const OTHER: u8 = 4;
/// Bit set for bytes that continue a name.
const NAME: u8 = 0x80;

const fn classes() -> [u8; 256] {
    let mut table = [OTHER; 256];
    let mut i = 0;
    #[expect(
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        reason = "i is below 256; evaluated by the compiler"
    )]
    while i < 256 {
        let b = i as u8;
        table[i] = match b {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0B | 0x0C => SPACE,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'$' | 0x80..=0xFF => LETTER | NAME,
            b'0'..=b'9' => DIGIT | NAME,
            b'\'' | b'"' | b'`' => QUOTE,
            _ => OTHER,
        };
        i += 1;
    }
    table
}

static CLASSES: [u8; 256] = classes();

#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "a byte cannot exceed a table of 256")]
fn class(b: u8) -> u8 {
    CLASSES[b as usize]
}

#[inline(always)]
fn is_name(b: u8) -> bool {
    class(b) & NAME != 0
}

/// How many of eight bytes, from the first on, continue a name: all at once, since the end of a word is hard to predict.
#[inline(always)]
fn name_bytes(x: u64) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * ONES;
    // Bytes below 0x80 in `y`; each test sets the high bit of the bytes that it finds.
    let y = x & !HIGH;
    let within = |v: u64, low: u64, high: u64| (v + (0x80 - low) * ONES) & !(v + (0x7F - high) * ONES);
    let letter = within(y | (0x20 * ONES), b'a'.into(), b'z'.into());
    let digit = within(y, b'0'.into(), b'9'.into());
    let other = !((y ^ (u64::from(b'_') * ONES)) + 0x7F * ONES) | !((y ^ (u64::from(b'$') * ONES)) + 0x7F * ONES);
    let ends = !(letter | digit | other | x) & HIGH;
    (ends.trailing_zeros() / 8) as usize
}

/// Reads tokens one after another. Copying it is cheap, and is how callers look ahead.
#[derive(Debug, Clone, Copy)]
pub struct Lexer<'a> {
    text: &'a [u8],
    pos: usize,
    dialect: Dialect,
    reading: Reading,
    /// Executable comments that are open.
    depth: u32,
    /// The last token was a name, and a `.` that follows directly makes the next word a member.
    after_name: bool,
    /// The last token was such a `.`.
    after_dot: bool,
}

impl<'a> Lexer<'a> {
    /// Begins at the start of `text`.
    #[must_use]
    pub fn new(text: &'a [u8], dialect: &Dialect) -> Self {
        Lexer::reading(text, dialect, Reading::Engine)
    }

    /// Begins at the start of `text`, with a choice of what executable comments do.
    #[must_use]
    pub fn reading(text: &'a [u8], dialect: &Dialect, reading: Reading) -> Self {
        Lexer { text, pos: 0, dialect: *dialect, reading, depth: 0, after_name: false, after_dot: false }
    }

    /// The whole text.
    #[must_use]
    pub fn text(&self) -> &'a [u8] {
        self.text
    }

    /// The bytes of a token.
    #[must_use]
    #[inline]
    pub fn bytes(&self, token: &Token) -> &'a [u8] {
        self.text.get(token.start..token.end).unwrap_or_default()
    }

    #[inline(always)]
    fn at(&self, pos: usize) -> u8 {
        self.text.get(pos).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn rest(&self, pos: usize) -> &'a [u8] {
        self.text.get(pos..).unwrap_or_default()
    }

    /// The next token; [`Lexeme::End`] for ever once the text is used up.
    #[inline]
    pub fn next_token(&mut self) -> Token {
        loop {
            let mut start = self.pos;
            if self.at(start) == b' ' {
                start += 1;
                self.pos = start;
                self.after_name = false;
                self.after_dot = false;
            }
            let Some(&b) = self.text.get(start) else {
                return Token { lexeme: Lexeme::End, start: self.text.len(), end: self.text.len() };
            };
            let after_dot = std::mem::take(&mut self.after_dot);
            let lexeme = match class(b) & !NAME {
                SPACE => {
                    self.pos += 1;
                    self.after_name = false;
                    continue;
                }
                LETTER => self.word(start, b, after_dot),
                DIGIT if after_dot => self.member(start),
                DIGIT => self.number_or_word(start, b),
                QUOTE => self.quote(start, b),
                _ => match self.operator(start, b) {
                    Some(lexeme) => lexeme,
                    None => continue,
                },
            };
            self.after_name = matches!(lexeme, Lexeme::Word | Lexeme::Member | Lexeme::Quoted);
            return Token { lexeme, start, end: self.pos };
        }
    }

    #[inline(always)]
    fn skip_name(&mut self, from: usize) {
        let mut pos = from;
        if self.dialect.charset == CharsetClass::Safe {
            while let Some(eight) = self.text.get(pos..pos + 8).and_then(|s| <[u8; 8]>::try_from(s).ok()) {
                let n = name_bytes(u64::from_le_bytes(eight));
                pos += n;
                if n < 8 {
                    self.pos = pos;
                    return;
                }
            }
            while is_name(self.at(pos)) {
                pos += 1;
            }
        } else {
            while pos < self.text.len() && is_name(self.at(pos)) {
                pos += self.dialect.charset.char_len(self.at(pos), self.rest(pos + 1));
            }
        }
        self.pos = pos.min(self.text.len());
    }

    #[inline(always)]
    fn word(&mut self, start: usize, first: u8, after_dot: bool) -> Lexeme {
        if after_dot {
            return self.member(start);
        }
        if self.at(start + 1) == b'\'' && matches!(first | 0x20, b'x' | b'b' | b'n') {
            self.pos = self.string_end(start + 1, b'\'');
            return if first | 0x20 == b'n' { Lexeme::Text } else { Lexeme::Number };
        }
        self.skip_name(start);
        Lexeme::Word
    }

    #[inline(never)]
    fn member(&mut self, start: usize) -> Lexeme {
        self.skip_name(start);
        Lexeme::Member
    }

    fn number_or_word(&mut self, start: usize, first: u8) -> Lexeme {
        if first == b'0'
            && let Some(lexeme) = self.prefixed_number(start)
        {
            return lexeme;
        }
        let mut pos = self.digits(start);
        match self.at(pos) {
            b'.' => {
                self.pos = self.exponent(self.digits(pos + 1));
                return Lexeme::Number;
            }
            b'e' | b'E' => {
                let end = self.exponent(pos);
                if end > pos {
                    self.pos = end;
                    return Lexeme::Number;
                }
            }
            b if !is_name(b) => {
                self.pos = pos;
                return Lexeme::Number;
            }
            _ => {}
        }
        pos = pos.max(start + 1);
        self.skip_name(pos);
        Lexeme::Word
    }

    /// `0x1F` and `0b01`, if no name goes on after them.
    fn prefixed_number(&mut self, start: usize) -> Option<Lexeme> {
        let allowed: fn(&u8) -> bool = match self.at(start + 1) {
            b'x' => u8::is_ascii_hexdigit,
            b'b' => |b| matches!(b, b'0' | b'1'),
            _ => return None,
        };
        let digits = self.rest(start + 2).iter().take_while(|b| allowed(b)).count();
        let end = start + 2 + digits;
        if digits == 0 || is_name(self.at(end)) {
            return None;
        }
        self.pos = end;
        Some(Lexeme::Number)
    }

    #[inline(always)]
    fn digits(&self, from: usize) -> usize {
        let mut pos = from;
        while self.at(pos).is_ascii_digit() {
            pos += 1;
        }
        pos.min(self.text.len().max(from))
    }

    /// The end of an exponent at `from` if one stands there, else `from`.
    fn exponent(&self, from: usize) -> usize {
        if self.at(from) | 0x20 != b'e' {
            return from;
        }
        let sign = usize::from(matches!(self.at(from + 1), b'+' | b'-'));
        if self.at(from + 1 + sign).is_ascii_digit() { self.digits(from + 1 + sign) } else { from }
    }

    #[inline(always)]
    fn quote(&mut self, start: usize, quote: u8) -> Lexeme {
        if quote == b'`' {
            self.pos = self.quoted_name_end(start, b'`');
            return Lexeme::Quoted;
        }
        if quote == b'"' && self.dialect.ansi_quotes {
            self.pos = self.quoted_name_end(start, b'"');
            return Lexeme::Quoted;
        }
        self.pos = self.string_end(start, quote);
        Lexeme::Text
    }

    /// One past the quote that closes the string opened at `start`; a doubled quote and a backslash do not close.
    #[inline]
    fn string_end(&self, start: usize, quote: u8) -> usize {
        if self.dialect.charset != CharsetClass::Safe {
            return self.multi_byte_end(start, quote, !self.dialect.no_backslash_escapes);
        }
        if self.dialect.no_backslash_escapes {
            return self.quoted_name_end(start, quote);
        }
        let mut pos = start + 1;
        loop {
            match memchr::memchr2(quote, b'\\', self.rest(pos)) {
                None => return self.text.len(),
                Some(found) => {
                    pos += found;
                    // an escaped byte, or a doubled quote
                    if self.at(pos) == b'\\' || self.at(pos + 1) == quote {
                        pos += 2;
                    } else {
                        return pos + 1;
                    }
                }
            }
        }
    }

    /// As [`Self::string_end`], without backslashes.
    #[inline]
    fn quoted_name_end(&self, start: usize, quote: u8) -> usize {
        if self.dialect.charset != CharsetClass::Safe {
            return self.multi_byte_end(start, quote, false);
        }
        let mut pos = start + 1;
        loop {
            match memchr::memchr(quote, self.rest(pos)) {
                None => return self.text.len(),
                Some(found) if self.at(pos + found + 1) == quote => pos += found + 2,
                Some(found) => return pos + found + 1,
            }
        }
    }

    /// The end of a quoted run in a character set whose trail bytes can look like quotes and backslashes.
    #[inline(never)]
    fn multi_byte_end(&self, start: usize, quote: u8, backslash: bool) -> usize {
        let mut pos = start + 1;
        while let Some(&b) = self.text.get(pos) {
            if b >= 0x80 {
                pos += self.dialect.charset.char_len(b, self.rest(pos + 1));
            } else if b == b'\\' && backslash {
                // The escaped character is one byte here, as in MySQL's own lexer.
                pos += 2;
            } else if b == quote {
                if self.at(pos + 1) != quote {
                    return pos + 1;
                }
                pos += 2;
            } else {
                pos += 1;
            }
        }
        self.text.len()
    }

    /// Operators and comments; `None` where a comment was skipped.
    #[inline(always)]
    fn operator(&mut self, start: usize, b: u8) -> Option<Lexeme> {
        self.pos = start + 1;
        match b {
            b'.' => return Some(self.dot(start)),
            b'/' if self.at(start + 1) == b'*' => return self.comment(start),
            b'*' if self.depth > 0 && self.at(start + 1) == b'/' => {
                self.depth -= 1;
                self.pos = start + 2;
                self.after_name = false;
                return None;
            }
            b'-' if self.at(start + 1) == b'-' && self.opens_line_comment(start + 2) => return self.line_comment(),
            b'#' => return self.line_comment(),
            b'@' => return Some(self.variable(start)),
            b'?' => return Some(Lexeme::Parameter),
            b':' if self.at(start + 1) == b'=' => {
                self.pos = start + 2;
                return Some(Lexeme::Assign);
            }
            b'\\' if self.at(start + 1) == b'N' => {
                self.pos = start + 2;
                return Some(Lexeme::Number);
            }
            _ => {}
        }
        Some(Lexeme::Op(b))
    }

    fn dot(&mut self, start: usize) -> Lexeme {
        let next = self.at(start + 1);
        if self.after_name && is_name(next) {
            self.after_dot = true;
        } else if next.is_ascii_digit() {
            self.pos = self.exponent(self.digits(start + 1));
            return Lexeme::Number;
        }
        Lexeme::Op(b'.')
    }

    /// `--` is a comment only before white space, a control character or the end.
    fn opens_line_comment(&self, pos: usize) -> bool {
        self.text.get(pos).is_none_or(|b| *b <= b' ' || *b == 0x7F)
    }

    #[inline(never)]
    fn line_comment(&mut self) -> Option<Lexeme> {
        self.after_name = false;
        self.pos = memchr::memchr(b'\n', self.rest(self.pos)).map_or(self.text.len(), |n| self.pos + n + 1);
        None
    }

    #[inline(never)]
    fn variable(&mut self, start: usize) -> Lexeme {
        match self.at(start + 1) {
            b'@' => {
                self.pos = start + 2;
                return Lexeme::SystemVariable;
            }
            quote @ (b'\'' | b'"') if quote == b'\'' || !self.dialect.ansi_quotes => {
                self.pos = self.string_end(start + 1, quote);
            }
            quote @ (b'`' | b'"') => self.pos = self.quoted_name_end(start + 1, quote),
            _ => {
                let name = self.rest(start + 1).iter().take_while(|b| is_name(**b) || **b == b'.').count();
                self.pos = start + 1 + name;
            }
        }
        Lexeme::UserVariable
    }

    #[inline(never)]
    fn comment(&mut self, start: usize) -> Option<Lexeme> {
        self.after_name = false;
        let body = start + 2;
        let (maria, tidb, bang) = match (self.at(body), self.at(body + 1)) {
            (b'!', _) => (false, false, body),
            (b'M', b'!') => (true, false, body + 1),
            (b'T', b'!' | b'[') => (false, true, body + 1),
            (b'+', _) => {
                self.pos = self.comment_end(body);
                return Some(Lexeme::Acting(Acting::OptimizerHint));
            }
            _ => {
                self.pos = self.comment_end(body);
                return routing_hint(self.text.get(body..self.pos)).then_some(Lexeme::Acting(Acting::RoutingHint));
            }
        };
        let digits = self.rest(bang + 1).iter().take(6).take_while(|b| b.is_ascii_digit()).count();
        let version = (digits >= 5)
            .then(|| self.rest(bang + 1).iter().take(digits).fold(0u32, |v, b| v * 10 + u32::from(b - b'0')));
        let runs = match self.reading {
            Reading::Engine => !tidb && self.dialect.engine.runs_comment(version, maria),
            Reading::RunAll => true,
            Reading::RunNone => false,
        };
        if runs {
            self.depth = self.depth.saturating_add(1);
            self.pos = bang + 1 + if version.is_some() { digits } else { 0 };
            return Some(Lexeme::Acting(Acting::Entered));
        }
        self.pos = self.nested_comment_end(bang + 1);
        Some(Lexeme::Acting(Acting::Skipped))
    }

    /// One past the `*/` that ends a plain comment.
    fn comment_end(&self, from: usize) -> usize {
        memchr::memmem::find(self.rest(from), b"*/").map_or(self.text.len(), |n| from + n + 2)
    }

    /// As [`Self::comment_end`], where comments inside count.
    fn nested_comment_end(&self, from: usize) -> usize {
        let mut pos = from;
        let mut depth = 1u32;
        while let Some(found) = memchr::memchr2(b'*', b'/', self.rest(pos)) {
            pos += found;
            match (self.at(pos), self.at(pos + 1)) {
                (b'*', b'/') => {
                    depth -= 1;
                    pos += 2;
                    if depth == 0 {
                        return pos;
                    }
                }
                (b'/', b'*') => {
                    depth = depth.saturating_add(1);
                    pos += 2;
                }
                _ => pos += 1,
            }
        }
        self.text.len()
    }
}

/// What every comment that speaks to the proxy begins with.
const HINT: &[u8] = b"switchover:";

fn routing_hint(body: Option<&[u8]>) -> bool {
    body.is_some_and(|b| b.trim_ascii_start().get(..HINT.len()).is_some_and(|h| h.eq_ignore_ascii_case(HINT)))
}

/// NAME of a comment `/* switchover:store=NAME */`.
pub(crate) fn hinted_store(comment: &[u8]) -> Option<&str> {
    let body = comment.strip_prefix(b"/*")?.trim_ascii_start().get(HINT.len()..)?;
    let body = body.strip_suffix(b"*/").unwrap_or(body).trim_ascii();
    let value = body.get(..5).filter(|k| k.eq_ignore_ascii_case(b"store")).and(body.get(5..))?.trim_ascii_start();
    std::str::from_utf8(value.strip_prefix(b"=")?.trim_ascii()).ok().filter(|name| !name.is_empty())
}

#[cfg(test)]
#[path = "lex_tests.rs"]
mod tests;
