//! Requests.
//!
//! As a client, fusebox writes them ([`encode_request`]). As a server it reads them, and refuses
//! what can be read in two ways: behind or before it may be somebody who reads it the other way.
//! `httparse` finds the parts of a head; what it lets pass is refused here. After a refusal the
//! connection is closed, and no byte of it is used again.
//!
//! | what comes | answer | RFC 9112, or another |
//! |---|---|---|
//! | up to 4 blank lines before a request | passed over | 2.2 |
//! | more of them | 400 `blank-lines` | 2.2 |
//! | CR or LF alone, anywhere in a head | 400 `line-end` | 2.2 |
//! | a first line that is not `METHOD TARGET VERSION` | 400 `request-line` | 3 |
//! | HTTP/0.9, which has no version | 400 `request-line` | 3 |
//! | another version than 1.0 and 1.1; `PRI * HTTP/2.0` | 505 `version` | 9110, 15.6.6 |
//! | `CONNECT` | 501 `connect` | 9110, 9.3.6 |
//! | any other method | taken | 9110, 9.1 |
//! | a target that begins with `/` | taken as it is | 3.2.1 |
//! | `http://…`, `https://…` | taken as it is | 3.2.2 |
//! | another scheme, an authority, a path without `/` | 400 `target` | 3.2 |
//! | `*` for `OPTIONS` | taken | 3.2.4 |
//! | `*` for another method | 400 `target` | 3.2.4 |
//! | in a target `#`, controls, bytes from 0x80 on | 400 `target` | 3.2 |
//! | in a target what else `http::Uri` does not take | 400 `target` | 3.2 |
//! | a target that fills the head, or 65,535 bytes | 414 `target-too-long` | 3 |
//! | a head of more than `max_size` bytes | 431 `too-large` | 6585, 5 |
//! | more than 100 fields | 431 `too-many-fields` | 6585, 5 |
//! | a line that begins with whitespace | 400 `folding` | 2.2, 5.2 |
//! | whitespace before a colon, no colon, no name | 400 `field-name` | 5.1 |
//! | in a name what no token has | 400 `field-name` | 5.1 |
//! | in a value NUL or another control, but for HTAB | 400 `field-value` | 9110, 5.5 |
//! | in a value bytes from 0x80 on | taken as they are | 9110, 5.5 |
//! | a length of other than digits, or 2⁶⁴ and more | 400 `content-length` | 6.3 |
//! | equal lengths, `5, 5` and two fields; `005` | one plain number | 6.3 |
//! | lengths that differ | 400 `different-lengths` | 6.3 |
//! | a length beside a transfer coding | 400 `length-and-coding` | 6.1, 6.3 |
//! | a transfer coding in HTTP/1.0 | 400 `coding-in-http-1.0` | 6.1 |
//! | anything but one `chunked` in one field | 501 `coding` | 6.1 |
//! | neither length nor coding | no body | 6.3 |
//! | shadows, see below | dropped | |
//! | `Connection: close`; 1.0 without `keep-alive` | the last request | 9.3 |
//! | `Expect: 100-continue` in 1.1 with a body | the client waits | 9110, 10.1.1 |
//! | a chunk's size of 0 or of more than 16 digits | [`Chunk`] | 7.1 |
//! | behind it anything but an extension | [`Chunk`] | 7.1.1 |
//! | in it CR or LF alone, NUL or another control | [`Chunk`] | 7.1.1 |
//! | an extension of more than 256 bytes | [`Extensions`] | 7.1.1 |
//! | extensions of more than 16 KiB in a body | [`Extensions`] | 7.1.1 |
//! | a chunk of another length than it says | [`Chunk`] | 7.1 |
//! | trailers of more than 16 KiB, or more than 100 | [`Trailers`] | 7.1.2 |
//! | trailers that no head may have as fields | [`Trailers`] | 7.1.2 |
//! | trailers that frame, route or authenticate | dropped | 9110, 6.5.1 |
//! | trailers that are shadows, or say who asks | dropped | 9110, 6.5.1 |
//!
//! [`Chunk`]: crate::BodyError::Chunk
//! [`Extensions`]: crate::BodyError::Extensions
//! [`Trailers`]: crate::BodyError::Trailers
//!
//! Shadows are names that are, but for `_`, others which frame the body or say where the request
//! comes from; CGI and its heirs read them as those: `content_length`, `transfer_encoding`,
//! `keep_alive`, `proxy_connection`, `x_real_ip`, and what begins with `x-forwarded-`, with `_` in
//! place of any `-`. Other names with a `_` go on: `host_` is `HTTP_HOST_` there, nobody's shadow.
//!
//! **`Host` is not looked at here.** Whoever routes has to: HTTP/1.1 has one and only one, which an
//! absolute target replaces.

mod diagnosis;
mod encode;
mod fault;
mod head;
mod target;

pub use encode::encode_request;
pub use fault::RequestFault;
pub use head::{RequestHead, RequestHeadParser};
