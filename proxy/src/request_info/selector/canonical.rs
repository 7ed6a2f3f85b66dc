//! One text for all selectors that say the same. kubectl writes the terms of one selector in an order that differs from run to run
//! (`client-go:kubernetes/typed/core/v1/event_expansion.go`, `GetFieldSelector`: a Go map).

use std::fmt;

use super::{FieldOperator, FieldRequirement, FieldSelector};
use super::{LabelOperator, LabelRequirement, LabelSelector};

impl LabelSelector {
    /// The selector as this version writes it; as it is when it is none.
    pub fn canonical(selector: &str) -> String {
        Self::parse(selector).map_or_else(|_| selector.to_owned(), |parsed| parsed.to_string())
    }
}

impl FieldSelector {
    /// The selector as this version writes it; as it is when it is none.
    pub fn canonical(selector: &str) -> String {
        Self::parse(selector).map_or_else(|_| selector.to_owned(), |parsed| parsed.to_string())
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&sorted(self.requirements()))
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&sorted(self.requirements()))
    }
}

/// Each requirement once, in the order of their texts.
fn sorted<T: ToString>(requirements: &[T]) -> String {
    let mut texts: Vec<String> = requirements.iter().map(T::to_string).collect();
    texts.sort_unstable();
    texts.dedup();
    texts.join(",")
}

impl fmt::Display for LabelRequirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match &self.operator {
            LabelOperator::Exists => write!(f, "{key}"),
            LabelOperator::DoesNotExist => write!(f, "!{key}"),
            LabelOperator::In(values) => match values.as_slice() {
                [value] => write!(f, "{key}={value}"),
                values => write!(f, "{key} in ({})", values.join(",")),
            },
            LabelOperator::NotIn(values) => match values.as_slice() {
                [value] => write!(f, "{key}!={value}"),
                values => write!(f, "{key} notin ({})", values.join(",")),
            },
            LabelOperator::GreaterThan(least) => write!(f, "{key}>{least}"),
            LabelOperator::LessThan(most) => write!(f, "{key}<{most}"),
        }
    }
}

impl fmt::Display for FieldRequirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operator = match self.operator {
            FieldOperator::Equals => "=",
            FieldOperator::NotEquals => "!=",
        };
        write!(f, "{}{operator}", self.field)?;
        for character in self.value.chars() {
            if matches!(character, '\\' | ',' | '=') {
                f.write_str("\\")?;
            }
            write!(f, "{character}")?;
        }
        Ok(())
    }
}
