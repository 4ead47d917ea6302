//! The service over HTTP/2, in the clear.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, server};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use tokio::net::TcpStream;

use super::answers::{DATE, GRPC_METHOD, ServiceState};

/// What a client may send ahead: more than any scenario does.
const WINDOW: u32 = 1 << 20;

/// Whether the client begins with HTTP/2. (No method of HTTP/1.1 that is used begins so.)
pub(super) async fn begins(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0; 2];
    let seen = stream.peek(&mut first).await?;
    Ok(first[..seen] == *b"PR")
}

/// Answers the requests of one connection.
pub(super) async fn serve(stream: TcpStream, state: Arc<ServiceState>) -> Result<(), h2::Error> {
    let mut builder = server::Builder::new();
    builder.initial_window_size(WINDOW).initial_connection_window_size(WINDOW);
    let mut connection = builder.handshake::<_, Bytes>(stream).await?;
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted?;
        if request.body().is_end_stream() {
            answer(&request, respond, &state)?;
        } else {
            let state = Arc::clone(&state);
            tokio::spawn(async move {
                let (head, body) = request.into_parts();
                let sent = read_away(body).await?;
                let request = Request::from_parts(head, ());
                if request.uri().path() == GRPC_METHOD {
                    return answer_grpc(sent, respond);
                }
                answer(&request, respond, &state)
            });
        }
    }
    Ok(())
}

/// Reads a body, and returns its last piece.
async fn read_away(mut body: RecvStream) -> Result<Bytes, h2::Error> {
    let mut last = Bytes::new();
    while let Some(piece) = body.data().await {
        last = piece?;
        body.flow_control().release_capacity(last.len())?;
    }
    Ok(last)
}

fn answer<B>(
    request: &Request<B>,
    mut respond: SendResponse<Bytes>,
    state: &ServiceState,
) -> Result<(), h2::Error> {
    let answer = state.answers.to(request.uri().path().as_bytes(), state);
    let mut head = Response::new(());
    *head.status_mut() = answer.status;
    let fields = head.headers_mut();
    fields.insert(header::DATE, HeaderValue::from_static(DATE));
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    fields.insert(header::CONTENT_LENGTH, answer.body.len().into());
    respond.send_response(head, false)?.send_data(answer.body.clone(), true)
}

fn answer_grpc(message: Bytes, mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let mut head = Response::new(());
    let fields = head.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let mut body = respond.send_response(head, false)?;
    body.send_data(message, false)?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    body.send_trailers(trailers)
}
