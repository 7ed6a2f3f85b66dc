//! Field selectors: `metadata.name=a,status.phase!=Running`. In a value, a backslash escapes `\`, `,` and `=`.
//!
//! Sources of the rules: `apimachinery:pkg/fields/selector.go`, `apiserver:pkg/endpoints/handlers/get.go`.

use super::SelectorError;
use super::selectable::compared_as;

/// Holds for an object when each requirement does; without any it holds for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    /// In the order of their text.
    requirements: Vec<FieldRequirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRequirement {
    pub field: String,
    pub operator: FieldOperator,
    /// Unescaped.
    pub value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldOperator {
    Equals,
    NotEquals,
}

impl FieldSelector {
    /// Any field is taken here; [`Self::of_resource`] knows which ones a resource has.
    pub fn parse(selector: &str) -> Result<Self, SelectorError> {
        let mut terms = split_terms(selector);
        // Of several requirements of one field the first counts where one is looked for.
        terms.sort_unstable();
        let mut requirements = Vec::with_capacity(terms.len());
        for term in terms.into_iter().filter(|term| !term.is_empty()) {
            let requirement = parse_term(term)?;
            // A bare operator requires nothing.
            if !(requirement.field.is_empty() && requirement.value.is_empty()) {
                requirements.push(requirement);
            }
        }
        Ok(Self { requirements })
    }

    /// The selector in the names that the fields of this resource are compared under.
    pub fn of_resource(mut self, group: &str, resource: &str) -> Result<Self, SelectorError> {
        for requirement in &mut self.requirements {
            let field = compared_as(group, resource, &requirement.field)
                .ok_or(SelectorError::FieldUnsupported)?;
            if field != requirement.field {
                requirement.field = field.to_owned();
            }
        }
        Ok(self)
    }

    /// It holds for every object.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    pub fn requirements(&self) -> &[FieldRequirement] {
        &self.requirements
    }

    /// The value that `field` must have.
    pub fn required(&self, field: &str) -> Option<&str> {
        let mut requirements = self.requirements.iter();
        let requirement =
            requirements.find(|r| r.operator == FieldOperator::Equals && r.field == field)?;
        Some(&requirement.value)
    }

    /// `field` gives the value of a field; one that is missing is the empty one.
    pub fn matches<'v>(&self, field: impl Fn(&str) -> Option<&'v str>) -> bool {
        self.requirements.iter().all(|requirement| {
            let is_equal = field(&requirement.field).unwrap_or_default() == requirement.value;
            is_equal == (requirement.operator == FieldOperator::Equals)
        })
    }
}

/// At the commas that no backslash escapes.
fn split_terms(selector: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let mut start = 0;
    let mut escaped = false;
    for (index, character) in selector.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&selector[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    terms.push(&selector[start..]);
    terms
}

/// Splits at the first operator: nothing is escaped in the name of a field.
fn parse_term(term: &str) -> Result<FieldRequirement, SelectorError> {
    let (index, _) = term
        .char_indices()
        .find(|(index, _)| term[*index..].starts_with('=') || term[*index..].starts_with("!="))
        .ok_or(SelectorError::FieldSyntax)?;
    let (field, rest) = term.split_at(index);
    let (operator, value) = match rest.strip_prefix("!=") {
        Some(value) => (FieldOperator::NotEquals, value),
        None => {
            let value = rest.strip_prefix("==").or(rest.strip_prefix('='));
            (FieldOperator::Equals, value.unwrap_or_default())
        }
    };
    Ok(FieldRequirement {
        field: field.to_owned(),
        operator,
        value: unescape(value).ok_or(SelectorError::FieldValue)?,
    })
}

/// `\\`, `\,` and `\=`; any other escape, and a bare `,` or `=`, is an error.
fn unescape(value: &str) -> Option<String> {
    let mut unescaped = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => unescaped.push(
                characters
                    .next()
                    .filter(|c| matches!(c, '\\' | ',' | '='))?,
            ),
            ',' | '=' => return None,
            plain => unescaped.push(plain),
        }
    }
    Some(unescaped)
}
