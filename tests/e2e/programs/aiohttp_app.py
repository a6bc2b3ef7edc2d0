"""aiohttp on asyncio, whose TLS never sees the socket.

    aiohttp_app.py server PORT [--tls CERTIFICATE KEY]    the test paths of pyserver.py
    aiohttp_app.py client                                 what client.js does, with TEST_TLS_CA over TLS
"""
import asyncio
import json
import os
import ssl
import sys

from aiohttp import ClientSession, TCPConnector, web


async def answer(request):
    what, _, rest = request.path[1:].partition("/")
    if what == "size":
        return web.Response(body=b"x" * int(rest.partition("/")[0]))
    if what == "status":
        return web.Response(status=int(rest.partition("/")[0]))
    if what == "echo":
        return web.Response(body=await request.read())
    return web.Response(text="ok " + rest)


async def serve(port, tls):
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", answer)
    context = None
    if tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*tls)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
    await asyncio.Event().wait()


async def ask(session, base, method, path, body):
    async with session.request(method, base + path, data=body) as response:
        local = response.connection.transport.get_extra_info("sockname")[1] if response.connection else None
        received = await response.read()
        return [method, path, response.status, len(body or b""), len(received), local]


async def call():
    ca = os.environ.get("TEST_TLS_CA")
    context = ssl.create_default_context(cafile=ca) if ca else None
    loop = asyncio.get_running_loop()
    session = None
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        work = json.loads(line)
        session = session or ClientSession(
            connector=TCPConnector(limit=work["connections"], ssl=context if ca else True))
        base = f"{'https' if ca else 'http'}://127.0.0.1:{work['port']}"
        todo = iter(work["requests"])

        async def one():
            return [await ask(session, base, m, p, b.encode() if b is not None else None)
                    for m, p, b in todo]

        shares = await asyncio.gather(*(one() for _ in range(work["connections"])))
        print(json.dumps([e for share in shares for e in share]), flush=True)
    if session:
        await session.close()


if sys.argv[1] == "server":
    asyncio.run(serve(int(sys.argv[2]), sys.argv[4:6] if "--tls" in sys.argv else None))
else:
    asyncio.run(call())
