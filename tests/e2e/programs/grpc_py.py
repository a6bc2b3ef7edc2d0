"""A gRPC service and its client, without generated code: messages are plain bytes.

grpc_py.py server PORT
grpc_py.py joined PORT                           three calls, a line on stdin, four calls, one connection
grpc_py.py client PORT CALLS CONNECTIONS SEED      one JSON line per call: what was asked, what came
"""
import concurrent.futures
import json
import random
import sys
import threading
import time

import grpc

SERVICE = "shop.v1.Stock"


def unary(request, context):
    return request[::-1]


def down(request, context):
    for n in range(int(request)):
        yield b"d" * n


def up(requests, context):
    return b"%d" % sum(len(r) for r in requests)


def both(requests, context):
    for r in requests:
        yield r
        yield b""


def fail(request, context):
    context.abort(list(grpc.StatusCode)[int(request)], "a private word")


def slow(request, context):
    time.sleep(float(request))
    return b"late"


def serve(port):
    handlers = grpc.method_handlers_generic_handler(SERVICE, {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Down": grpc.unary_stream_rpc_method_handler(down),
        "Up": grpc.stream_unary_rpc_method_handler(up),
        "Both": grpc.stream_stream_rpc_method_handler(both),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
        "Slow": grpc.unary_unary_rpc_method_handler(slow),
    })
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(64))
    server.add_generic_rpc_handlers((handlers,))
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


def one(channel, rng, kind):
    """Makes one call; what the caller knows of it."""
    sent, got, timeout = 1, [], None
    path = f"/{SERVICE}/{kind}"
    try:
        if kind == "Unary" or kind == "Nope":
            got.append(channel.unary_unary(path)(b"x" * rng.choice([0, 3, 300, 3000])))
        elif kind == "Down":
            got += channel.unary_stream(path)(b"%d" % rng.randrange(9))
        elif kind == "Up":
            sent = rng.randrange(9)
            got.append(channel.stream_unary(path)(iter([b"u" * 100] * sent)))
        elif kind == "Both":
            sent = rng.randrange(9)
            got += channel.stream_stream(path)(iter([b"b" * 300] * sent))
        elif kind == "Fail":
            got.append(channel.unary_unary(path)(b"%d" % rng.randrange(1, 17)))
        elif kind == "Slow":
            timeout = 0.2
            got.append(channel.unary_unary(path)(b"1", timeout=timeout))
        elif kind == "Cancel":
            path = f"/{SERVICE}/Slow"
            call = channel.unary_unary(path).future(b"1")
            time.sleep(0.05)
            call.cancel()
            got.append(call.result())
        status = "OK"
    except grpc.FutureCancelledError:
        status = "CANCELLED"
    except grpc.RpcError as error:
        status = error.code().name
    return {"method": path[1:], "status": status, "sent": sent, "received": len(got),
            "timeout": timeout is not None}


def call(port, calls, connections, seed):
    rng = random.Random(seed)
    common = ["Unary", "Down", "Up", "Both"] * 6 + ["Fail"] * 3 + ["Nope", "Slow", "Cancel"]
    kinds = (["Unary", "Down", "Up", "Both", "Fail", "Nope", "Slow", "Cancel"]
             + [rng.choice(common) for _ in range(calls)])[:calls]
    channels = [grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)])
                for _ in range(connections)]
    for channel in channels:
        grpc.channel_ready_future(channel).result(20)  # else a call may end before it has begun
    lock = threading.Lock()

    def share(n):
        # Two threads a channel: their streams interleave.
        mine = random.Random(seed * 1000 + n)
        for kind in kinds[n::2 * connections]:
            done = one(channels[n % connections], mine, kind)
            with lock:
                print(json.dumps(done), flush=True)

    threads = [threading.Thread(target=share, args=(n,)) for n in range(2 * connections)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for channel in channels:
        channel.close()


def joined(port):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        repeated = lambda: channel.unary_unary(f"/{SERVICE}/Unary")(b"x", metadata=[("x-before", "a")])
        for _ in range(3):
            repeated()
        print("ready", flush=True)
        sys.stdin.readline()
        for _ in range(3):
            repeated()
        list(channel.stream_stream(f"/{SERVICE}/Both")(iter([b"x"])))


if __name__ == "__main__":
    if sys.argv[1] == "server":
        serve(int(sys.argv[2]))
    elif sys.argv[1] == "joined":
        joined(int(sys.argv[2]))
    else:
        sys.stdin.readline()  # whoever observes it is ready
        call(*map(int, sys.argv[2:6]))
