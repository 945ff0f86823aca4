"""Sign-in (§1)."""
import base64
import json
import os
import ssl
import subprocess
import tempfile
import unittest
import urllib.request

from support import Case, Simulator, basic

REFUSED = {"error_description": "access_denied", "error": "server_error"}
CLIENT = {"client_id": "client-1", "client_secret": "client-secret-1"}
PASSWORD = dict(CLIENT, grant_type="password", username="sync",
                password="sync-secret")
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Tokens(Case):
    def bearer(self, token):
        return self.call("GET", "/api/now/table/sys_user", user=None,
                         headers={"Authorization": "Bearer " + token}).status

    def test_1_1_password_grant(self):
        answer = self.oauth(**PASSWORD)
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.headers["content-type"],
                         "application/json;charset=utf-8")
        body = answer.json
        self.assertEqual((body["scope"], body["token_type"],
                          body["expires_in"]), ("useraccount", "Bearer", 1799))
        self.assertEqual(self.bearer(body["access_token"]), 200)

    def test_1_1_live_one_refusal_for_every_reason(self):
        for change in ({"client_secret": "wrong"}, {"password": "wrong"},
                       {"username": "nobody"}, {"client_id": "nobody"},
                       {"grant_type": "client_credentials"},
                       {"grant_type": "nonsense"},
                       {"grant_type": "refresh_token", "refresh_token": "x"}):
            answer = self.oauth(**dict(PASSWORD, **change))
            self.assertEqual((answer.status, answer.json), (401, REFUSED), change)

    def test_1_1_json_is_refused(self):
        answer = self.sim.call("POST", "/oauth_token.do", PASSWORD,
                               {"Content-Type": "application/json"})
        self.assertNotEqual(answer.status, 200)

    def test_1_1_same_token_while_it_lives(self):
        first = self.oauth(**PASSWORD).json
        self.advance(600)
        second = self.oauth(**PASSWORD).json
        self.assertEqual(second["access_token"], first["access_token"])
        self.assertLess(second["expires_in"], 1200)
        self.advance(1300)
        self.assertEqual(self.bearer(first["access_token"]), 401)
        third = self.oauth(**PASSWORD).json
        self.assertNotEqual(third["access_token"], first["access_token"])

    def test_1_1_refresh_gives_an_access_token_only(self):
        first = self.oauth(**PASSWORD).json
        self.advance(2000)
        answer = self.oauth(grant_type="refresh_token",
                            refresh_token=first["refresh_token"], **CLIENT)
        self.assertEqual(answer.status, 200)
        self.assertNotIn("refresh_token", answer.json)
        self.assertEqual(self.bearer(answer.json["access_token"]), 200)
        self.advance(8640000)
        answer = self.oauth(grant_type="refresh_token",
                            refresh_token=first["refresh_token"], **CLIENT)
        self.assertEqual(answer.json, REFUSED)

    def test_1_1_client_credentials_are_off_by_default(self):
        grant = dict(CLIENT, grant_type="client_credentials")
        self.assertEqual(self.oauth(**grant).json, REFUSED)
        self.load(sys_properties=[{
            "name": "glide.oauth.inbound.client.credential.grant_type.enabled",
            "value": "true"}])
        answer = self.oauth(**grant)
        self.assertEqual(answer.status, 200)
        self.assertNotIn("refresh_token", answer.json)
        # without an application user: the same refusal
        self.load(oauth_entity=[{"client_id": "client-1", "user": ""}])
        self.assertEqual(self.oauth(**grant).json, REFUSED)

    def test_1_1_client_as_basic(self):
        text = base64.b64encode(b"client-1:client-secret-1").decode()
        answer = self.sim.call(
            "POST", "/oauth_token.do", "grant_type=password&username=sync"
            "&password=sync-secret", dict(FORM, Authorization="Basic " + text))
        self.assertEqual(answer.status, 200)

    def test_1_1_revoked_token(self):
        token = self.oauth(**PASSWORD).json["access_token"]
        self.sim.call("GET", "/oauth_revoke_token.do?token=" + token)
        self.assertEqual(self.bearer(token), 401)

    def test_1_1_inactive_user(self):
        token = self.oauth(**PASSWORD).json["access_token"]
        user = self.rows("sys_user", "user_name=sync")[0]["sys_id"]
        self.load(sys_user=[{"sys_id": user, "active": "false"}])
        self.assertEqual(self.bearer(token), 401)
        self.assertEqual(self.oauth(**PASSWORD).json, REFUSED)


class Others(Case):
    def status(self, path="/api/now/table/sys_user", **headers):
        return self.call("GET", path, user=None, headers={
            n.replace("_", "-"): v for n, v in headers.items()})

    def test_1_2_basic(self):
        self.assertEqual(self.status(Authorization=basic("sync")).status, 200)
        self.assertEqual(self.status(
            Authorization=basic("sync", "wrong")).status, 401)
        self.assertEqual(self.status(Authorization="Basic !!!").status, 401)
        self.switch(basic_auth_restricted=True)
        self.assertEqual(self.status(Authorization=basic("sync")).status, 401)

    def test_1_2_multi_factor(self):
        self.switch(mfa=True)
        answer = self.status(Authorization=basic("sync"))
        self.assertEqual((answer.status, answer.headers["x-mfa_token"]),
                         (401, "invalid"))

    def test_1_3_api_key_and_policies(self):
        self.assertEqual(self.status(x_sn_apikey="key-12345").status, 200)
        self.assertEqual(self.status(x_sn_apikey="wrong").status, 401)
        self.switch(api_key_policies="table")
        self.assertEqual(self.status(x_sn_apikey="key-12345").status, 200)
        self.assertEqual(self.status("/api/now/cmdb/meta/cmdb_ci",
                                     x_sn_apikey="key-12345").status, 401)

    def test_1_5_scoped_client(self):
        token = self.oauth(**PASSWORD).json["access_token"]
        self.switch(oauth_unscoped_denied=True)
        answer = self.status(Authorization="Bearer " + token)
        self.assertEqual((answer.status, answer.json["error"]["message"]),
                         (403, "User Not Authorized"))

    def test_12_rest_role(self):
        self.switch(rest_role_required=True)
        self.assertEqual(self.status(Authorization=basic("sync")).status, 403)


class Listeners(unittest.TestCase):
    """TLS, client certificates and the ends of a process."""

    def test_1_4_mutual_tls_and_both_listeners(self):
        with tempfile.TemporaryDirectory() as folder:
            cert, key = _certificate(folder, "sync")
            sim = Simulator("--tls", "--tls-client-ca", cert, "--user",
                            "sync:sync-secret", "--no-http")
            self.addCleanup(sim.stop)
            self.assertRegex(sim.lines[0], r"^listening https 127\.0\.0\.1:\d+$")
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            request = urllib.request.Request(
                "https://127.0.0.1:%d/api/now/table/sys_user" % sim.ports[0],
                headers={"Accept": "application/json"})
            with self.assertRaises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(request, context=context)
            self.assertEqual(caught.exception.code, 401)
            caught.exception.close()
            context.load_cert_chain(cert, key)
            with urllib.request.urlopen(request, context=context) as answer:
                self.assertIn("result", json.load(answer))

    def test_it_ends_with_its_standard_input(self):
        sim = Simulator()
        self.addCleanup(sim.stop)
        with open(sim.port_file, encoding="ascii") as handle:
            self.assertEqual(handle.read(), "%d\n" % sim.ports[0])
        sim.process.stdin.close()
        self.assertEqual(sim.process.wait(5), 0)

    def test_it_ends_at_once_while_a_request_hangs(self):
        sim = Simulator()
        self.addCleanup(sim.stop)
        sim.sim("POST", "faults", {"endpoint": "*", "fault": "hang"})
        connection = sim.connect()
        connection.request("GET", "/api/now/table/sys_user")
        while not sim.sim("GET", "faults")["fired"]:
            pass
        sim.process.terminate()
        self.assertEqual(sim.process.wait(2), 0)
        connection.close()

    def test_no_account_unless_given(self):
        sim = Simulator()
        self.addCleanup(sim.stop)
        for password in ("admin", "", "password"):
            answer = sim.call("GET", "/api/now/table/sys_user", None, {
                "Accept": "application/json",
                "Authorization": basic("admin", password or " ")})
            self.assertEqual(answer.status, 401)

    def test_own_data_and_its_errors(self):
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "x.json"), "w",
                      encoding="utf-8") as handle:
                json.dump({"tables": {
                    "core_company": {"columns": {"u_code": "string 5"}},
                    "u_thing": {"label": "Thing", "extends": "cmdb_ci",
                                "columns": {"u_x": "int"}}},
                    "rows": {"u_thing": [{"name": "T", "u_x": "7"}]}}, handle)
            sim = Simulator("--data", folder, "--user", "a:b-secret:itil")
            self.addCleanup(sim.stop)
            answer = sim.call("GET", "/api/now/table/cmdb_ci", None, {
                "Accept": "application/json",
                "Authorization": basic("a", "b-secret")})
            self.assertEqual(answer.result[0]["sys_class_name"], "u_thing")
            columns = sim.sim("GET", "dump?tables=sys_dictionary")
            self.assertIn(("core_company", "u_code"),
                          [(r["name"], r.get("element"))
                           for r in columns["sys_dictionary"]])
        bad = subprocess.run([sim.process.args[0], "--data", "/nonexistent"],
                             capture_output=True, check=False)
        self.assertEqual(bad.returncode, 2)


def _certificate(folder, name):
    cert, key = os.path.join(folder, "c.pem"), os.path.join(folder, "k.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes",
                    "-subj", "/CN=" + name, "-keyout", key, "-out", cert],
                   check=True, stderr=subprocess.DEVNULL)
    return cert, key
