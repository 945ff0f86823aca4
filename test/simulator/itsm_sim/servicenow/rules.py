"""Business rules of the base system, and those that data files add.

``before_write`` changes the new state in place, as rules that run before the
database write do, so that an answer shows values the caller did not send.
"""
from .errors import OperationRefused


def before_write(platform, table, new, old):
    if table.is_a("cmdb_ci"):
        _retired(platform, table, new, old)
        _life_cycle(platform, table, new, old)
    if table.is_a("cmdb_model"):
        _model(platform, table, new)
    if table.is_a("sys_user"):
        new["name"] = " ".join(
            p for p in (new.get("first_name", ""), new.get("last_name", ""))
            if p) or new.get("name", "")
    if table.name == "cmdb_rel_type" and not new.get("name"):
        new["name"] = "%s::%s" % (new.get("parent_descriptor", ""),
                                  new.get("child_descriptor", ""))
    _abort(platform, table, "insert" if old is None else "update", new)


def before_delete(platform, table, row):
    _abort(platform, table, "delete", row)


def abort_text(table_name, rule_name, rule_id):
    """The recorded text of setAbortAction (§2.3)."""
    return ("Operation against file '%s' was aborted by Business Rule "
            "'%s^%s'. Business Rule Stack:%s"
            % (table_name, rule_name, rule_id, rule_name))


def _abort(platform, table, operation, row):
    for rule in platform.abort_rules:
        if not table.is_a(rule["table"]):
            continue
        if operation not in rule.get("when", ["insert", "update"]):
            continue
        if platform.queries.matches(table.name, rule.get("query", ""), row):
            name = rule.get("name", "Abort")
            raise OperationRefused(abort_text(
                table.name, name, platform.stable_id("sys_script", name)))


def _retired(platform, table, new, old):
    """§10.12: Retired is synchronised both ways between the two columns.

    Which install_status means Retired depends on the class: Business
    Application has a list of its own (§10.2).
    """
    if not platform.switches["retired_sync"]:
        return
    by_label = platform.choices.by_label(table.name, "install_status")
    retired = by_label.get("retired")
    installed = by_label.get("installed") or by_label.get("in production")
    if retired is None:
        return
    op, inst = new.get("operational_status", ""), new.get("install_status", "")
    was_op = old.get("operational_status", "") if old is not None else ""
    was_inst = old.get("install_status", "") if old is not None else ""
    if op == "6" and op != was_op:
        new["install_status"] = retired
    elif was_op == "6" and op != "6":
        if inst == retired and installed is not None:
            new["install_status"] = installed
    elif inst == retired and inst != was_inst:
        new["operational_status"] = "6"
    elif was_inst == retired and inst != retired and op == "6":
        new["operational_status"] = "2"


def _life_cycle(platform, table, new, old):
    """§10.13: with the synchronisation on, the pair follows the legacy
    columns, and a legacy value without a mapping gives TBD."""
    if not platform.switches["life_cycle_sync"]:
        return
    legacy = ("operational_status", "install_status")
    if old is not None and all(new.get(c, "") == old.get(c, "")
                               for c in legacy):
        return
    stage, status = "TBD", "TBD"
    for row in platform.store.of("life_cycle_mapping"):
        if (table.is_a(row.get("table", ""))
                and row.get("legacy_column") in legacy
                and new.get(row["legacy_column"], "") == row.get("legacy_value")):
            stage, status = row["stage"], row["status"]
            break
    for column, name in (("life_cycle_stage", stage),
                         ("life_cycle_stage_status", status)):
        hits = platform.store.find(column, "name", name)
        new[column] = hits[0]["sys_id"] if hits else ""


def _model(platform, table, new):
    """§10.4: display_name is computed; with Software Asset Management the
    model must agree with its product and have a licence type."""
    maker = platform.store.get("core_company", new.get("manufacturer", ""))
    parts = [maker.get("name", "") if maker else "", new.get("name", ""),
             new.get("version", ""), new.get("edition", "")]
    new["display_name"] = " ".join(p for p in parts if p)[:255]
    if (not platform.switches["sam_rules"]
            or not table.is_a("cmdb_software_product_model")):
        return
    if not new.get("license_type"):
        name = "Abort action if no license type"
    elif new.get("product") and not new.get("manufacturer"):
        name = "Product should match publisher"
    else:
        return
    raise OperationRefused(abort_text(
        table.name, name, platform.stable_id("sys_script", name)))
