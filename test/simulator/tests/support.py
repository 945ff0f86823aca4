"""Starts the simulator on a free port and talks to it with the standard
library only.  One process serves all tests; each starts from a reset."""
import atexit
import base64
import http.client
import json
import os
import subprocess
import tempfile
import unittest
import urllib.parse

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAM = os.path.join(os.path.dirname(HERE), "itsm-simulator")
ADMIN = "6816f79cc0a8016401c5a33be04be441"
SOURCE = "GetInSync"
USERS = ["--user", "sync:sync-secret", "--user", "admin:admin-secret",
         "--user", "reader:reader-secret:", "--user",
         "noitil:noitil-secret:contract_manager"]
HALO = ["--halo-client", "halo-1:halo-secret-1",
        "--halo-client", "narrow-1:narrow-secret-1:read:assets edit:assets",
        "--halo-user", "ada.login:ada-secret-1"]
CLIENTS = ["--client", "client-1:client-secret-1:sync",
           "--api-key", "key-12345:sync"]


class Answer:
    def __init__(self, response, body):
        self.status = response.status
        self.headers = {n.lower(): v for n, v in response.getheaders()}
        self.body = body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def result(self):
        return self.json["result"]


class Simulator:
    def __init__(self, *options):
        self.folder = tempfile.TemporaryDirectory(prefix="itsm-sim-test-")
        port_file = os.path.join(self.folder.name, "port")
        self.process = subprocess.Popen(
            [PROGRAM, "--port", "0", "--port-file", port_file,
             "--exit-with-stdin", "--parent-pid", str(os.getpid())]
            + list(options), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True)
        self.lines = []
        wanted = ("--tls" in options) + ("--no-http" not in options)
        for _ in range(wanted):
            line = self.process.stdout.readline()
            if not line:
                raise RuntimeError("the simulator did not start")
            self.lines.append(line.strip())
        self.ports = [int(line.rpartition(":")[2]) for line in self.lines]
        self.port_file = port_file
        self.connection = None

    def stop(self):
        if self.connection is not None:
            self.connection.close()
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()
        self.folder.cleanup()

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.ports[0],
                                          timeout=20)

    def call(self, method, path, body=None, headers=None, connection=None):
        own = connection or self.connection
        if own is None:
            own = self.connection = self.connect()
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        if isinstance(body, str):
            body = body.encode()
        try:
            own.request(method, path, body, headers or {})
            response = own.getresponse()
            return Answer(response, response.read())
        except BaseException:
            own.close()
            if connection is None:
                self.connection = None
            raise

    def sim(self, method, name, body=None):
        answer = self.call(method, "/__sim/" + name, body)
        if answer.status != 200:
            raise AssertionError("%s %s: %s" % (method, name, answer.body))
        return answer.json


_shared = None


def shared():
    global _shared
    if _shared is None:
        _shared = Simulator(*USERS, *CLIENTS, *HALO)
        atexit.register(_shared.stop)
    return _shared


def basic(user, password=None):
    text = "%s:%s" % (user, password or user + "-secret")
    return "Basic " + base64.b64encode(text.encode()).decode()


class Case(unittest.TestCase):
    """A test against a freshly reset instance, user ``sync``."""

    def setUp(self):
        self.sim = shared()
        self.sim.sim("POST", "reset")

    # -- calls --------------------------------------------------------------

    def call(self, method, path, body=None, user="sync", headers=None,
             query=None, connection=None):
        if query:
            path += "?" + urllib.parse.urlencode(query)
        sent = {"Accept": "application/json"}
        if body is not None or method in ("POST", "PUT", "PATCH", "DELETE"):
            sent["Content-Type"] = "application/json"
        if user:
            sent["Authorization"] = basic(user)
        sent.update(headers or {})
        sent = {n: v for n, v in sent.items() if v is not None}
        return self.sim.call(method, path, body, sent, connection)

    def get(self, table, query="", user="sync", **parameters):
        wanted = {"sysparm_" + n: v for n, v in parameters.items()}
        if query:
            wanted["sysparm_query"] = query
        return self.call("GET", "/api/now/table/" + table, None, user,
                         query=wanted)

    def rows(self, table, query="", **parameters):
        answer = self.get(table, query, **parameters)
        self.assertEqual(answer.status, 200, answer.body)
        return answer.result

    def make(self, table, values, user="sync", status=201):
        answer = self.call("POST", "/api/now/table/" + table, values, user)
        self.assertEqual(answer.status, status, answer.body)
        return answer.result if status == 201 else answer

    def load(self, **tables):
        return self.sim.sim("POST", "load", tables)["sys_ids"]

    def switch(self, **values):
        self.sim.sim("POST", "switches", values)

    def advance(self, seconds):
        self.sim.sim("POST", "clock", {"advance": seconds})

    def fault(self, **spec):
        self.sim.sim("POST", "faults", spec)

    def stats(self):
        return self.sim.sim("GET", "stats")

    def dump(self, table, inherit=False):
        return self.sim.sim("GET", "dump?tables=%s%s" % (
            table, "&inherit=1" if inherit else ""))[table]

    # -- IRE ----------------------------------------------------------------

    def register(self, source=SOURCE):
        self.load(sys_choice=[{
            "name": "cmdb_ci", "element": "discovery_source", "value": source,
            "label": source, "language": "en", "inactive": "false"}])

    def ire(self, items, relations=None, path="/enhanced", source=SOURCE,
            options=None, user="sync", status=200, **more):
        body = dict(more, items=items, relations=relations or [])
        query = {}
        if source is not None:
            query["sysparm_data_source"] = source
        if options:
            query["options"] = options
        answer = self.call("POST", "/api/now/identifyreconcile" + path, body,
                           user, query=query)
        self.assertEqual(answer.status, status, answer.body)
        return answer.result if status == 200 else answer

    def by_input(self, result, what="items"):
        """{input index: result item}"""
        found = {}
        for item in result[what]:
            for index in item["inputIndices"]:
                found[index] = item
        return found

    def oauth(self, **form):
        return self.sim.call(
            "POST", "/oauth_token.do", urllib.parse.urlencode(form),
            {"Content-Type": "application/x-www-form-urlencoded"})


def app(name, key=None, **values):
    """An IRE item of a Business Application."""
    item = {"className": "cmdb_ci_business_app",
            "values": dict({"name": name, "it_application_owner": ADMIN},
                           **values)}
    if key:
        item["sys_object_source_info"] = {"source_name": SOURCE,
                                          "source_native_key": key}
    return item


def service(name, key=None, table="cmdb_ci_service_auto", **values):
    item = {"className": table, "values": dict({"name": name}, **values)}
    if key:
        item["sys_object_source_info"] = {"source_name": SOURCE,
                                          "source_native_key": key}
    return item


def error_codes(item):
    return [e["error"] for e in item.get("errors", [])]
