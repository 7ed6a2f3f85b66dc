//! Label selectors: `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1,m<2`.
//!
//! Sources of the rules: `apimachinery:pkg/labels/selector.go`, `apimachinery:pkg/api/validate/content/kube.go` and `dns.go`.

use std::collections::BTreeSet;

use super::SelectorError;

/// The longest value, and the longest key without its prefix, in bytes.
const MAX_NAME_BYTES: usize = 63;
/// The longest prefix of a key, in bytes.
const MAX_PREFIX_BYTES: usize = 253;

/// Holds for a set of labels when each requirement does; without any it holds for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// By key; those of one key in the order they were written.
    requirements: Vec<LabelRequirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelRequirement {
    pub key: String,
    pub operator: LabelOperator,
}

/// What a requirement says of the value of its key. `=`, `==` and `!=` are sets of one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LabelOperator {
    Exists,
    DoesNotExist,
    /// Sorted, each value once.
    In(Vec<String>),
    /// The same; an absent key is in no set.
    NotIn(Vec<String>),
    GreaterThan(i64),
    LessThan(i64),
}

impl LabelSelector {
    pub fn parse(selector: &str) -> Result<Self, SelectorError> {
        let mut tokens = Tokens { rest: selector };
        let mut requirements = Vec::new();
        if tokens.peek() == Token::End {
            return Ok(Self { requirements });
        }
        loop {
            requirements.push(tokens.requirement()?);
            match tokens.next() {
                Token::End => break,
                Token::Comma => {}
                _ => return Err(SelectorError::LabelSyntax),
            }
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements })
    }

    /// It holds for every object.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    pub fn requirements(&self) -> &[LabelRequirement] {
        &self.requirements
    }

    /// `label` gives the value of a key, `None` when the object has no such label.
    pub fn matches<'v>(&self, label: impl Fn(&str) -> Option<&'v str>) -> bool {
        self.requirements
            .iter()
            .all(|requirement| requirement.operator.holds(label(&requirement.key)))
    }
}

impl LabelOperator {
    fn holds(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        let is_one_of =
            |values: &[String]| value.is_some_and(|v| values.iter().any(|one| one == v));
        match self {
            Self::Exists => value.is_some(),
            Self::DoesNotExist => value.is_none(),
            Self::In(values) => is_one_of(values),
            Self::NotIn(values) => !is_one_of(values),
            Self::GreaterThan(least) => number().is_some_and(|number| number > *least),
            Self::LessThan(most) => number().is_some_and(|number| number < *most),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Token<'s> {
    End,
    Comma,
    Not,
    Equals,
    NotEquals,
    Greater,
    Less,
    Open,
    Close,
    /// A key, a value, or one of the operators `in` and `notin`: its place decides.
    Word(&'s str),
}

struct Tokens<'s> {
    rest: &'s str,
}

impl<'s> Tokens<'s> {
    fn peek(&self) -> Token<'s> {
        Tokens { rest: self.rest }.next()
    }

    /// A NUL ends the selector, whatever follows; one right behind a token is skipped.
    fn next(&mut self) -> Token<'s> {
        let text = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let (token, len) = match text.as_bytes() {
            [] | [0, ..] => {
                self.rest = "";
                return Token::End;
            }
            [b'=', b'=', ..] => (Token::Equals, 2),
            [b'!', b'=', ..] => (Token::NotEquals, 2),
            [b'=', ..] => (Token::Equals, 1),
            [b'!', ..] => (Token::Not, 1),
            [b',', ..] => (Token::Comma, 1),
            [b'>', ..] => (Token::Greater, 1),
            [b'<', ..] => (Token::Less, 1),
            [b'(', ..] => (Token::Open, 1),
            [b')', ..] => (Token::Close, 1),
            _ => {
                let len = text.find(ends_word).unwrap_or(text.len());
                (Token::Word(&text[..len]), len)
            }
        };
        let rest = &text[len..];
        self.rest = rest.strip_prefix('\0').unwrap_or(rest);
        token
    }

    fn requirement(&mut self) -> Result<LabelRequirement, SelectorError> {
        let mut token = self.next();
        let is_negated = token == Token::Not;
        if is_negated {
            token = self.next();
        }
        let Token::Word(key) = token else {
            return Err(SelectorError::LabelSyntax);
        };
        if !is_key(key) {
            return Err(SelectorError::LabelKey);
        }
        let operator = if is_negated {
            LabelOperator::DoesNotExist
        } else if self.is_at_end() {
            LabelOperator::Exists
        } else {
            self.restriction()?
        };
        Ok(LabelRequirement {
            key: key.to_owned(),
            operator,
        })
    }

    /// What follows a key.
    fn restriction(&mut self) -> Result<LabelOperator, SelectorError> {
        Ok(match self.next() {
            Token::Equals => LabelOperator::In(vec![self.value()?]),
            Token::NotEquals => LabelOperator::NotIn(vec![self.value()?]),
            Token::Greater => LabelOperator::GreaterThan(self.number()?),
            Token::Less => LabelOperator::LessThan(self.number()?),
            Token::Word("in") => LabelOperator::In(self.values()?),
            Token::Word("notin") => LabelOperator::NotIn(self.values()?),
            _ => return Err(SelectorError::LabelSyntax),
        })
    }

    /// One value; nothing stands for the empty one.
    fn value(&mut self) -> Result<String, SelectorError> {
        if self.is_at_end() {
            return Ok(String::new());
        }
        match self.next() {
            Token::Word(value) => checked(value),
            _ => Err(SelectorError::LabelSyntax),
        }
    }

    /// A sign is no part of a label's value, so it can't be part of the number here.
    fn number(&mut self) -> Result<i64, SelectorError> {
        let value = self.value()?;
        value.parse().map_err(|_| SelectorError::LabelValue)
    }

    /// `(a,b)`; nothing before or behind a comma stands for the empty value.
    fn values(&mut self) -> Result<Vec<String>, SelectorError> {
        if self.next() != Token::Open {
            return Err(SelectorError::LabelSyntax);
        }
        let mut values = BTreeSet::new();
        loop {
            let mut token = self.next();
            let value = match token {
                Token::Word(value) => {
                    token = self.next();
                    value
                }
                _ => "",
            };
            values.insert(checked(value)?);
            match token {
                Token::Comma => {}
                Token::Close => return Ok(values.into_iter().collect()),
                _ => return Err(SelectorError::LabelSyntax),
            }
        }
    }

    /// Of a requirement.
    fn is_at_end(&self) -> bool {
        matches!(self.peek(), Token::End | Token::Comma)
    }
}

fn ends_word(character: char) -> bool {
    matches!(
        character,
        '=' | '!' | '(' | ')' | ',' | '>' | '<' | ' ' | '\t' | '\r' | '\n' | '\0'
    )
}

fn checked(value: &str) -> Result<String, SelectorError> {
    if value.is_empty() || is_name(value) {
        Ok(value.to_owned())
    } else {
        Err(SelectorError::LabelValue)
    }
}

/// `[prefix/]name`.
fn is_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_name(name),
        None => is_name(key),
    }
}

/// What a key without its prefix and a value have in common.
fn is_name(text: &str) -> bool {
    let within = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    text.len() <= MAX_NAME_BYTES && is_made_of(text, |b| b.is_ascii_alphanumeric(), within)
}

/// A lower-case DNS subdomain (RFC 1123); its labels may be of any length.
fn is_subdomain(text: &str) -> bool {
    let outer = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.len() <= MAX_PREFIX_BYTES
        && text
            .split('.')
            .all(|label| is_made_of(label, outer, |b| outer(b) || b == b'-'))
}

/// Not empty, of `within` throughout, first and last byte of `outer`.
fn is_made_of(text: &str, outer: impl Fn(u8) -> bool, within: impl Fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    let is_outer = |b: Option<&u8>| b.is_some_and(|b| outer(*b));
    is_outer(bytes.first()) && is_outer(bytes.last()) && bytes.iter().all(|b| within(*b))
}
