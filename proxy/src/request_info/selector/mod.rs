//! Label and field selectors, parsed and evaluated as the API server does. Pure.
//!
//! What the API server would refuse with a 400 is an error here, so that nobody answers it.

mod canonical;
mod field;
mod label;
mod selectable;
#[cfg(test)]
mod tests;

pub use field::{FieldOperator, FieldRequirement, FieldSelector};
pub use label::{LabelOperator, LabelRequirement, LabelSelector};
pub use selectable::selectable_fields;

/// Why the API server would not take a selector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    #[error("the label selector is not a list of requirements")]
    LabelSyntax,
    #[error("the label selector names a key that no label can have")]
    LabelKey,
    #[error(
        "the label selector names a value that no label can have, or compares with what is no number"
    )]
    LabelValue,
    #[error("the field selector is not a list of requirements")]
    FieldSyntax,
    #[error("the field selector has a value that is not escaped as it must be")]
    FieldValue,
    #[error("the field selector names a field that this resource can't be selected by")]
    FieldUnsupported,
}
