"""What the worker talks to: nginx as a fast platform or as a witness, a slow platform, the simulator."""
import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.request

from .database import ROOT, Failed, poll

WORK = os.environ["BENCH_WORK"]
CLIENT = ("bench-client", "bench-client-secret")
CLASS = "cmdb_ci_business_app"

# What an item sends and gets back: 615 bytes of JSON, the size of an application.
ATTRIBUTES = {
    "name": "Benchmark application",
    "short_description": "An application as portfolios have it by the thousand",
    "description": "x" * 240,
    "business_criticality": "2 - somewhat critical",
    "operational_status": "1",
    "install_status": "1",
    "install_type": "cloud",
    "version": "12.4.1",
    "url": "https://applications.example.com/benchmark",
    "correlation_id": "aaaaaaaa-0001-4000-8000-000000000001",
}
PAYLOAD = json.dumps(ATTRIBUTES, separators=(",", ":"))
BODY = '{"source":"GetInSync","attributes":%s}' % PAYLOAD
TOKEN = '{"access_token":"benchmark","token_type":"Bearer","expires_in":1799}'

HEAD = """
daemon off;
master_process off;
pid {dir}/pid;
error_log {dir}/error warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    keepalive_requests 1000000000;
    keepalive_timeout 3600s;
    tcp_nodelay on;
    default_type application/json;
"""

FAST = (
    HEAD
    + """
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location = /status {{ stub_status; }}
    }}
    server {{
        listen 127.0.0.1:{plain} backlog=1024;
        listen 127.0.0.1:{tls} ssl backlog=1024;
        ssl_certificate {dir}/certificate;
        ssl_certificate_key {dir}/key;
        location ~ "^/api/now/cmdb/instance/([a-z_]+)/([0-9a-f]+)$" {{
            return 200 '{{"result":{{"attributes":{{"sys_id":"$2","sys_class_name":"$1",{attributes}}}}}}}';
        }}
        location = /oauth_token.do {{ return 200 '{token}'; }}
    }}
}}
"""
)

# $msec is when the answer had been sent: the platform has it.
WITNESS = (
    HEAD
    + """
    client_max_body_size 64m;
    client_body_buffer_size 1m;
    map $content_length $seen {{ default 0; "" 1; "~^[0-9]{{1,5}}$" 1; }}
    log_format seen escape=json '$msec $request_time $request_method $uri $request_body';
    upstream platform {{ server {platform}; keepalive 64; }}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location / {{
            access_log {dir}/seen seen if=$seen;
            proxy_pass http://platform;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_request_buffering on;
            proxy_buffering off;
            proxy_read_timeout 600s;
        }}
    }}
}}
"""
)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def fetch(url, body=None):
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=120) as answer:
        return answer.read().decode()


PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


def end_with_parent():
    """In the child: whatever ends us ends it."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Server:
    """A process of ours; stop() ends it, by its id."""

    running = []

    def __init__(self, name, command):
        self.name = name
        with open(os.path.join(WORK, name + ".log"), "ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, preexec_fn=end_with_parent
            )
        Server.running.append(self)

    def await_port(self, port):
        def is_open():
            if self.process.poll() is not None:
                raise Failed("%s does not start: %s" % (self.name, self.log()))
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        poll(is_open, self.name)

    def log(self):
        with open(os.path.join(WORK, self.name + ".log"), encoding="utf-8", errors="replace") as log:
            return log.read()[-2000:]

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process.stdout.close()
        if self in Server.running:
            Server.running.remove(self)

    @staticmethod
    def stop_all():
        for server in list(Server.running):
            server.stop()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Nginx(Server):
    """One process, which serves and does nothing else."""

    def __init__(self, name, template, **values):
        self.dir = os.path.join(WORK, name)
        os.mkdir(self.dir)
        self.port = free_port()
        self.prepare()
        path = os.path.join(self.dir, "nginx.conf")
        with open(path, "w", encoding="utf-8") as file:
            file.write(template.format(dir=self.dir, port=self.port, **values))
        super().__init__(name, ["nginx", "-p", self.dir, "-e", os.path.join(self.dir, "error"), "-c", path])
        self.await_port(self.port)

    def prepare(self):
        pass


class FastPlatform(Nginx):
    """A platform that costs next to nothing, plain and over TLS."""

    number = 0

    def __init__(self):
        FastPlatform.number += 1
        self.ports = {"plain": free_port(), "tls": free_port()}
        self.asked = 0
        super().__init__("fast%d" % FastPlatform.number, FAST, token=TOKEN, attributes=PAYLOAD[1:-1], **self.ports)

    def prepare(self):
        done = subprocess.run(
            [
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=benchmark",
                "-addext",
                "subjectAltName=IP:127.0.0.1",
                "-keyout",
                self.dir + "/key",
                "-out",
                self.dir + "/certificate",
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise Failed("no certificate: " + done.stderr)
        self.certificate = self.dir + "/certificate"

    def url(self, kind):
        return "http%s://127.0.0.1:%d" % ("s" if kind == "tls" else "", self.ports[kind])

    def counts(self):
        """Connections accepted and requests answered so far, without those of these questions."""
        self.asked += 1
        found = re.search(r"handled requests\s+(\d+)\s+\d+\s+(\d+)", fetch("http://127.0.0.1:%d/status" % self.port))
        return int(found.group(1)) - self.asked, int(found.group(2)) - self.asked


class SlowPlatform(Server):
    def __init__(self, milliseconds):
        super().__init__("slow", [os.path.join(WORK, "delay-server"), str(milliseconds), PAYLOAD[1:-1]])
        line = self.process.stdout.readline()
        if not line.strip():
            raise Failed("the slow platform does not start: " + self.log())
        self.port = int(line)

    def url(self, _kind):
        return "http://127.0.0.1:%d" % self.port


class Simulator(Server):
    """The simulator behind a witness that writes down, to the millisecond, when it has what was sent."""

    number = 0

    def __init__(self):
        Simulator.number += 1
        port_file = os.path.join(WORK, "simulator%d.port" % Simulator.number)
        super().__init__(
            "simulator",
            [
                os.path.join(ROOT, "test/simulator/itsm-simulator"),
                "--port",
                "0",
                "--port-file",
                port_file,
                "--parent-pid",
                str(os.getpid()),
                "--user",
                "bench:bench:itil,contract_manager,asset,sn_cmdb_admin",
                "--client",
                ":".join(CLIENT) + ":bench",
                "--client-credentials",
            ],
        )
        poll(
            lambda: os.path.exists(port_file) and os.path.getsize(port_file) > 0 or self.process.poll() is not None,
            "the simulator",
        )
        if self.process.poll() is not None:
            raise Failed("the simulator does not start: " + self.log())
        with open(port_file, encoding="utf-8") as file:
            self.control = "http://127.0.0.1:%d" % int(file.readline())
        self.witness = Nginx("witness%d" % Simulator.number, WITNESS, platform=self.control[len("http://") :])
        self.url = "http://127.0.0.1:%d" % self.witness.port

    def load(self, text):
        fetch(self.control + "/__sim/load", text.encode())

    def reset_counters(self):
        fetch(self.control + "/__sim/counters", b"{}")

    def stats(self):
        return json.loads(fetch(self.control + "/__sim/stats"))

    def seen(self):
        """(when it was answered, seconds it took here, the rest) of each small request since the last forget()."""
        found = []
        with open(os.path.join(self.witness.dir, "seen"), encoding="utf-8", errors="replace") as log:
            for line in log:
                if line.endswith("\n"):
                    when, took, rest = line.split(" ", 2)
                    found.append((float(when), float(took), rest))
        return found

    def forget(self):
        os.truncate(os.path.join(self.witness.dir, "seen"), 0)

    def stop(self):
        self.witness.stop()
        super().stop()


def run_limit(command, pattern, what):
    """A program of others, or our loop: the numbers that it prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(pattern, done.stdout)
    if done.returncode or not found:
        raise Failed("%s: %s" % (what, done.stderr or done.stdout))
    return [float(x) for x in found.groups()]


class Limits:
    """How fast others are, against the same server, with the same requests."""

    def __init__(self, platform, in_flight):
        self.platform = platform
        self.in_flight = in_flight
        self.path = "/api/now/cmdb/instance/%s/" % CLASS
        self.script = os.path.join(WORK, "patch.lua")
        with open(self.script, "w", encoding="utf-8") as file:
            file.write(
                "local n = 0\nlocal headers = { ['Content-Type'] = 'application/json', ['Accept'] = 'application/json',"
                " ['Authorization'] = 'Bearer benchmark' }\nlocal body = [==[%s]==]\n"
                "function request()\n  n = n + 1\n"
                "  return wrk.format('PATCH', string.format('%s%%032x', n), headers, body)\nend\n" % (BODY, self.path)
            )

    def loop(self, kind, seconds):
        """requests/s, microseconds of CPU a request"""
        command = [
            os.path.join(WORK, "multi-loop"),
            self.platform.url(kind) + self.path,
            BODY,
            str(self.in_flight),
            str(seconds),
        ]
        if kind == "tls":
            command.append(self.platform.certificate)
        return run_limit(command, r"^(\d+) ([\d.]+) \d+", "multi-loop")

    def wrk(self, kind, seconds):
        return run_limit(
            ["wrk", "-t1", "-c%d" % self.in_flight, "-d%ds" % seconds, "-s", self.script, self.platform.url(kind)],
            r"Requests/sec:\s+([\d.]+)",
            "wrk",
        )[0]

    def curl(self, kind, requests):
        """Plain curl --parallel, its own start included: requests/s."""
        numbers = "%s[%d-%d]" % ("0" * 26, 100000, 100000 + requests - 1)
        begin = time.monotonic()
        done = subprocess.run(
            [
                "curl",
                "-sS",
                "-f",
                "--parallel",
                "--parallel-max",
                str(self.in_flight),
                "--noproxy",
                "*",
                "--cacert",
                self.platform.certificate,
                "-X",
                "PATCH",
                "-H",
                "Content-Type: application/json",
                "-H",
                "Accept: application/json",
                "-H",
                "Authorization: Bearer benchmark",
                "-d",
                BODY,
                self.platform.url(kind) + self.path + numbers,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode:
            raise Failed("curl: " + done.stderr)
        return requests / (time.monotonic() - begin)
