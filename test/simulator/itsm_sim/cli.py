"""Command line, listeners and shutdown."""
import argparse
import asyncio
import gc
import glob
import json
import logging
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile

from aiohttp import web

from .clock import Clock
from .front import Front
from .halo import Tenant
from .halo.switches import SWITCHES as HALO_SWITCHES
from .servicenow import Instance
from .servicenow.schema import Schema
from .servicenow.switches import SWITCHES as SERVICENOW_SWITCHES
from .switches import COMMON, Switches

HERE = os.path.dirname(os.path.abspath(__file__))
BASE_DATA = os.path.join(os.path.dirname(HERE), "data")
ADDRESS = "127.0.0.1"
SWITCHES = SERVICENOW_SWITCHES + HALO_SWITCHES + COMMON


class Accounts:
    def __init__(self):
        self.users = []         # (name, password, roles or None)
        self.clients = []       # (id, secret, user or None)
        self.api_keys = []      # (key, user or None, apis or None)
        self.halo_clients = []  # (id, secret, scopes or None)
        self.halo_users = []    # (name, password)


def parse(argv):
    parser = argparse.ArgumentParser(
        prog="itsm-simulator", description=(
            "ServiceNow and HaloITSM as pgsync_itsm meets them, on 127.0.0.1, "
            "in memory."))
    add = parser.add_argument
    add("--port", type=int, default=0, metavar="N",
        help="http port; 0 takes a free one and prints it")
    add("--no-http", action="store_true", help="https only")
    add("--tls", action="store_true",
        help="https with a certificate made for this run")
    add("--tls-port", type=int, metavar="N", help="https port, 0 a free one")
    add("--tls-cert", metavar="F")
    add("--tls-key", metavar="F")
    add("--tls-client-ca", metavar="F",
        help="accept client certificates of this authority (mutual TLS)")
    add("--port-file", metavar="F",
        help="the http port and, below it, the https port, written at once")
    add("--user", action="append", default=[], metavar="NAME:PASSWORD[:ROLES]")
    add("--client", action="append", default=[], metavar="ID:SECRET[:USER]")
    add("--api-key", action="append", default=[], metavar="KEY[:USER[:APIS]]")
    add("--client-credentials", action="store_true",
        help="the client_credentials grant is on")
    add("--halo-client", action="append", default=[],
        metavar="ID:SECRET[:SCOPES]",
        help="a Halo application of the kind Services; scopes in blanks")
    add("--halo-user", action="append", default=[], metavar="NAME:PASSWORD",
        help="a Halo agent that signs in with a password")
    add("--data", action="append", default=[], metavar="DIR",
        help="folder of JSON files added to the base data")
    add("--switch", action="append", default=[], metavar="NAME=VALUE",
        help="a switch that also holds after a reset")
    add("--seed", type=int, help="makes random choices repeatable")
    add("--parent-pid", type=int, metavar="PID",
        help="exit when this process is gone")
    add("--exit-with-stdin", action="store_true",
        help="exit when standard input closes")
    return parser, parser.parse_args(argv)


def accounts_of(options):
    accounts = Accounts()
    for text in options.user:
        name, colon, rest = text.partition(":")
        password, more, roles = rest.partition(":")
        if not name or not colon or not password:
            raise ValueError("--user takes NAME:PASSWORD[:ROLES]")
        accounts.users.append(
            (name, password,
             [r for r in roles.split(",") if r] if more else None))
    for text in options.client:
        parts = text.split(":")
        if len(parts) not in (2, 3) or not all(parts):
            raise ValueError("--client takes ID:SECRET[:USER]")
        accounts.clients.append((parts + [None])[:3])
    for text in options.api_key:
        parts = text.split(":")
        if len(parts) > 3 or not parts[0]:
            raise ValueError("--api-key takes KEY[:USER[:APIS]]")
        accounts.api_keys.append(
            (parts[0], parts[1] if len(parts) > 1 else None,
             parts[2].split(",") if len(parts) > 2 else None))
    for text in options.halo_client:
        name, _, rest = text.partition(":")
        secret, _, scopes = rest.partition(":")
        if not name or not secret:
            raise ValueError("--halo-client takes ID:SECRET[:SCOPES]")
        accounts.halo_clients.append((name, secret, scopes or None))
    for text in options.halo_user:
        name, _, password = text.partition(":")
        if not name or not password:
            raise ValueError("--halo-user takes NAME:PASSWORD")
        accounts.halo_users.append((name, password))
    return accounts


def halo_data(folders):
    """The documents in halo/*.json of the data folders."""
    documents = []
    for folder in folders:
        for name in sorted(glob.glob(os.path.join(folder, "halo", "*.json"))):
            with open(name, encoding="utf-8") as handle:
                try:
                    documents.append(json.load(handle))
                except ValueError as error:
                    raise ValueError("%s: %s" % (name, error)) from error
    return documents


def switches_of(options):
    initial = {}
    known = Switches(SWITCHES).listing()
    for text in options.switch:
        name, _, value = text.partition("=")
        if name not in known:
            raise ValueError("unknown switch " + name)
        default = known[name]["default"]
        if isinstance(default, bool):
            if value not in ("true", "false"):
                raise ValueError("%s is true or false, not %s" % (name, value))
            initial[name] = value == "true"
        elif isinstance(default, (int, float)):
            initial[name] = float(value) if "." in value else int(value)
        else:
            initial[name] = value
    if options.client_credentials:
        initial["client_credentials"] = True
    return Switches(SWITCHES, initial)


def own_certificate(folder):
    """A self-signed certificate for 127.0.0.1 and localhost."""
    cert, key = (os.path.join(folder, n) for n in ("cert.pem", "key.pem"))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days",
         "2", "-subj", "/CN=localhost", "-addext",
         "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out",
         cert], check=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL)
    return cert, key


class Process:
    def __init__(self, options):
        self.options = options
        self.folder = None
        schema = Schema()
        for folder in [BASE_DATA] + options.data:
            if not os.path.isdir(os.path.join(folder, "halo")) \
                    or glob.glob(os.path.join(folder, "*.json")):
                schema.read_dir(folder)
        schema.link()
        self.clock = Clock()
        self.switches = switches_of(options)
        accounts = accounts_of(options)
        self.platforms = [
            Instance(schema, self.clock, self.switches, accounts,
                     options.seed),
            Tenant(halo_data([BASE_DATA] + options.data), self.clock,
                   self.switches, accounts, options.seed)]

    def _tls(self):
        options = self.options
        wanted = (options.tls or options.tls_cert
                  or options.tls_port is not None)
        if not wanted:
            return None
        cert, key = options.tls_cert, options.tls_key or options.tls_cert
        if not cert:
            self.folder = tempfile.mkdtemp(prefix="itsm-simulator-")
            cert, key = own_certificate(self.folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(cert, key)
        if options.tls_client_ca:
            context.load_verify_locations(options.tls_client_ca)
            context.verify_mode = ssl.CERT_OPTIONAL
        return context

    async def run(self):
        front = Front(self.platforms, self.clock, self.switches,
                      self.options.seed)
        # Long request lines are the simulator's to refuse, with the page
        # that the platform shows (§2.3).
        server = web.Server(front.handle, max_line_size=1 << 20,
                            max_field_size=1 << 16, access_log=None,
                            auto_decompress=True)
        runner = web.ServerRunner(server, handle_signals=False)
        await runner.setup()
        ports = await self._listen(runner)
        # The file first: whoever has read the lines may read it.
        self._port_file([port for _, port in ports])
        for scheme, port in ports:
            print("listening %s %s:%d" % (scheme, ADDRESS, port), flush=True)
        await self._until_told()
        front.stopping.set()
        self._clean()
        sys.stdout.flush()
        # Requests that hang must not keep the process: nothing is on disk.
        os._exit(0)

    async def _listen(self, runner):
        ports = []
        context = self._tls()
        sites = []
        if not self.options.no_http:
            sites.append(("http", self.options.port, None))
        if context is not None:
            sites.append(("https", self.options.tls_port or 0, context))
        if not sites:
            raise ValueError("nothing to listen on")
        for scheme, port, ssl_context in sites:
            site = web.TCPSite(runner, ADDRESS, port, ssl_context=ssl_context,
                               reuse_address=True, backlog=512)
            await site.start()
            port = site._server.sockets[0].getsockname()[1]
            ports.append((scheme, port))
        return ports

    def _port_file(self, ports):
        if not self.options.port_file:
            return
        draft = self.options.port_file + ".tmp"
        with open(draft, "w", encoding="ascii") as handle:
            handle.write("".join("%d\n" % p for p in ports))
        os.replace(draft, self.options.port_file)

    async def _until_told(self):
        loop = asyncio.get_running_loop()
        told = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, told.set)
        if self.options.exit_with_stdin:
            await self._watch_stdin(loop, told)
        if self.options.parent_pid is None:
            await told.wait()
            return
        while not told.is_set() and _alive(self.options.parent_pid):
            try:
                await asyncio.wait_for(told.wait(), 0.5)
            except asyncio.TimeoutError:
                pass

    @staticmethod
    async def _watch_stdin(loop, told):
        def readable():
            try:
                data = os.read(0, 4096)
            except OSError:
                data = b""
            if not data:
                loop.remove_reader(0)
                told.set()
        try:
            loop.add_reader(0, readable)
        except (OSError, PermissionError):
            told.set()          # a plain file is at its end already

    def _clean(self):
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)


def _alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def main(argv=None):
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    # What is kept is kept until the end, and is no cycle: looking through
    # all of it again and again would cost more than what is asked for.
    gc.freeze()
    gc.set_threshold(50000, 20, 1000)
    parser, options = parse(argv)
    try:
        process = Process(options)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    try:
        asyncio.run(process.run())
    except (ValueError, OSError, subprocess.SubprocessError) as error:
        process._clean()
        print("itsm-simulator: %s" % error, file=sys.stderr)
        return 1
    return 0
