//! What upstreams and the log are told of a client's certificate.

use std::fmt::Write as _;
use std::net::IpAddr;

use fusebox_resilience::ClientCertificate;
use http::{HeaderName, HeaderValue};

use crate::certificate::{ShownCertificate, SubjectName};

pub(super) const X_FORWARDED_CLIENT_CERT: HeaderName =
    HeaderName::from_static("x-forwarded-client-cert");

/// An element of the header, as Envoy writes it: `Hash=…;Subject="CN=a";URI=…;DNS=…`.
pub(super) fn element(certificate: &ShownCertificate) -> HeaderValue {
    let mut text = "Hash=".to_owned();
    for byte in certificate.fingerprint {
        let _ = write!(text, "{byte:02x}");
    }
    text += ";Subject=";
    quote(&certificate.facts.subject, &mut text);
    let names = &certificate.facts.names;
    let uris = names.iter().filter_map(|name| match name {
        SubjectName::Uri(uri) => Some(("URI", uri)),
        _ => None,
    });
    let hosts = names.iter().filter_map(|name| match name {
        SubjectName::Dns(host) => Some(("DNS", host)),
        _ => None,
    });
    for (key, value) in uris.chain(hosts) {
        let _ = write!(text, ";{key}=");
        match value.contains([',', ';', '=', '"', ' ']) {
            true => quote(value, &mut text),
            false => escape(value, &mut text),
        }
    }
    HeaderValue::try_from(text).expect("what a header may not have is escaped")
}

/// What the log tells.
pub(super) fn told(certificate: &ShownCertificate) -> ClientCertificate {
    let names = certificate.facts.names.iter().map(|name| match name {
        SubjectName::Dns(name) => format!("DNS:{name}"),
        SubjectName::Uri(uri) => format!("URI:{uri}"),
        SubjectName::Email(address) => format!("email:{address}"),
        SubjectName::Ip(IpAddr::V4(address)) => format!("IP:{address}"),
        SubjectName::Ip(IpAddr::V6(address)) => format!("IP:{address}"),
    });
    let subject = certificate.facts.subject.clone();
    ClientCertificate { subject, names: names.collect() }
}

fn quote(value: &str, text: &mut String) {
    text.push('"');
    escape(value, text);
    text.push('"');
}

/// A quote must not end what stands in quotes, and a header has neither controls nor other
/// alphabets.
fn escape(value: &str, text: &mut String) {
    for char in value.chars() {
        match char {
            '"' | '\\' => text.extend(['\\', char]),
            ' '..='~' => text.push(char),
            _ => {
                let mut bytes = [0; 4];
                for byte in char.encode_utf8(&mut bytes).bytes() {
                    let _ = write!(text, "%{byte:02X}");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::certificate::CertificateFacts;

    #[test]
    fn what_a_name_has_in_it_stays_in_its_place() {
        let facts = CertificateFacts {
            subject: r#"CN=a\,"b",O=ü"#.to_owned() + "\n",
            names: vec![
                SubjectName::Dns("a.example".to_owned()),
                SubjectName::Uri("spiffe://a/b;c=d,e".to_owned()),
                SubjectName::Ip([192, 0, 2, 7].into()),
            ],
            from: SystemTime::UNIX_EPOCH,
            until: SystemTime::UNIX_EPOCH,
        };
        let shown = ShownCertificate { facts, fingerprint: [0xab; 32] };
        let hash = "ab".repeat(32);
        let named = r#"Subject="CN=a\\,\"b\",O=%C3%BC%0A";URI="spiffe://a/b;c=d,e";DNS=a.example"#;
        assert_eq!(element(&shown), format!("Hash={hash};{named}"));
        assert_eq!(told(&shown).names, ["DNS:a.example", "URI:spiffe://a/b;c=d,e", "IP:192.0.2.7"]);
    }
}
