"""A tenant of HaloITSM for tests: freshly reset, one client with one site."""
import urllib.parse

import unittest

from support import shared

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
SERVER = 120            # asset types, fields and statuses of the base data
APPLICATION, INSTANCE, BUSINESS_SERVICE = 130, 131, 132
NAME, ENVIRONMENT, SERIAL = 101, 148, 150
LIVE, RETIRED = 21, 23
NOT_THERE = 999999
SERVICE = {"summary": "s", "service_category_id": 1,
           "showinusercatalog": False, "showintechcatalog": True}
# shape 2 of a 400, as the reference has it
EXCEPTION = {"ClassName", "Message", "Data", "InnerException", "HelpURL",
             "StackTraceString", "RemoteStackTraceString", "RemoteStackIndex",
             "ExceptionMethod", "HResult", "Source", "WatsonBuckets"}


class HaloCase(unittest.TestCase):
    def setUp(self):
        self.sim = shared()
        self.sim.sim("POST", "reset")
        self.bearer = self.token().json["access_token"]
        self.client = self.make("Client", name="Northwind")["id"]
        sites = [s for s in self.dump("Site") if s["client_id"] == self.client]
        self.site = sites[0]["id"]

    # -- sign-in ------------------------------------------------------------

    def token(self, path="/halo/auth/token?tenant=northwind", method="POST",
              headers=FORM, **form):
        form = dict({"grant_type": "client_credentials",
                     "client_id": "halo-1", "client_secret": "halo-secret-1",
                     "scope": "all"}, **form)
        form = {n: v for n, v in form.items() if v is not None}
        return self.sim.call(method, path, urllib.parse.urlencode(form),
                             headers)

    def scoped(self, scope, **form):
        """A token with these scopes."""
        answer = self.token(scope=scope, **form)
        self.assertEqual(answer.status, 200, answer.body)
        return answer.json["access_token"]

    # -- calls --------------------------------------------------------------

    def call(self, method, path, body=None, token=None, headers=None,
             query=None, base="/halo/api/"):
        if query:
            path += "?" + urllib.parse.urlencode(query)
        sent = {"Authorization": "Bearer " + (token or self.bearer)}
        if body is not None:
            sent["Content-Type"] = "application/json"
        sent.update(headers or {})
        sent = {n: v for n, v in sent.items() if v is not None}
        return self.sim.call(method, base + path, body, sent)

    def post(self, resource, *objects, **more):
        return self.call("POST", resource, list(objects), **more)

    def make(self, resource, status=201, **values):
        answer = self.post(resource, values)
        self.assertEqual(answer.status, status, answer.body)
        return answer.json

    def asset(self, tag="A-1", **values):
        return self.make("Asset", **dict({
            "inventory_number": tag, "assettype_id": SERVER,
            "client_id": self.client}, **values))

    def service(self, name="Pay", **values):
        return self.make("Service", **dict(SERVICE, name=name, **values))

    def get(self, path, status=200, **query):
        answer = self.call("GET", path, query=query)
        self.assertEqual(answer.status, status, answer.body)
        return answer.json if status == 200 else answer

    def full(self, key, resource="Asset"):
        return self.get("%s/%s" % (resource, key), includedetails="true")

    def tags(self, **query):
        """Tags of the assets of a list, sorted."""
        return sorted(a.get("inventory_number")
                      for a in self.get("Asset", **query)["assets"])

    def refused(self, status, method, path, body=None, **more):
        """The JSON of a refusal, None for an empty body."""
        answer = self.call(method, path, body, **more)
        self.assertEqual(answer.status, status, answer.body)
        if not answer.body:
            self.assertNotIn("content-type", answer.headers)
            return None
        return answer.json

    def bad(self, resource, *objects):
        """The JSON of a 400."""
        return self.refused(400, "POST", resource, list(objects))

    def exception(self, text, resource, *objects):
        """A 400 of the second shape whose message holds the text."""
        value = self.bad(resource, *objects)
        self.assertEqual(set(value), EXCEPTION)
        self.assertIn(text, value["Message"])

    # -- control ------------------------------------------------------------

    def switch(self, **values):
        self.sim.sim("POST", "switches",
                     {"halo_" + n: v for n, v in values.items()})

    def control(self, method, name, body=None):
        return self.sim.sim(method, "halo/" + name, body)

    def load(self, **tables):
        return self.control("POST", "load", tables)["ids"]

    def dump(self, table):
        return self.control("GET", "dump?tables=" + table)[table]

    def stats(self):
        return self.control("GET", "stats")

    def fault(self, **spec):
        self.sim.sim("POST", "faults", spec)

    def set_clock(self, text):
        """And signs in again: tokens of another time have ended."""
        self.sim.sim("POST", "clock", {"set": text})
        self.bearer = self.scoped("all")

    def advance(self, seconds):
        self.sim.sim("POST", "clock", {"advance": seconds})
