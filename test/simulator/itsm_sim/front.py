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
from .wire import CloseConnection, Reply, Request, html_reply, json_reply
from .requestlog import RequestLog

# Bodies past this are not even read; the platform's own cap (§2.11) is lower.
READ_LIMIT = 64 << 20
MAX_SESSIONS = 10000
SESSION_HOLD = 0.02         # seconds; makes overlap on one cookie visible
log = logging.getLogger("itsm_sim")


class Front:
    def __init__(self, platform, clock, switches, seed=None):
        self.platform = platform
        self.clock = clock
        self.switches = switches
        self.faults = faultlib.Faults(seed)
        self.log = RequestLog()
        self.control = Control(self)
        self.sessions = {}          # JSESSIONID -> requests in flight
        self.stopping = asyncio.Event()
        self.wire()

    def wire(self):
        """Again after a reset, which makes the platform's parts anew."""
        self.platform.batch.front = self
        self.log.secrets = self.platform.auth.secrets

    def platform_for(self, path):
        """The platform that serves a path; a second one goes here."""
        return self.platform

    # -- from the wire ------------------------------------------------------

    async def handle(self, raw):
        if raw.path.startswith("/__sim/"):
            return await self._control(raw)
        request = await self._read(raw)
        try:
            reply = await self._counted(request)
        except CloseConnection as closing:
            reply = Reply(0, action=closing.action)
        except asyncio.CancelledError:
            raise
        except Exception:                       # a defect of the simulator
            log.exception("%s %s", request.method, request.path)
            reply = json_reply(500, {"error": {
                "message": "simulator defect", "detail": "see its stderr"},
                "status": "failure"})
        if request.entry is not None:
            self.log.close(request, reply.status)
        return await self._write(raw, request, reply)

    async def _read(self, raw):
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
        request = Request(raw.method, raw.raw_path, headers, body)
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

    async def _counted(self, request):
        platform = self.platform_for(request.path)
        endpoint = platform.endpoint(request.method, request.path)
        is_read = platform.is_read(request.method, request.path)
        self.log.open(request, endpoint, is_read)
        self.log.in_flight += 1
        self.log.max_in_flight = max(self.log.max_in_flight,
                                     self.log.in_flight)
        subs_before = self.log.sub["writes"]
        try:
            return await self._session(request, platform, endpoint)
        finally:
            self.log.in_flight -= 1
            if endpoint.endswith("/batch"):
                is_read = self.log.sub["writes"] == subs_before
            self.log.count_kind(request, not is_read)

    async def _session(self, request, platform, endpoint):
        """Requests that share a session are serialised; those that come
        while one runs are turned away with 202, not done (§0.12)."""
        session = _cookie(request.headers.get("cookie", ""), "JSESSIONID")
        if not session:
            reply = await self._answer(request, platform, endpoint)
            if reply.status:
                reply.headers.setdefault(
                    "Set-Cookie", "JSESSIONID=%s; Path=/; HttpOnly"
                    % platform.random_text(32))
            return reply
        if (self.sessions.get(session)
                and self.switches["session_conflicts"]):
            return html_reply(202, "Session busy")
        if len(self.sessions) > MAX_SESSIONS:
            self.sessions.clear()
        self.sessions[session] = True
        try:
            reply = await self._answer(request, platform, endpoint)
            await asyncio.sleep(SESSION_HOLD)
            return reply
        finally:
            self.sessions.pop(session, None)

    async def _answer(self, request, platform, endpoint):
        if len(request.target) > self.switches["max_url_length"]:
            # An HTML page, not the envelope (§2.3 [L])
            return html_reply(414, "Request-URI Too Large")
        if self.switches["hibernating"]:
            return html_reply(200, "Instance Hibernating page")
        if request.inject.get("unreadable"):
            return html_reply(400, "Bad Request")
        fault = self.faults.pick(request, endpoint)
        early = await self._before(request, platform, fault)
        if early is not None:
            return early
        limits = platform.limits        # a reset may replace it meanwhile
        refusal = await limits.enter()
        if refusal is not None:
            return refusal
        try:
            if self.switches["latency_ms"]:
                await asyncio.sleep(self.switches["latency_ms"] / 1000)
            reply = await platform.serve(request)
        finally:
            limits.leave()
        return self._after(fault, reply)

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
            platform.auth.expire_all()
        elif fault.kind == "lock_timeout":
            request.inject["lock_timeout"] = fault.spec
        elif fault.kind == "business_rule_abort":
            name = fault.spec.get("name", "Abort")
            request.inject["business_rule_abort"] = name
            request.inject["business_rule"] = fault.spec
        return faultlib.reply_before(fault)

    @staticmethod
    def _after(fault, reply):
        if fault is not None and fault.kind in faultlib.AFTER:
            return faultlib.spoil(fault, reply)
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
        self.log.open(request, endpoint, is_read)
        request.entry["batch"] = outer.entry["n"] if outer.entry else None
        fault = self.faults.pick(request, endpoint)
        reply = await self._before(request, platform, fault)
        if reply is None:
            reply = self._after(fault, await platform.serve(request))
        self.log.close(request, reply.status)
        if reply.action == "truncate":
            reply.body, reply.action = reply.body[:len(reply.body) // 2], None
        if reply.action is not None:
            raise CloseConnection(reply.action)
        return reply

    # -- to the wire --------------------------------------------------------

    async def _write(self, raw, request, reply):
        if reply.action in ("close", "hang"):
            return await self._no_reply(raw, reply.action)
        body = reply.body
        headers = dict(reply.headers)
        if (len(body) > 1024 and self.switches["gzip_responses"]
                and "gzip" in request.headers.get("accept-encoding", "")
                and reply.action is None):
            body = gzip.compress(body, 1)
            headers["Content-Encoding"] = "gzip"
        headers["Server"] = "ServiceNow"
        if request.method == "HEAD" or reply.status in (204, 304):
            body = b""
        response = web.StreamResponse(status=reply.status, headers=headers)
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


def _cookie(header, name):
    for pair in header.split(";"):
        key, _, value = pair.strip().partition("=")
        if key == name:
            return value
    return ""
