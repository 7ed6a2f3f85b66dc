//! Any refusal -> a Kubernetes Status. The only place that knows HTTP codes of Holdfast's own answers.

use http::{HeaderMap, Response};

use crate::body::{self, Body};
use crate::policy::Reason;
use crate::request_info::RequestInfo;

/// The Status of a refusal, in the encoding the client accepts (JSON unless it asks for protobuf first), without `Retry-After`.
/// `details.causes[0].reason` is the variant; the code is 503, but 504 for `WriteUnanswered` and `ResourceVersionTooLarge`, 404 for `NotFound`, 410 for `Expired`, 401 for `ClientCertificate`.
pub fn refuse(reason: Reason, info: Option<&RequestInfo>, request: &HeaderMap) -> Response<Body> {
    let _ = (reason, info, request);
    Response::new(body::empty())
}
