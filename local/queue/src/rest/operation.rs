//! What a request asks for, told from its method, path and query.

use http::Method;

use super::reply::Refusal;
use super::request::Request;
use crate::auth::{Need, Resource};

/// An operation of the service, with the names in its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation<'a> {
    ListQueues,
    GetProperties,
    SetProperties,
    GetStats,
    CreateQueue(&'a str),
    DeleteQueue(&'a str),
    GetMetadata(&'a str),
    SetMetadata(&'a str),
    GetAcl(&'a str),
    SetAcl(&'a str),
    PutMessage(&'a str),
    GetMessages(&'a str),
    PeekMessages(&'a str),
    ClearMessages(&'a str),
    UpdateMessage(&'a str, &'a str),
    DeleteMessage(&'a str, &'a str),
}

impl<'a> Operation<'a> {
    /// The operation that `request` asks for on `account`.
    pub(super) fn of(account: &str, request: &'a Request) -> Result<Self, Refusal> {
        let mut segments = request.segments.iter().map(String::as_str);
        let name = segments.next().ok_or_else(Refusal::invalid_uri)?;
        // The secondary location answers what the primary one does, and takes nothing.
        let reads = matches!(request.method, Method::GET | Method::HEAD);
        if name != account && !(reads && name.strip_suffix("-secondary") == Some(account)) {
            return Err(Refusal::invalid_uri());
        }
        let path: Vec<&str> = segments.collect();
        match path.as_slice() {
            [] => Self::of_account(request),
            [queue] => Self::of_queue(request, queue),
            [queue, "messages"] => Self::of_messages(request, queue),
            [queue, "messages", id] => match request.method {
                Method::PUT => Ok(Self::UpdateMessage(queue, id)),
                Method::DELETE => Ok(Self::DeleteMessage(queue, id)),
                _ => Err(Refusal::unsupported_verb()),
            },
            _ => Err(Refusal::invalid_uri()),
        }
    }

    fn of_account(request: &Request) -> Result<Self, Refusal> {
        let component = request.required("comp")?;
        match (component, request.parameter("restype")) {
            ("list", None) => match request.method {
                Method::GET => Ok(Self::ListQueues),
                _ => Err(Refusal::unsupported_verb()),
            },
            ("properties", Some("service")) => match request.method {
                Method::GET => Ok(Self::GetProperties),
                Method::PUT => Ok(Self::SetProperties),
                _ => Err(Refusal::unsupported_verb()),
            },
            ("stats", Some("service")) => match request.method {
                Method::GET => Ok(Self::GetStats),
                _ => Err(Refusal::unsupported_verb()),
            },
            _ => Err(Refusal::invalid_parameter("comp", component)),
        }
    }

    fn of_queue(request: &Request, queue: &'a str) -> Result<Self, Refusal> {
        match (request.parameter("comp"), &request.method) {
            (None, &Method::PUT) => Ok(Self::CreateQueue(queue)),
            (None, &Method::DELETE) => Ok(Self::DeleteQueue(queue)),
            (Some("metadata"), &Method::GET | &Method::HEAD) => Ok(Self::GetMetadata(queue)),
            (Some("metadata"), &Method::PUT) => Ok(Self::SetMetadata(queue)),
            (Some("acl"), &Method::GET | &Method::HEAD) => Ok(Self::GetAcl(queue)),
            (Some("acl"), &Method::PUT) => Ok(Self::SetAcl(queue)),
            (None | Some("metadata" | "acl"), _) => Err(Refusal::unsupported_verb()),
            (Some(component), _) => Err(Refusal::invalid_parameter("comp", component)),
        }
    }

    fn of_messages(request: &Request, queue: &'a str) -> Result<Self, Refusal> {
        match request.method {
            Method::POST => Ok(Self::PutMessage(queue)),
            Method::DELETE => Ok(Self::ClearMessages(queue)),
            Method::GET => match request.parameter("peekonly") {
                Some(peek) if peek.eq_ignore_ascii_case("true") => Ok(Self::PeekMessages(queue)),
                _ => Ok(Self::GetMessages(queue)),
            },
            _ => Err(Refusal::unsupported_verb()),
        }
    }

    /// What this asks of a shared access signature
    /// (<https://learn.microsoft.com/rest/api/storageservices/create-account-sas#queue-service>).
    pub(super) fn need(&self) -> Need {
        let (resource, letters, in_queue) = match self {
            Self::ListQueues => (Resource::Service, "l", false),
            Self::GetProperties | Self::GetStats => (Resource::Service, "r", false),
            Self::SetProperties => (Resource::Service, "w", false),
            Self::CreateQueue(_) => (Resource::Queue, "cw", false),
            Self::DeleteQueue(_) => (Resource::Queue, "d", false),
            Self::GetMetadata(_) => (Resource::Queue, "r", true),
            Self::SetMetadata(_) => (Resource::Queue, "w", false),
            // Whoever could change policies could permit himself everything.
            Self::GetAcl(_) | Self::SetAcl(_) => (Resource::Queue, "", false),
            Self::PutMessage(_) => (Resource::Message, "a", true),
            Self::GetMessages(_) | Self::DeleteMessage(..) => (Resource::Message, "p", true),
            Self::PeekMessages(_) => (Resource::Message, "r", true),
            Self::ClearMessages(_) => (Resource::Message, "d", false),
            Self::UpdateMessage(..) => (Resource::Message, "u", true),
        };
        Need { resource, letters, in_queue }
    }
}
