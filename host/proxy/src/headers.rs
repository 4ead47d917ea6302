//! All header rules of the proxy, in both directions: which headers end here, and which it adds.
//!
//! Headers that concern one connection end here, and so do those that `Connection` names (RFC 9110,
//! section 7.6.1). `Via` is added (RFC 9110, section 7.6.3) under a name that no other process has,
//! so that a request that comes back is known. Who a request comes from is in `forwarded.rs`.

mod client_cert;
mod forwarded;
mod hop;
mod passing;
mod session_name;
mod upgrade;
mod via;

use std::rc::Rc;

use bytes::Bytes;
use fusebox_head::{HeaderFields, NameSet};
use fusebox_http1::may_trail;
use fusebox_resilience::{Added, RequestFlaw};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};

use client_cert::X_FORWARDED_CLIENT_CERT;
use forwarded::{
    X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO, X_REAL_IP, is_forwarded, is_whole,
};
use via::{PSEUDONYM, own_via};

pub use forwarded::ForwardedRules;
pub use hop::Hop;
pub use passing::{mark_if_passing, mark_passing};
pub use upgrade::{ask_for_upgrade, is_extended_connect, put_upgrade, switched_to, wanted_upgrade};

/// The header of the request id. The id is the client's if it is valid, or else a new one; it goes
/// to the upstream, back to the client, and into every log line.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The same name, which lives for as long as requests and responses do.
pub static ID_NAME: HeaderName = REQUEST_ID;
/// The proxy's status for the client (RFC 9209).
pub const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

macro_rules! hop_by_hop {
    ($($name:literal)*) => {
        /// Headers that always end here, whether or not `Connection` names them.
        const HOP_BY_HOP: [HeaderName; [$($name),*].len()] = [$(HeaderName::from_static($name)),*];

        /// The same, to look for them.
        const HOP_BY_HOP_SET: NameSet = NameSet::new(&[$($name),*]);
    };
}

hop_by_hop! {
    "connection"
    "keep-alive"
    "proxy-connection"
    "proxy-authenticate"
    "proxy-authorization"
    "te"
    "transfer-encoding"
    "upgrade"
}

/// Headers that `Connection` can't remove: they are meant for the whole way. A client must not
/// remove what chose the route or what an earlier proxy added.
const END_TO_END: [HeaderName; 13] = [
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONTENT_LENGTH,
    header::COOKIE,
    header::FORWARDED,
    header::HOST,
    header::VIA,
    REQUEST_ID,
    X_FORWARDED_CLIENT_CERT,
    X_FORWARDED_FOR,
    X_FORWARDED_HOST,
    X_FORWARDED_PROTO,
    X_REAL_IP,
];

/// The longest request id that is taken from a client.
const MAX_REQUEST_ID: usize = 128;

/// The host that a request's headers name, which is nearly always the first of a few: to look for
/// it so takes a tenth of what a lookup takes.
pub fn host(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.iter().find(|(name, _)| **name == header::HOST).map(|(_, host)| host)
}

/// The sender of a request takes trailers: `TE: trailers` goes on.
#[derive(Clone, Copy, Debug)]
pub struct TakesTrailers;

/// Removes the headers of a request, or of an interim response, that end here.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if ends_some(headers) {
        strip(headers);
    }
}

/// Whether any header ends here.
fn ends_some(headers: &HeaderMap) -> bool {
    // Comparing each name costs less than a lookup for each header that ends here.
    headers.keys().any(|name| HOP_BY_HOP.contains(name))
}

fn strip(headers: &mut HeaderMap) {
    let mut ending = headers.keys().filter(|name| HOP_BY_HOP.contains(name));
    if ending.all(|name| *name == header::TE) {
        // As in each call by gRPC.
        headers.remove(header::TE);
        return;
    }
    let options = headers.get_all(header::CONNECTION).into_iter().map(HeaderValue::as_bytes);
    for name in ended_by(options).iter().flatten().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
    // Of an upgrade that ends here. It means nothing without, so nobody looks for it then.
    headers.remove(HTTP2_SETTINGS);
}

/// More names than this are removed from a map: elsewhere each is searched from the beginning.
const FEW: usize = 16;

/// Removes the headers of a response that end here.
pub fn strip_response(headers: &mut HeaderFields) {
    if headers.contains_any(&HOP_BY_HOP_SET) {
        let ended = ended_by(headers.get_all(&header::CONNECTION));
        if ended.as_ref().is_some_and(|ended| ended.len() > FEW) {
            headers.map_mut();
        }
        for name in ended.iter().flatten().chain(&HOP_BY_HOP) {
            headers.remove(name);
        }
        // As above.
        headers.remove(&HTTP2_SETTINGS);
    }
}

/// Removes what no trailer may be.
pub fn strip_trailers(trailers: &mut HeaderMap) {
    let unfit: Vec<_> = trailers.keys().filter(|name| !may_trail(name)).cloned().collect();
    for name in unfit {
        trailers.remove(name);
    }
}

/// Whether a request says that its sender takes trailers.
fn takes_trailers(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::TE).iter();
    let mut codings = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    codings.any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// The headers that these values of `Connection` end. `None`: there are none, or one that only says
/// `keep-alive` or `close`, which is the usual case.
fn ended_by<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Option<Vec<HeaderName>> {
    let (first, second) = (values.next()?, values.next());
    let mut usual = [b"keep-alive".as_slice(), b"close"].into_iter();
    if second.is_none() && usual.any(|usual| first.eq_ignore_ascii_case(usual)) {
        return None;
    }
    let values = [first].into_iter().chain(second).chain(values);
    let options = values.flat_map(|value| value.split(|byte| *byte == b','));
    // An option that is not a valid name can't name a header.
    let names = options.filter_map(|option| HeaderName::from_bytes(option.trim_ascii()).ok());
    Some(names.filter(|name| !END_TO_END.contains(name)).collect())
}

/// What became of a client's headers.
#[derive(Debug)]
pub struct Forwarding {
    /// More headers for the upstream.
    pub added: Option<Added>,
    /// The address of the client.
    pub client: Rc<str>,
    /// Why the request can't go on.
    pub flaw: Option<RequestFlaw>,
    /// Whether the client takes trailers.
    pub takes_trailers: bool,
    /// Whether what the client said of its way was replaced, for the first time on its connection.
    pub is_first_claim: bool,
}

/// Turns the headers of a client's request into those for the upstream.
pub fn forward_request(headers: &mut HeaderMap, version: Version, hop: &Hop) -> Forwarding {
    let ends_some = ends_some(headers);
    let takes_trailers = ends_some && takes_trailers(headers);
    if ends_some {
        strip(headers);
    }
    let (mut via, mut forwarded, mut expect) = (false, false, false);
    for name in headers.keys() {
        via |= *name == header::VIA;
        expect |= *name == header::EXPECT;
        forwarded |= is_forwarded(name);
    }
    let mut flaw = None;
    if expect {
        // The proxy asks for the body at once, so the client has been told to continue.
        flaw = (!expects_to_continue(headers)).then_some(RequestFlaw::Expectation);
        headers.remove(header::EXPECT);
    }
    if via && has_been_here(headers) {
        flaw = Some(RequestFlaw::Loop);
    }
    let is_silenced = forwarded && !hop.peer.is_trusted();
    let is_first_claim = is_silenced && hop.peer.silence(headers, &hop.rules);
    let is_believed = forwarded && !is_silenced;
    let client = match is_believed {
        true => hop.peer.client(headers, &hop.rules),
        false => hop.peer.text().clone(),
    };
    if !(via || is_believed) && version == hop.version {
        let added = Some(hop.usual(host(headers)));
        return Forwarding { added, client, flaw, takes_trailers, is_first_claim };
    }
    // Room for all additions, so that the map grows once at most.
    headers.reserve(5);
    append(headers, header::VIA, own_via(version));
    add_hop(headers, hop, is_believed);
    Forwarding { added: None, client, flaw, takes_trailers, is_first_claim }
}

/// Adds the hop to what is said of the way so far.
fn add_hop(headers: &mut HeaderMap, hop: &Hop, is_believed: bool) {
    let host = headers.get(header::HOST).cloned();
    if hop.rules.by_x {
        if let Some(host) = host.clone()
            && !(is_believed && headers.contains_key(X_FORWARDED_HOST))
        {
            headers.insert(X_FORWARDED_HOST, host);
        }
        append(headers, X_FORWARDED_FOR, &hop.peer.value());
        if !headers.contains_key(X_FORWARDED_PROTO) {
            headers.insert(X_FORWARDED_PROTO, hop.proto());
        }
    }
    if hop.rules.by_standard || is_believed && headers.contains_key(header::FORWARDED) {
        // Quotes that do not end would take our word into them.
        if !headers.get_all(header::FORWARDED).iter().all(is_whole) {
            headers.remove(header::FORWARDED);
        }
        append(headers, header::FORWARDED, &hop.peer.element(host.as_ref()));
    }
    if let Some(element) = hop.element() {
        append(headers, X_FORWARDED_CLIENT_CERT, element);
    }
}

/// Whether all that a request expects is to be told to continue (RFC 9110, section 10.1.1).
fn expects_to_continue(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::EXPECT).iter();
    values.all(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Whether this process is among those that have handed a request on.
fn has_been_here(headers: &HeaderMap) -> bool {
    let own = PSEUDONYM.as_bytes();
    let mut values = headers.get_all(header::VIA).iter();
    values.any(|value| value.as_bytes().windows(own.len()).any(|window| window == own))
}

/// Adds the proxy to the `Via` of an upstream's response, which came over this version. Returns
/// what is to be sent as `Via` if there is none.
pub fn add_to_via(headers: &mut HeaderFields, version: Version) -> Option<&'static HeaderValue> {
    let own = own_via(version);
    if headers.contains(&header::VIA) {
        append(headers.map_mut(), header::VIA, own);
        return None;
    }
    Some(own)
}

/// Tells layers further out that this failure of an upstream went out after so many attempts.
pub fn add_attempts(headers: &mut HeaderMap, received: StatusCode, attempts: u32) {
    let status = format!("fusebox; received-status={}; attempts={attempts}", received.as_u16());
    if let Ok(status) = HeaderValue::try_from(status) {
        append(headers, PROXY_STATUS, &status);
    }
}

/// Takes the client's request id out. `None`: there is none that is safe in a header and a log
/// line.
pub fn take_request_id(headers: &mut HeaderMap) -> Option<HeaderValue> {
    if !headers.keys().any(|name| *name == REQUEST_ID) {
        return None;
    }
    let id = headers.remove(REQUEST_ID)?;
    let sane = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:+/=@".contains(byte);
    ((1..=MAX_REQUEST_ID).contains(&id.len()) && id.as_bytes().iter().all(sane)).then_some(id)
}

/// Appends `item` to a list header, in one field.
fn append(headers: &mut HeaderMap, name: HeaderName, item: &HeaderValue) {
    let mut list = Vec::new();
    for value in headers.get_all(&name) {
        list.extend_from_slice(value.as_bytes());
        list.extend_from_slice(b", ");
    }
    if list.is_empty() {
        headers.insert(name, item.clone());
        return;
    }
    list.extend_from_slice(item.as_bytes());
    // Valid values joined by commas are a valid value.
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(list)) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| {
                (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
            })
            .collect()
    }

    fn forwarded_as(version: Version, fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = headers(fields);
        let trusted = vec!["192.0.2.0/24".parse().unwrap()];
        let rules = ForwardedRules { trusted, by_x: true, by_standard: false };
        let hop = Hop::new([192, 0, 2, 7].into(), &rules.into());
        let forwarding = forward_request(&mut headers, version, &hop);
        assert_eq!((forwarding.flaw, forwarding.is_first_claim), (None, false));
        for (name, value) in forwarding.added.iter().flat_map(|added| added.iter()) {
            assert!(!headers.contains_key(name), "{name}");
            headers.insert(name, value.clone());
        }
        headers
    }

    fn forwarded(fields: &[(&'static str, &str)]) -> HeaderMap {
        forwarded_as(Version::HTTP_11, fields)
    }

    #[test]
    fn a_hop_adds_who_asked_and_how_whatever_an_earlier_one_has_said() {
        let theirs = [
            ("via", "1.1 edge"),
            ("x-forwarded-for", "198.51.100.1"),
            ("x-forwarded-proto", "https"),
        ];
        for chosen in 0..8 {
            for (version, own) in
                [Version::HTTP_10, Version::HTTP_11].map(|version| (version, own_via(version)))
            {
                let own = own.to_str().unwrap();
                let said = |index: usize| (chosen >> index & 1 == 1).then_some(theirs[index]);
                let fields: Vec<_> =
                    [Some(("host", "b"))].into_iter().chain((0..3).map(said)).flatten().collect();
                let headers = forwarded_as(version, &fields);
                let list = |index: usize, own: &str| {
                    said(index).map_or(own.to_owned(), |(_, it)| format!("{it}, {own}"))
                };
                assert_eq!(headers["via"], list(0, own), "{fields:?}");
                assert_eq!(headers["x-forwarded-for"], list(1, "192.0.2.7"), "{fields:?}");
                assert_eq!(
                    headers["x-forwarded-proto"],
                    said(2).map_or("http", |(_, it)| it),
                    "{fields:?}"
                );
                assert_eq!(
                    (headers["x-forwarded-host"].as_bytes(), headers.len()),
                    (&b"b"[..], 5),
                    "{fields:?}"
                );
            }
        }
    }

    #[test]
    fn what_ends_here_is_looked_for() {
        for name in HOP_BY_HOP {
            let mut fields: HeaderFields = headers(&[("server", "b")]).into();
            assert!(!fields.contains_any(&HOP_BY_HOP_SET));
            fields.map_mut().insert(name.clone(), HeaderValue::from_static("1"));
            strip_response(&mut fields);
            assert_eq!(fields.into_map(), headers(&[("server", "b")]), "{name}");
        }
    }

    #[test]
    fn what_concerns_one_connection_ends_here() {
        let headers = forwarded(&[
            ("connection", "close, X-Private"),
            ("connection", "x-also, Host, x-forwarded-proto"),
            ("host", "b"),
            ("x-forwarded-proto", "https"),
            ("x-private", "1"),
            ("x-also", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic eDp5"),
            ("expect", "100-continue"),
            ("x-kept", "1"),
        ]);
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            ["host", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-kept"]
        );
    }

    #[test]
    fn lists_are_appended_to_and_what_an_earlier_proxy_said_stays() {
        let headers = forwarded(&[
            ("host", "b.example:3002"),
            ("via", "1.1 edge"),
            ("x-forwarded-for", "198.51.100.1"),
            ("x-forwarded-for", "198.51.100.2"),
            ("x-forwarded-proto", "https"),
        ]);
        assert_eq!(
            headers["via"],
            format!("1.1 edge, {}", own_via(Version::HTTP_11).to_str().unwrap())
        );
        assert_eq!(headers["x-forwarded-for"], "198.51.100.1, 198.51.100.2, 192.0.2.7");
        assert_eq!(headers.get_all("x-forwarded-for").iter().count(), 1);
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(headers["x-forwarded-host"], "b.example:3002");
    }

    #[test]
    fn a_request_id_is_taken_only_if_it_is_sane() {
        let taken = |id: &str| {
            let mut headers = headers(&[("x-request-id", id), ("x-request-id", "2")]);
            let taken = take_request_id(&mut headers);
            assert!(headers.is_empty());
            taken.inspect(|taken| assert_eq!(taken, id)).is_some()
        };
        assert!(taken("7f9c-42.a_B"));
        for wrong in ["", "a b", "a\"b", "ä", "{}", &"x".repeat(129)] {
            assert!(!taken(wrong), "{wrong}");
        }
    }
}
