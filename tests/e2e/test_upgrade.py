"""A connection that was upgraded goes quiet in the kernel: its bytes go on to be counted, without a
record for any of them."""
import sys
import time

import harness

MESSAGES, SIZE = 500, 1000
OWN = 4  # records of sockets of the server's own, with which it wakes its threads
# RFC 6455 5.2: a frame's head is 4 bytes at this size; a client's has 4 more, the mask.
TO_SERVER, TO_CLIENT = MESSAGES * (SIZE + 8), MESSAGES * (SIZE + 4)


def test_websocket_goes_quiet(processes, agent):
    from websockets.sync.client import connect

    port = harness.free_port()
    server = processes.start([sys.executable, harness.PROGRAMS / "ws_echo.py", port], port)
    olly = agent([server.pid])
    records = lambda: olly.total("olly_events_total", type="io")
    fate = lambda name: olly.total("olly_bytes_total", fate=name)

    with connect(f"ws://127.0.0.1:{port}/chat", compression=None, ping_interval=None,
                 proxy=None) as peer:
        (span,) = olly.wait_spans(1)
        assert (span.path, span.kind, span["http.response.status_code"]) == ("/chat", "server", 101)
        time.sleep(1)  # the server is done with the connection that asked whether it listens, too
        before, unparsed = records(), fate("unparsed")
        assert before >= 2  # the request and its answer
        for n in range(MESSAGES):
            message = f"{n:04}".encode() * (SIZE // 4)
            peer.send(message)
            assert peer.recv() == message
        olly.assert_bytes_conserved()
        assert records() <= before + OWN, "a record for an upgraded connection's bytes"
    # The close tells how far both streams went. (A byte or two more on sockets of the server's own.)
    moved = TO_SERVER + TO_CLIENT
    harness.wait_until(lambda: fate("unparsed") >= unparsed + moved, "the bytes are counted")
    assert fate("unparsed") - unparsed - moved < 100, "the two close frames, and nothing else"
    assert fate("gap") == fate("skipped") == 0
    assert records() <= before + OWN
    assert len(olly.spans()) == 1
    olly.assert_bytes_conserved()
    olly.assert_nothing_lost()
