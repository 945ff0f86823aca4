"""Import Update Set from XML (§11).  The files here are written out by hand."""
import xml.sax.saxutils

from support import SOURCE, Case, app

A = "a" * 32
STAMPS = {"sys_created_by": "admin", "sys_created_on": "2026-03-01 10:00:00",
          "sys_mod_count": "0", "sys_updated_by": "admin",
          "sys_updated_on": "2026-03-01 10:00:00"}
GLOBAL = ' display_value="Global"'


def columns(values, shown=None):
    shown = dict({n: GLOBAL for n in ("application", "sys_package",
                                      "sys_scope")}, **(shown or {}))
    return "".join("<%s%s>%s</%s>" % (
        n, shown.get(n, ""), xml.sax.saxutils.escape(v), n)
        for n, v in sorted(values.items()))


def record(table, sys_id, values, shown=None):
    body = dict(STAMPS, sys_id=sys_id, sys_class_name=table, sys_name="n",
                sys_package="global", sys_policy="", sys_scope="global",
                sys_update_name="%s_%s" % (table, sys_id))
    return '<%s action="INSERT_OR_UPDATE">%s</%s>' % (
        table, columns(dict(body, **values), shown), table)


def update(number, name, payload, **changes):
    body = dict(STAMPS, sys_id="%032x" % number, action="INSERT_OR_UPDATE",
                application="global", category="customer", comments="",
                name=name, payload=payload, payload_hash="",
                remote_update_set=A, replace_on_upgrade="false", table="",
                target_name="t", type="Type", update_domain="global",
                update_set="", view="")
    body.update(changes)
    return '<sys_update_xml action="INSERT_OR_UPDATE">%s</sys_update_xml>' % (
        columns(body, {"remote_update_set": ' display_value="Set"'}))


def of(number, table, sys_id, values, shown=None, **changes):
    return update(number, "%s_%s" % (table, sys_id),
                  '<record_update table="%s">%s</record_update>' % (
                      table, record(table, sys_id, values, shown)), **changes)


def choice(value=SOURCE, sys_id="c" * 32, **changes):
    body = dict(STAMPS, sys_id=sys_id, dependent_value="", hint="",
                element="discovery_source", inactive="false", label=value,
                language="en", name="cmdb_ci", sequence="", value=value)
    body.update(changes)
    return '<sys_choice action="INSERT_OR_UPDATE">%s</sys_choice>' % columns(body)


def choice_list(rows, tag="sys_choice_v2", version="4", head=None):
    if head is None:
        head = ('<sys_choice_set action="INSERT_OR_UPDATE"><element>'
                'discovery_source</element><name>cmdb_ci</name><sys_class_name>'
                'sys_choice_set</sys_class_name><sys_id>%s</sys_id>'
                '</sys_choice_set>' % ("d" * 32))
    return update(1, "sys_choice_cmdb_ci_discovery_source",
                  '<record_update><%s action="INSERT_OR_UPDATE" table="cmdb_ci"'
                  ' field="discovery_source" version="%s">%s%s</%s>'
                  '</record_update>' % (tag, version, head, rows, tag))


FIRST = ('<sys_choice action="delete_multiple" query="name=cmdb_ci^element='
         'discovery_source^value=%s^language=en"/>' % SOURCE)


def package(*updates, **changes):
    head = dict(STAMPS, application="global", application_name="Global",
                application_scope="global", name="Set", remote_sys_id="b" * 32,
                state="loaded", sys_class_name="sys_remote_update_set",
                sys_id=A, description="")
    head.update(changes)
    return ('<?xml version="1.0" encoding="UTF-8"?>\n'
            '<unload unload_date="2026-03-01 10:00:00">\n'
            '<sys_remote_update_set action="INSERT_OR_UPDATE">%s'
            '</sys_remote_update_set>\n%s\n</unload>' % (
                columns(head), "\n".join(updates)))


def rule(number=2, **values):
    body = dict(active="false", applies_to="cmdb_ci_business_app",
                attributes="short_description,owned_by", condition="",
                discovery_source=SOURCE, name="R", null_update="",
                priority="200")
    body.update(values)
    return of(number, "cmdb_reconciliation_definition", "e" * 32, body)


class UpdateSet(Case):
    def send(self, text, status=200, name="import_update_set"):
        answer = self.sim.call("POST", "/__sim/" + name, text)
        self.assertEqual(answer.status, status, answer.body)
        return answer.json

    def refused(self, text, words, **more):
        self.assertIn(words, self.send(text, 400, **more)["error"])

    def sources(self):
        return sorted(r["value"] for r in self.dump("sys_choice")
                      if r["element"] == "discovery_source")

    def test_11_registers_one_source_and_leaves_the_others(self):
        before = self.dump("sys_choice")
        text = package(choice_list(FIRST + choice()), rule())
        report = self.send(text)
        self.assertEqual((report["again"], report["deleted"]), (False, 0))
        self.assertEqual(report["inserted"], {
            "sys_choice": 1, "sys_choice_set": 1,
            "cmdb_reconciliation_definition": 1})
        after = self.dump("sys_choice")
        self.assertEqual([r for r in after if r["sys_id"] != "c" * 32], before)
        self.assertEqual(self.dump("sys_remote_update_set")[0]["state"],
                         "committed")
        # the cache of IRE notices it later
        item = app("A", "k")
        self.assertTrue(self.ire([item])["hasError"])
        self.advance(6)
        self.assertFalse(self.ire([item])["hasError"])
        # the same records again
        again = self.send(text)
        self.assertEqual((again["again"], again["inserted"], again["deleted"]),
                         (True, {}, 0))
        self.assertEqual(self.dump("sys_choice"), after)
        self.assertEqual(len(self.dump("cmdb_reconciliation_definition")), 1)

    def test_11_3_a_choice_made_before_is_not_doubled(self):
        self.register()
        report = self.send(package(choice_list(FIRST + choice())))
        self.assertEqual(report["deleted"], 1)
        self.assertEqual(self.sources().count(SOURCE), 1)
        # without the deletion it is the same choice by its five columns
        self.sim.sim("POST", "reset")
        self.register()
        report = self.send(package(choice_list(choice())))
        self.assertEqual(report["updated"], {"sys_choice": 1})
        self.assertEqual(self.sources().count(SOURCE), 1)

    def test_11_3_the_old_form_is_the_whole_list(self):
        for tag, version in (("sys_choice", "1"), ("sys_choice_set", "3")):
            self.sim.sim("POST", "reset")
            self.assertIn("ServiceNow", self.sources())
            self.send(package(choice_list(choice(), tag, version)))
            self.assertEqual(self.sources(), [SOURCE])

    def test_11_3_a_wide_deletion_deletes(self):
        wide = FIRST.replace("^value=" + SOURCE, "")
        self.send(package(choice_list(wide + choice())))
        self.assertEqual(self.sources(), [SOURCE])

    def test_11_3_choices_are_checked(self):
        for rows, words in (
                (choice() + FIRST, "precedes"),
                (choice(value=""), "has a value"),
                (choice(value="x" * 41, label="x"), "longer than 40"),
                (choice(inactive="no"), "true or false"),
                (choice(element="environment"), "another column"),
                (choice() + choice(sys_id="f" * 32), "same value"),
                (choice().replace("<hint></hint>", ""), "lacks hint")):
            self.refused(package(choice_list(rows)), words)
        self.refused(package(choice_list(choice(), head="")), "comes first")
        self.refused(package(choice_list(choice(), version="3")), "no version")
        self.refused(package(choice_list(FIRST + choice(), "sys_choice", "1")),
                     "in a sys_choice_v2")
        self.refused(package(choice_list(choice()).replace(
            "<name>sys_choice_cmdb_ci_discovery_source",
            "<name>sys_choice_cmdb_discovery_source")), "is the choice list of")
        self.assertNotIn(SOURCE, self.sources())

    def test_11_1_the_form_is_checked(self):
        good = package(rule())
        for old, new, words in (
                ("<unload ", "<update ", "not well-formed"),
                (' unload_date="2026-03-01 10:00:00"', "", "unload_date"),
                ("2026-03-01 10:00:00\">", "2026-13-01 10:00:00\">", "no date"),
                ("<state>loaded", "<state>committed", "is loaded"),
                ("<category>customer", "<category>internal", "is customer"),
                ("<category>customer</category>", "", "lacks category"),
                ("<comments></comments><name>cmdb",
                 "<name>cmdb", None),
                ("</category><comments>", "</category><zzz></zzz><comments>",
                 "alphabetical"),
                ("<view></view>", "<view></view><zzz></zzz>", "no column zzz"),
                ("Set\">" + A, "Set\">" + "9" * 32, "another update set"),
                ('display_value="Set"', 'display_value="Other"', "name"),
                ("<payload_hash>", "<payload_hash>x", "no number"),
                ("<sys_id>" + A, "<sys_id>1", "no sys_id"),
                ("<name>cmdb_reconciliation_definition_e",
                 "<name>cmdb_reconciliation_definition_f", "is not table and"),
                ("sys_update_name&gt;cmdb", "sys_update_name&gt;xmdb", "differs"),
                ('record_update table="cmdb_', 'record_update table="xmdb_',
                 "names table"),
                ("&lt;active&gt;false", "&lt;active&gt;maybe", "true or false"),
                ("&lt;active&gt;false&lt;/active&gt;", "", None),
                ("&lt;name&gt;R", "&lt;name&gt;" + "R" * 101, "longer than"),
                ("owned_by&lt;", "owned_by,colour&lt;", "no column colour"),
                ("cmdb_ci_business_app", "cmdb_ci_nothing", "no class"),
                ("short_description,owned_by", "", "about all of them"),
                ("</unload>", "text</unload>", "text between"),
                ("<unload", "<!DOCTYPE unload><unload", "document type")):
            text = good.replace(old, new)
            self.assertNotEqual(text, good, old)
            if words is None:
                self.send(text)
            else:
                self.refused(text, words)
        self.refused(package(), "is empty")
        self.refused(package(rule(), rule()), "the same name")
        self.refused(good.replace("<sys_update_xml ", "<sys_other ").replace(
            "</sys_update_xml>", "</sys_other>"), "no part of an update set")
        self.refused(package(of(3, "cmdb_nothing", "e" * 32, {})), "no table")
        self.refused('<unload unload_date="2026-03-01 10:00:00">%s</unload>'
                     % choice(), "first element")

    def test_11_1_a_refused_file_changes_nothing(self):
        before = self.sources()
        self.refused(package(choice_list(FIRST + choice()),
                             rule(applies_to="cmdb_ci_nothing")), "no class")
        self.assertEqual(self.sources(), before)
        self.assertEqual(self.dump("sys_remote_update_set"), [])

    def test_11_1_references_are_there_or_come_along(self):
        identifier, entry = "1" * 32, "2" * 32
        one = of(4, "cmdb_identifier", identifier, dict(
            name="I", applies_to="cmdb_ci_business_app", independent="true",
            active="true", description=""))
        two = of(5, "cmdb_identifier_entry", entry, dict(
            identifier=identifier, table="cmdb_ci_business_app",
            attributes="correlation_id", order="100", active="true"),
            {"identifier": ' display_value="I"'})
        self.refused(package(two), "could not find a record")
        self.send(package(one, two))
        # one rule a class: the base rule is out
        active = [r["name"] for r in self.dump("cmdb_identifier")
                  if r["applies_to"] == "cmdb_ci_business_app"
                  and r["active"] == "true"]
        self.assertEqual(active, ["I"])

    def test_11_1_delete(self):
        self.send(package(rule()))
        report = self.send(package(rule().replace(
            "<action>INSERT_OR_UPDATE", "<action>DELETE").replace(
            "definition action=\"INSERT_OR_UPDATE", "definition action=\"DELETE")))
        self.assertEqual(report["deleted"], 1)
        self.assertEqual(self.dump("cmdb_reconciliation_definition"), [])

    def test_11_2_an_active_rule_shuts_the_others_out(self):
        self.register()
        # an inactive one does not
        for active, value in (("false", "theirs"), ("true", "ours")):
            self.ire([app("A", "k", short_description="ours")])
            self.send(package(rule(active=active)))
            self.ire([app("A", short_description="theirs")],
                     source="Other Automated")
            self.assertEqual(self.dump("cmdb_ci_business_app")[0][
                "short_description"], value)

    def test_11_3_plain_records(self):
        text = ('<unload unload_date="2026-03-01 10:00:00">%s%s</unload>' % (
            choice(), record("sys_rest_message", "7" * 32, dict(
                name="M", rest_endpoint="https://x.example", description=""))))
        report = self.send(text, name="import_xml")
        self.assertEqual(report["inserted"],
                         {"sys_choice": 1, "sys_rest_message": 1})
        self.assertIn("ServiceNow", self.sources())
        self.assertEqual(self.send(text, name="import_xml")["inserted"], {})
        self.refused(package(rule()), "Update Set from XML", name="import_xml")
