"""The HTTP side: reads requests, applies faults, counts, writes replies.

One aiohttp low-level server without its router: paths are the platforms'
business, and a fault must be able to break a reply at any byte.
"""
import asyncio
import gzip
import logging
import socket
import struct

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from . import faults as faultlib
from .control import Control
from .wire import CloseConnection, Reply, Request
from .requestlog import RequestLog

# Bodies past this are not even read; the platform's own cap (§2.11) is lower.
READ_LIMIT = 64 << 20
log = logging.getLogger("itsm_sim")


class BareResponse(web.StreamResponse):
    """Without the headers that aiohttp adds for those who gave none."""

    async def _prepare_headers(self):
        given = {name.lower() for name in self.headers}
        await super()._prepare_headers()
        for name in ("Server", "Content-Type"):
            if name.lower() not in given:
                self.headers.pop(name, None)


class Front:
    """``platforms`` in the order in which they are asked for a path; the
    first also gets what none of them serves."""

    def __init__(self, platforms, clock, switches, seed=None):
        self.platforms = platforms
        self.clock = clock
        self.switches = switches
        self.faults = faultlib.Faults(
            seed, frozenset().union(*(p.fault_kinds for p in platforms)))
        self.log = RequestLog()
        self.log.secrets = self._secrets
        self.stopping = asyncio.Event()
        self.control = Control(self)
        self.wire()

    def wire(self):
        """Again after a reset, which makes the platforms' parts anew."""
        for platform in self.platforms:
            platform.attach(self)

    def _secrets(self):
        return set().union(*(p.secrets() for p in self.platforms))

    def platform_for(self, path):
        for platform in self.platforms:
            if platform.serves(path):
                return platform
        return self.platforms[0]

    # -- from the wire ------------------------------------------------------

    async def handle(self, raw):
        if raw.path.startswith("/__sim/"):
            return await self._control(raw)
        platform = self.platform_for(raw.path)
        request = await self._read(raw, platform.method_override)
        try:
            reply = await self._counted(request, platform)
        except CloseConnection as closing:
            reply = Reply(0, action=closing.action)
        except asyncio.CancelledError:
            raise
        except Exception:                       # a defect of the simulator
            log.exception("%s %s", request.method, request.path)
            reply = platform.defect()
        if request.entry is not None:
            self.log.close(request, reply.status)
        return await self._write(raw, request, reply, platform)

    @staticmethod
    async def _read(raw, override):
        headers = {n.lower(): v for n, v in raw.headers.items()}
        if headers.get("expect", "").lower() == "100-continue":
            # aiohttp leaves this to its router, which is not used here
            raw.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        chunks, size, broken = [], 0, False
        try:
            async for chunk in raw.content.iter_any():
                size += len(chunk)
                if size <= READ_LIMIT:
                    chunks.append(chunk)
        except (web.RequestPayloadError, HttpProcessingError):
            broken = True
        body = b"".join(chunks) if size <= READ_LIMIT else b""
        request = Request(raw.method, raw.raw_path, headers, body,
                          override=override)
        request.scheme = raw.scheme
        if size > READ_LIMIT or broken:
            request.inject["unreadable"] = True
        transport = raw.transport
        if transport is not None:
            request.peer_cert = transport.get_extra_info("peercert")
        return request

    async def _control(self, raw):
        body = await raw.content.read(-1)
        status, value = self.control.handle(raw.method, raw.path,
                                            raw.query, body)
        return web.json_response(value, status=status)

    async def _counted(self, request, platform):
        endpoint = platform.endpoint(request.method, request.path)
        is_read = platform.is_read(request.method, request.path)
        is_auth = platform.is_auth(endpoint)
        self.log.open(request, endpoint, is_read, is_auth)
        self.log.in_flight += 1
        self.log.max_in_flight = max(self.log.max_in_flight,
                                     self.log.in_flight)
        subs_before = self.log.sub["writes"]

        async def answer():
            return await self._answer(request, platform, endpoint)
        try:
            return await platform.exchange(request, answer)
        finally:
            self.log.in_flight -= 1
            if endpoint.endswith("/batch"):
                is_read = self.log.sub["writes"] == subs_before
            if not is_auth:
                self.log.count_kind(not is_read)

    async def _answer(self, request, platform, endpoint):
        refusal = platform.refuse(request)
        if refusal is not None:
            return refusal
        if request.inject.get("unreadable"):
            return platform.unreadable()
        fault = self.faults.pick(request, endpoint, platform.fault_kinds)
        early = await self._before(request, platform, fault)
        if early is not None:
            return early
        gate = platform.gate()          # a reset may replace it meanwhile
        refusal = await gate.enter()
        if refusal is not None:
            return refusal
        try:
            if self.switches["latency_ms"]:
                await asyncio.sleep(self.switches["latency_ms"] / 1000)
            reply = await platform.serve(request)
        finally:
            gate.leave()
        return self._after(fault, reply, platform)

    async def _before(self, request, platform, fault):
        if fault is None:
            return None
        request.entry["fault"] = fault.kind
        if fault.kind == "delay":
            seconds = float(fault.spec.get("seconds", 1))
            request.spent = 0 if not fault.spec.get("virtual") else seconds
            if not fault.spec.get("virtual"):
                await self._sleep(seconds)
        elif fault.kind == "token_expiry":
            platform.expire_tokens()
        elif fault.kind == "lock_timeout":
            request.inject["lock_timeout"] = fault.spec
        elif fault.kind == "business_rule_abort":
            name = fault.spec.get("name", "Abort")
            request.inject["business_rule_abort"] = name
            request.inject["business_rule"] = fault.spec
        return faultlib.reply_before(fault, platform)

    @staticmethod
    def _after(fault, reply, platform):
        if fault is not None and fault.kind not in faultlib.BEFORE:
            return faultlib.spoil(fault, reply, platform)
        return reply

    async def _sleep(self, seconds):
        """A wait that a shutdown cuts short."""
        try:
            await asyncio.wait_for(self.stopping.wait(), min(seconds, 3600))
        except asyncio.TimeoutError:
            pass

    # -- parts of a batch ---------------------------------------------------

    async def serve_sub(self, request, outer):
        platform = self.platform_for(request.path)
        endpoint = platform.endpoint(request.method, request.path)
        is_read = platform.is_read(request.method, request.path)
        self.log.open(request, endpoint, is_read, False)
        request.entry["batch"] = outer.entry["n"] if outer.entry else None
        fault = self.faults.pick(request, endpoint, platform.fault_kinds)
        reply = await self._before(request, platform, fault)
        if reply is None:
            reply = self._after(fault, await platform.serve(request),
                                platform)
        self.log.close(request, reply.status)
        if reply.action == "truncate":
            reply.body, reply.action = reply.body[:len(reply.body) // 2], None
        if reply.action is not None:
            raise CloseConnection(reply.action)
        return reply

    # -- to the wire --------------------------------------------------------

    async def _write(self, raw, request, reply, platform):
        if reply.action in ("close", "hang"):
            return await self._no_reply(raw, reply.action)
        body = reply.body
        headers = dict(reply.headers)
        if (len(body) > 1024 and self.switches["gzip_responses"]
                and "gzip" in request.headers.get("accept-encoding", "")
                and reply.action is None):
            body = gzip.compress(body, 1)
            headers["Content-Encoding"] = "gzip"
        if platform.server:
            headers["Server"] = platform.server
        if request.method == "HEAD" or reply.status in (204, 304):
            body = b""
        response = BareResponse(status=reply.status, headers=headers)
        if isinstance(reply.action, tuple):
            return await self._huge(raw, response, reply.action[1])
        if reply.status not in (204, 304):
            response.content_length = len(body)
        await response.prepare(raw)
        if reply.action == "truncate":
            await response.write(body[:len(body) // 2])
            return await self._no_reply(raw, "close", response)
        if body:
            await response.write(body)
        await response.write_eof()
        return response

    async def _no_reply(self, raw, action, response=None):
        transport = raw.transport
        if action == "hang":
            self.log.hanging += 1
            try:
                while not self.stopping.is_set() and transport is not None \
                        and not transport.is_closing():
                    await self._sleep(0.2)
            finally:
                self.log.hanging -= 1
        if transport is not None:
            if response is None:
                _reset(transport)
            transport.close()
        return response if response is not None else web.Response(status=500)

    @staticmethod
    async def _huge(raw, response, size):
        """A body without end in sight, for callers that must cap it."""
        response.enable_chunked_encoding()
        await response.prepare(raw)
        await response.write(b'{"result":[{"name":"')
        chunk = b"x" * 65536
        sent = 0
        while sent < size:
            await response.write(chunk)
            sent += len(chunk)
        await response.write(b'"}]}')
        await response.write_eof()
        return response


def _reset(transport):
    """The peer sees a connection reset, not an orderly end."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                            struct.pack("ii", 1, 0))
        except OSError:
            pass
