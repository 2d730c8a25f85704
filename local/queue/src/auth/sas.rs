//! Shared access signatures: for the account, or for one queue.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Denied, Key};
use crate::date;
use crate::store::AccessPolicy;

/// The version from which on account signatures cover an encryption scope.
const ENCRYPTION_SCOPE_SINCE: &str = "2020-12-06";

/// The kinds of resources that an account signature tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resource {
    Service,
    Queue,
    Message,
}

/// What an operation asks of a shared access signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Need {
    pub(crate) resource: Resource,
    /// Any of these letters permits it; none means that no signature does.
    pub(crate) letters: &'static str,
    /// Whether a signature for one queue can permit it.
    pub(crate) in_queue: bool,
}

/// What a request may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Grant {
    /// Everything.
    Account,
    /// What an account signature says.
    AccountSas { types: String, letters: String },
    /// What a signature for the addressed queue says.
    QueueSas { letters: String },
}

impl Grant {
    /// Whether the need is met.
    ///
    /// # Errors
    /// [`Denied`].
    pub(crate) fn permits(&self, need: Need) -> Result<(), Denied> {
        let has_one = |letters: &str| need.letters.chars().any(|letter| letters.contains(letter));
        match self {
            Self::Account => Ok(()),
            Self::AccountSas { types, letters } => {
                let kind = match need.resource {
                    Resource::Service => 's',
                    Resource::Queue => 'c',
                    Resource::Message => 'o',
                };
                if !types.contains(kind) {
                    return Err(Denied::ResourceType);
                }
                if has_one(letters) { Ok(()) } else { Err(Denied::Permission) }
            }
            Self::QueueSas { letters } => {
                if need.in_queue && has_one(letters) {
                    Ok(())
                } else {
                    Err(Denied::Permission)
                }
            }
        }
    }

    /// Reads and checks the signature in the query of a request to `queue`, whose stored policies
    /// are `policies`.
    ///
    /// # Errors
    /// [`Denied`].
    pub(crate) fn of_sas(
        account: &str,
        key: &Key,
        query: &BTreeMap<String, String>,
        queue: Option<(&str, &[AccessPolicy])>,
        source: IpAddr,
        now_ms: u64,
    ) -> Result<Self, Denied> {
        let field = |name: &str| query.get(name).map_or("", String::as_str);
        let is_for_account = query.contains_key("ss");
        let text = if is_for_account {
            let mut lines = vec![account];
            lines.extend(["sp", "ss", "srt", "st", "se", "sip", "spr", "sv"].map(field));
            if field("sv") >= ENCRYPTION_SCOPE_SINCE {
                lines.push(field("ses"));
            }
            lines.join("\n") + "\n"
        } else {
            let (name, _) = queue.ok_or(Denied::Signature)?;
            let resource = format!("/queue/{account}/{name}");
            let mut lines = ["sp", "st", "se"].map(field).to_vec();
            lines.push(&resource);
            lines.extend(["si", "sip", "spr", "sv"].map(field));
            lines.join("\n")
        };
        if !key.accepts(&text, field("sig")) {
            return Err(Denied::Signature);
        }
        // What the signature leaves open, the policy that it refers to says.
        let policy = match field("si") {
            "" => AccessPolicy::default(),
            id => {
                let policies = queue.map_or(&[][..], |(_, policies)| policies);
                let known = policies.iter().find(|policy| policy.id == id);
                known.cloned().ok_or(Denied::SasNotValid)?
            }
        };
        let either = |name: &str, policy: String| match field(name) {
            "" => policy,
            own => own.to_owned(),
        };
        let (start, expiry) = (either("st", policy.start), either("se", policy.expiry));
        let now = i64::try_from(now_ms).unwrap_or(i64::MAX);
        let ends = date::parse_iso8601(&expiry).ok_or(Denied::SasNotValid)?;
        let begins = match start.as_str() {
            "" => i64::MIN,
            start => date::parse_iso8601(start).ok_or(Denied::SasNotValid)?,
        };
        if now < begins || now >= ends {
            return Err(Denied::SasNotValid);
        }
        if field("spr") == "https" {
            return Err(Denied::Protocol);
        }
        if !covers(field("sip"), source) {
            return Err(Denied::SourceAddress);
        }
        let letters = either("sp", policy.permission);
        if !is_for_account {
            return Ok(Self::QueueSas { letters });
        }
        if !field("ss").contains('q') {
            return Err(Denied::Service);
        }
        Ok(Self::AccountSas { types: field("srt").to_owned(), letters })
    }
}

/// Whether an address or range of addresses (`a-b`) holds `source`; nothing holds everything.
fn covers(range: &str, source: IpAddr) -> bool {
    if range.is_empty() {
        return true;
    }
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last) = (first.trim().parse::<IpAddr>(), last.trim().parse::<IpAddr>());
    matches!((first, last), (Ok(first), Ok(last)) if (first..=last).contains(&source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{EMULATOR_ACCOUNT, EMULATOR_KEY};

    const NOW_MS: u64 = 1_767_225_600_000;
    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn query(fields: &[(&str, &str)], text: &str) -> BTreeMap<String, String> {
        let signature = Key::parse(EMULATOR_KEY).unwrap().sign(text);
        let all = fields.iter().copied().chain([("sig", signature.as_str())]);
        all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn check(query: &BTreeMap<String, String>, policies: &[AccessPolicy]) -> Result<Grant, Denied> {
        let key = Key::parse(EMULATOR_KEY).unwrap();
        Grant::of_sas(EMULATOR_ACCOUNT, &key, query, Some(("q1q", policies)), HERE, NOW_MS)
    }

    #[test]
    fn an_account_signature_permits_what_it_says() {
        let fields = [
            ("sp", "rp"),
            ("ss", "bq"),
            ("srt", "o"),
            ("se", "2026-01-02T00:00:00Z"),
            ("sv", "2024-11-04"),
        ];
        let text = "devstoreaccount1\nrp\nbq\no\n\n2026-01-02T00:00:00Z\n\n\n2024-11-04\n\n";
        let grant = check(&query(&fields, text), &[]).unwrap();
        let need = |resource, letters| Need { resource, letters, in_queue: true };
        assert_eq!(grant.permits(need(Resource::Message, "p")), Ok(()));
        assert_eq!(grant.permits(need(Resource::Message, "a")), Err(Denied::Permission));
        assert_eq!(grant.permits(need(Resource::Queue, "r")), Err(Denied::ResourceType));
        let blobs = text.replace("bq", "b");
        let mut other = fields;
        other[1].1 = "b";
        assert_eq!(check(&query(&other, &blobs), &[]), Err(Denied::Service));
        assert_eq!(check(&query(&fields, &blobs), &[]), Err(Denied::Signature));
    }

    #[test]
    fn a_queue_signature_may_leave_the_rest_to_a_policy() {
        let text = "\n\n\n/queue/devstoreaccount1/q1q\nreaders\n\n\n2024-11-04";
        let signed = query(&[("si", "readers"), ("sv", "2024-11-04")], text);
        assert_eq!(check(&signed, &[]), Err(Denied::SasNotValid));
        let mut policy = AccessPolicy {
            id: "readers".to_owned(),
            start: "2025-12-31".to_owned(),
            expiry: "2026-01-02".to_owned(),
            permission: "r".to_owned(),
        };
        let grant = check(&signed, std::slice::from_ref(&policy)).unwrap();
        let need = Need { resource: Resource::Queue, letters: "r", in_queue: true };
        assert_eq!(grant.permits(need), Ok(()));
        assert_eq!(grant.permits(Need { in_queue: false, ..need }), Err(Denied::Permission));
        policy.expiry = "2026-01-01".to_owned();
        assert_eq!(check(&signed, std::slice::from_ref(&policy)), Err(Denied::SasNotValid));
        policy.expiry = "2026-01-03".to_owned();
        policy.start = "2026-01-02".to_owned();
        assert_eq!(check(&signed, &[policy]), Err(Denied::SasNotValid));
    }

    #[test]
    fn addresses_and_protocols_are_held_to() {
        let check_with = |sip: &str, spr: &str| {
            let text =
                format!("r\n\n2026-01-02\n/queue/devstoreaccount1/q1q\n\n{sip}\n{spr}\n2024-11-04");
            let fields = [
                ("sp", "r"),
                ("se", "2026-01-02"),
                ("sip", sip),
                ("spr", spr),
                ("sv", "2024-11-04"),
            ];
            check(&query(&fields, &text), &[]).map(|_| ())
        };
        assert_eq!(check_with("", "https,http"), Ok(()));
        assert_eq!(check_with("127.0.0.1", ""), Ok(()));
        assert_eq!(check_with("127.0.0.0-127.0.0.9", ""), Ok(()));
        assert_eq!(check_with("10.0.0.1", ""), Err(Denied::SourceAddress));
        assert_eq!(check_with("nonsense", ""), Err(Denied::SourceAddress));
        assert_eq!(check_with("", "https"), Err(Denied::Protocol));
    }
}
