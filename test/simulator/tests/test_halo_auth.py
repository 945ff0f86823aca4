"""Halo: addresses, sign-in, scopes, access levels (§1, §7)."""
import http.client
import json
import os
import ssl
import tempfile

from halo_support import FORM, HaloCase, SERVER
from support import Simulator

API = "/halo/api/Asset"


class Addresses(HaloCase):
    def test_1_2_authinfo_needs_no_token(self):
        answer = self.call("GET", "authinfo", headers={"Authorization": None})
        self.assertEqual(answer.json, {
            "auth_url": "http://127.0.0.1:%d/halo/auth" % self.sim.ports[0],
            "tenant_id": "northwind"})
        self.assertEqual(self.call("GET", "authinfo/").status, 200)
        self.assertEqual(self.call("POST", "authinfo", []).status, 405)

    def test_1_2_on_premises_without_tenant(self):
        self.switch(tenant="")
        self.assertNotIn("tenant_id", self.get("authinfo"))
        self.assertEqual(self.token("/halo/auth/token").status, 200)
        self.switch(onprem_tenant_id="empty")
        self.assertEqual(self.get("authinfo")["tenant_id"], "")

    def test_1_3_auth_once(self):
        for path in ("/halo/auth/auth/token", "/halo/token", "/halo/auth",
                     "/halo/api/auth/token", "/halo/auth/token/x"):
            answer = self.token(path + "?tenant=northwind")
            self.assertEqual(answer.status, 404, path)
        answer = self.token("/halo/auth/auth/token?tenant=northwind")
        self.assertIn("text/html", answer.headers["content-type"])

    def test_1_1_hosted_layout_at_the_root(self):
        self.switch(resource_path="/api", auth_path="/auth")
        token = self.token("/auth/token?tenant=northwind").json["access_token"]
        self.assertEqual(self.call("GET", "Asset", token=token,
                                   base="/api/").status, 200)
        self.assertEqual(self.call("GET", "Asset", token=token).status, 404)
        self.assertEqual(self.token().status, 404)
        self.assertTrue(self.call("GET", "authinfo", base="/api/")
                        .json["auth_url"].endswith("/auth"))
        # the ServiceNow instance stays where it is
        self.assertIn("error", self.sim.call(
            "GET", "/api/now/table/cmdb_ci").json)

    def test_1_1_on_premises_deeper(self):
        self.switch(resource_path="/haloapi/api", auth_path="/haloapp/auth",
                    tenant="")
        token = self.token("/haloapp/auth/token").json["access_token"]
        self.assertEqual(self.call("GET", "Asset", token=token,
                                   base="/haloapi/api/").status, 200)

    def test_1_1_paths_in_any_case_and_no_doubled_slash(self):
        for path in ("asset", "ASSET", "Asset/"):
            self.assertEqual(self.call("GET", path).status, 200, path)
        self.assertEqual(self.call("GET", "asset", base="/Halo/API/").status,
                         200)
        self.assertEqual(self.call("GET", "/Asset").status, 404)
        self.assertEqual(self.call("GET", "Asset//1").status, 404)

    def test_7_instance_info(self):
        info = self.call("GET", "InstanceInfo",
                         headers={"Authorization": None}).json
        self.assertEqual((info["app_version"], info["tenant_id"]),
                         ("2.236.133", "northwind"))
        self.switch(build="2025")
        self.assertEqual(self.call("GET", "InstanceInfo",
                                   headers={"Authorization": None}).status, 401)
        self.assertTrue(self.get("InstanceInfo")["app_version"]
                        .startswith("2.190."))

    def test_9_contract_and_its_like_do_not_exist(self):
        for name in ("Contract", "AssetRelationship", "RelatedAsset", "Software",
                     "Asset/Object", "Asset/1/x", "", "DeviceChild",
                     "authinfo/x", "InstanceInfo/x"):
            answer = self.call("GET", name)
            self.assertIn(answer.status, (404,) if name != "Asset/Object"
                          else (400,), name)
        self.assertIsNone(self.refused(404, "POST", "Contract", [{}]))


class Tokens(HaloCase):
    def test_1_3_success(self):
        answer = self.token()
        self.assertEqual(answer.status, 200)
        self.assertEqual(set(answer.json), {"access_token", "token_type",
                                            "expires_in", "scope"})
        self.assertEqual((answer.json["token_type"], answer.json["expires_in"],
                          answer.json["scope"]), ("Bearer", 3600, "all"))

    def test_1_3_expires_in_may_be_absent(self):
        self.switch(expires_in=False)
        self.assertNotIn("expires_in", self.token().json)

    def test_1_3_tenant_in_query_or_form(self):
        self.assertEqual(self.token("/halo/auth/token", tenant="northwind")
                         .status, 200)
        for path in ("/halo/auth/token?tenant=other", "/halo/auth/token"):
            answer = self.token(path)
            self.assertEqual(answer.status, 404)
            self.assertIn("text/html", answer.headers["content-type"])
        self.switch(wrong_tenant_status=500)
        self.assertEqual(self.token("/halo/auth/token?tenant=x").status, 500)
        self.switch(tenant_required=False)
        self.assertEqual(self.token("/halo/auth/token").status, 200)
        self.assertEqual(self.token("/halo/auth/token?tenant=x").status, 500)

    def test_1_3_invalid_client(self):
        for form in ({"client_secret": "wrong"}, {"client_id": "nobody"},
                     {"client_secret": None}, {"client_id": None}):
            answer = self.token(**form)
            self.assertEqual((answer.status, answer.json["error"]),
                             (400, "invalid_client"), form)
        self.assertEqual(set(answer.json), {"error", "error_description",
                                            "error_uri"})
        self.switch(invalid_client_status=401)
        self.assertEqual(self.token(client_secret="wrong").status, 401)

    def test_1_3_application_of_the_wrong_kind(self):
        self.load(Application=[{"client_id": "web", "client_secret": "web-s",
                                "kind": "interactive", "agent_id": 1}])
        answer = self.token(client_id="web", client_secret="web-s")
        self.assertEqual(answer.json["error"], "invalid_client")

    def test_1_3_application_needs_an_agent(self):
        self.load(Application=[{"client_id": "a", "client_secret": "a-sec"}])
        answer = self.token(client_id="a", client_secret="a-sec")
        self.assertEqual(answer.json["error"], "invalid_client")
        self.load(Agent=[{"id": 1, "inactive": True}])
        self.assertEqual(self.token().json["error"], "invalid_client")
        self.assertIsNone(self.refused(401, "GET", "Asset"))

    def test_1_3_invalid_scope(self):
        for scope in ("read:users", "read:agents", "all read:nothing"):
            answer = self.token(scope=scope)
            self.assertEqual((answer.status, answer.json["error"]),
                             (400, "invalid_scope"), scope)

    def test_1_3_scope_that_the_application_lacks(self):
        narrow = {"client_id": "narrow-1", "client_secret": "narrow-secret-1"}
        self.assertEqual(self.token(scope="read:assets", **narrow).status, 200)
        for scope in ("all", "read:suppliers"):
            self.assertEqual(self.token(scope=scope, **narrow).json["error"],
                             "invalid_scope")

    def test_1_3_grants(self):
        for form, error in (({"grant_type": "device"}, "unsupported_grant_type"),
                            ({"grant_type": None}, "invalid_request")):
            answer = self.token(**form)
            self.assertEqual((answer.status, answer.json["error"]), (400, error))

    def test_1_3_form_and_post_only(self):
        for more in ({"headers": {"Content-Type": "application/json"}},
                     {"method": "GET"}):
            self.assertEqual(self.token(**more).json["error"],
                             "invalid_request")

    def test_1_3_password_and_refresh(self):
        self.load(Application=[{"client_id": "pw", "kind": "password",
                                "agent_id": 1}])
        form = {"grant_type": "password", "client_id": "pw",
                "client_secret": None, "username": "ada.login"}
        self.assertEqual(self.token(password="wrong", **form).json["error"],
                         "invalid_grant")
        plain = self.token(password="ada-secret-1", **form).json
        self.assertNotIn("refresh_token", plain)
        first = self.token(password="ada-secret-1",
                           **dict(form, scope="all offline_access")).json
        again = self.token(grant_type="refresh_token", client_id="pw",
                           client_secret=None,
                           refresh_token=first["refresh_token"])
        self.assertEqual(self.call("GET", "Asset", token=again.json[
            "access_token"]).status, 200)
        self.assertEqual(self.token(
            grant_type="refresh_token", client_id="pw", client_secret=None,
            refresh_token="x").json["error"], "invalid_grant")
        self.load(Agent=[{"id": 5, "inactive": True}])
        for form in (dict(form, password="ada-secret-1"),
                     {"grant_type": "refresh_token", "client_id": "pw",
                      "client_secret": None,
                      "refresh_token": first["refresh_token"]}):
            self.assertEqual(self.token(**form).json["error"], "invalid_grant")
        self.load(Agent=[{"id": 5, "inactive": False},
                         {"id": 6, "username": "no.password"}])
        self.assertEqual(self.token(
            grant_type="password", client_id="pw", client_secret=None,
            username="no.password").json["error"], "invalid_grant")
        # another application's refresh token is none
        self.assertEqual(self.token(
            grant_type="refresh_token", refresh_token=first["refresh_token"])
            .json["error"], "invalid_grant")

    def test_1_3_token_ends(self):
        self.switch(token_seconds=100)
        token = self.scoped("all")
        self.advance(99)
        self.assertEqual(self.call("GET", "Asset", token=token).status, 200)
        self.advance(2)
        self.assertIsNone(self.refused(401, "GET", "Asset", token=token))

    def test_5_2_401_has_no_body(self):
        for headers in ({"Authorization": None}, {"Authorization": "Bearer x"},
                        {"Authorization": "Basic " + self.bearer}):
            self.assertIsNone(self.refused(401, "GET", "Asset",
                                           headers=headers))
        answer = self.call("GET", "Asset", token="x")
        self.assertEqual(answer.headers["www-authenticate"], "Bearer")
        self.switch(**{"401_header": False})
        self.assertNotIn("www-authenticate",
                         self.call("GET", "Asset", token="x").headers)

    def test_5_2_calls_for_end_users_are_401(self):
        self.assertIsNone(self.refused(401, "GET", "Client/me"))
        self.assertIsNone(self.refused(401, "POST", "CRMNoteReply", [{}]))
        self.assertIsNone(self.refused(404, "GET", "Users/me"))

    def test_7_agent_me(self):
        me = self.get("Agent/me")
        self.assertEqual(me["id"], 1)
        self.assertEqual(me["claims"], [{"type": "scope", "value": "all"}])

    def test_7_client_cache(self):
        self.assertIsNone(self.refused(500, "GET", "ClientCache"))
        self.assertEqual(self.get("ClientCache", iscachebuild="true"), {})
        self.assertIsNone(self.refused(405, "POST", "ClientCache", []))

    def test_5_2_what_a_resource_cannot(self):
        for method, path in (("GET", "AssetChange/1"), ("DELETE", "Agent/1"),
                             ("GET", "Lookup/1"), ("DELETE", "Lookup/1"),
                             ("POST", "WebhookEvent"), ("DELETE", "Asset")):
            self.assertIsNone(self.refused(
                405, method, path, [] if method == "POST" else None))

    def test_control_revokes(self):
        self.control("POST", "revoke")
        self.assertIsNone(self.refused(401, "GET", "Asset"))
        self.assertEqual(self.call("GET", "Asset", token=self.scoped("all"))
                         .status, 200)

    def test_secrets_are_not_in_the_log(self):
        self.make("Webhook", name="w", url="http://127.0.0.1:1/",
                  basic_password="hook-secret-77")
        self.token(headers=dict(FORM, Authorization="Basic halo-secret-1"))
        for secret in ("halo-secret-1", "hook-secret-77", "ada-secret-1",
                       self.bearer):        # where none belongs
            self.get("Asset", search=secret)
        text = json.dumps(self.sim.sim("GET", "requests?n=50"))
        text += json.dumps(self.control("GET", "dump"))
        for secret in ("halo-secret-1", "hook-secret-77", self.bearer,
                       "ada-secret-1"):
            self.assertNotIn(secret, text)


class Scopes(HaloCase):
    def statuses(self, scope, resource, body=None):
        token = self.scoped(scope)
        return (self.call("GET", resource, token=token).status,
                self.call("POST", resource, [body or {"name": "x"}],
                          token=token).status)

    def test_1_4_scope_per_resource(self):
        body = {"assettype_id": SERVER, "client_id": self.client}
        self.assertEqual(self.statuses("read:assets", "Asset", body), (200, 403))
        self.assertEqual(self.statuses("edit:assets", "Asset", body), (403, 201))
        self.assertEqual(self.statuses("read:assets edit:assets", "Supplier"),
                         (403, 403))
        self.assertEqual(self.statuses("read:suppliers edit:suppliers",
                                       "Supplier"), (200, 201))
        self.assertEqual(self.statuses("read:customers", "Client"), (200, 403))
        self.assertEqual(self.statuses("edit:software", "SoftwareLicence"),
                         (403, 201))
        self.assertEqual(self.statuses("all:standard", "Supplier",
                                       {"name": "y"}), (200, 201))
        self.assertEqual(self.statuses("", "Asset", body), (403, 403))
        self.assertIsNone(self.refused(403, "GET", "Asset",
                                       token=self.scoped("read:kb")))

    def test_1_4_edit_may_imply_read(self):
        token = self.scoped("edit:assets")
        self.assertEqual(self.call("GET", "Asset", token=token).status, 403)
        self.switch(edit_implies_read=True)
        self.assertEqual(self.call("GET", "Asset", token=token).status, 200)
        self.assertEqual(self.call("GET", "Supplier", token=token).status, 403)

    def test_1_4_users_and_agents_need_no_scope_to_read(self):
        token = self.scoped("read:kb")
        for name in ("Users", "Agent", "Agent/me", "Status", "Lookup"):
            self.assertEqual(self.call("GET", name, token=token).status, 200)
        self.assertEqual(self.post("Users", {"name": "x", "site_id": self.site},
                                   token=token).status, 403)

    def test_1_4_supplier_contract(self):
        """§10 gap 8"""
        supplier = self.make("Supplier", name="S")["id"]
        body = {"ref": "r", "supplier_id": supplier}
        one = "read:suppliers edit:suppliers"
        two = "read:contracts edit:contracts"
        for scope in (one, two):
            self.assertEqual(self.statuses(scope, "SupplierContract", body),
                             (403, 403))
        self.assertEqual(self.statuses(one + " " + two, "SupplierContract",
                                       body), (200, 201))
        self.switch(supplier_contract_scope="suppliers")
        self.assertEqual(self.statuses(one, "SupplierContract", body),
                         (200, 201))
        self.switch(supplier_contract_scope="contracts")
        self.assertEqual(self.statuses(one, "SupplierContract", body),
                         (403, 403))
        self.assertEqual(self.statuses(two, "SupplierContract", body),
                         (200, 201))

    def test_1_4_service(self):
        """§10 gap 8"""
        body = {"name": "s", "summary": "s", "service_category_id": 1,
                "showinusercatalog": False, "showintechcatalog": False}
        assets = "read:assets edit:assets"
        self.assertEqual(self.statuses("read:kb", "Service", body), (200, 201))
        self.switch(service_scope="assets")
        self.assertEqual(self.statuses("read:kb", "Service", body), (403, 403))
        self.assertEqual(self.statuses(assets, "Service", body), (200, 201))
        self.switch(service_scope="all")
        self.assertEqual(self.statuses(assets, "Service", body), (403, 403))
        for scope in ("all", "all:standard", "admin"):
            self.assertEqual(self.statuses(scope, "Service", body), (200, 201))

    def test_1_4_webhooks_want_admin_or_all(self):
        body = {"name": "w", "url": "http://127.0.0.1:1/"}
        self.assertEqual(self.statuses("all:standard", "Webhook", body),
                         (403, 403))
        self.assertEqual(self.statuses("admin", "Webhook", body), (200, 201))

    def test_1_4_configuration(self):
        body = {"name": "t"}
        assets = "read:assets edit:assets"
        self.assertEqual(self.statuses(assets, "AssetType", body), (200, 403))
        self.assertEqual(self.statuses("admin " + assets, "AssetType", body),
                         (200, 201))
        self.switch(config_scope="assets")
        self.assertEqual(self.statuses(assets, "AssetType", {"name": "u"}),
                         (200, 201))

    def test_7_access_levels_of_the_agent(self):
        def level(name, value):
            self.load(Agent=[{"id": 1, "access": {name: value}}])
        body = [{"name": "x"}]
        for value, expected in (("none", (403, 403)), ("read", (200, 403)),
                                ("modify", (200, 201))):
            level("Suppliers", value)
            self.assertEqual((self.call("GET", "Supplier").status,
                              self.call("POST", "Supplier", body).status),
                             expected)
        for area, name in (("Assets", "Asset"), ("Customers", "Client"),
                           ("Supplier Contracts", "SupplierContract"),
                           ("Client Contracts", "ClientContract"),
                           ("Users", "Users"), ("Services", "Service")):
            level(area, "none")
            self.assertIsNone(self.refused(403, "GET", name))
        level("Assets", "none")
        self.assertIsNone(self.refused(403, "DELETE", "Asset/1"))

    def test_7_agent_of_some_clients_only(self):
        other = self.make("Client", name="Other")["id"]
        mine = self.asset("A")
        theirs = self.asset("B", client_id=other)
        self.load(Agent=[{"id": 1, "clients": [self.client]}])
        self.assertEqual(self.tags(), ["A"])
        self.assertIsNone(self.refused(404, "GET", "Asset/%d" % theirs["id"]))
        self.assertIsNone(self.refused(404, "DELETE", "Asset/%d" % theirs["id"]))
        self.assertIsNone(self.refused(404, "POST", "Asset", [
            {"id": theirs["id"], "notes": "x"}]))
        self.assertIsNone(self.refused(403, "POST", "Asset", [
            {"assettype_id": SERVER, "client_id": other}]))
        self.get("Asset/%d" % mine["id"])
        user, = self.load(Users=[{"name": "U", "client_id": other}])["Users"]
        self.exception("(547)", "Asset", {"id": mine["id"],
                                          "business_owner_id": user})
        self.assertEqual([c["id"] for c in self.get("Client")["clients"]],
                         [self.client])

    def test_7_agent_of_some_asset_groups_only(self):
        self.asset("A")
        self.load(Agent=[{"id": 1, "asset_groups": [101]}])
        self.assertEqual(self.tags(), [])
        self.load(Agent=[{"id": 1, "asset_groups": [102]}])
        self.assertEqual(self.tags(), ["A"])
        self.assertEqual(self.get("Client")["record_count"], 2)

    def test_8_modules_that_are_off(self):
        self.switch(modules_off="SupplierContract, Service, AssetType")
        for name in ("SupplierContract", "Service", "SupplierContract/1"):
            self.assertIsNone(self.refused(403, "GET", name))
        self.switch(module_off_as="empty")
        self.assertEqual(self.get("SupplierContract")["contracts"], [])
        self.assertIsNone(self.refused(403, "GET", "SupplierContract/1"))
        self.assertEqual(self.get("AssetType"), [])
        self.assertIsNone(self.refused(403, "POST", "Service", [{}]))
        self.switch(modules_off="")
        self.assertNotEqual(self.get("AssetType"), [])


class CommandLine(HaloCase):
    def test_tls(self):
        sim = Simulator("--tls", "--no-http")
        self.addCleanup(sim.stop)
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(
            "127.0.0.1", sim.ports[0], context=context, timeout=20)
        self.addCleanup(connection.close)
        answer = sim.call("GET", "/halo/api/authinfo", connection=connection)
        self.assertEqual(answer.json["auth_url"],
                         "https://127.0.0.1:%d/halo/auth" % sim.ports[0])

    def test_data_of_one_platform_only(self):
        with tempfile.TemporaryDirectory() as folder:
            os.mkdir(os.path.join(folder, "halo"))
            with open(os.path.join(folder, "halo", "a.json"), "w") as file:
                json.dump({"Supplier": [{"name": "S"}]}, file)
            sim = Simulator("--data", folder)
            self.addCleanup(sim.stop)
            rows = sim.sim("GET", "halo/dump?tables=Supplier")["Supplier"]
            self.assertEqual([r["name"] for r in rows], ["S"])

    def test_options(self):
        sim = Simulator("--halo-client", "c:s", "--switch",
                        "halo_tenant=contoso", "--switch",
                        "halo_rate_requests=2")
        self.addCleanup(sim.stop)
        sim.sim("POST", "reset")
        form = ("grant_type=client_credentials&client_id=c&client_secret=s"
                "&scope=all")
        statuses = [sim.call("POST", "/halo/auth/token?tenant=contoso", form,
                             FORM).status for _ in range(3)]
        self.assertEqual(statuses, [200, 200, 429])
