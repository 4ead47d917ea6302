"""Answers every request, and prints each whole one: its method, and its body in hexadecimal."""

import socket
import sys
import threading

import h11


def serve(client):
    connection = h11.Connection(h11.SERVER)

    def send(event):
        data = connection.send(event)
        if data:
            client.sendall(data)

    method, body = b"", b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            if connection.they_are_waiting_for_100_continue:
                send(h11.InformationalResponse(status_code=100, headers=[]))
            connection.receive_data(client.recv(65536))
        elif isinstance(event, h11.Request):
            method, body = event.method, b""
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            print(method.decode(), body.hex(), flush=True)
            send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
            send(h11.EndOfMessage())
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                return
            connection.start_next_cycle()
        else:
            return


def answer(client):
    try:
        serve(client)
    except h11.RemoteProtocolError as error:
        status = error.error_status_hint
        client.sendall(b"HTTP/1.1 %d Refused\r\nconnection: close\r\n\r\n" % status)
    except OSError:
        pass
    finally:
        client.close()


host, port = sys.argv[1].split(":")
listener = socket.create_server((host, int(port)))
while True:
    threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()
