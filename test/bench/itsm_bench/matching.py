"""Row h: names here paired with names there, without a platform."""
import time

from .database import Failed, literal

DATABASE = "matching"
# A third is there as it is here, a third slightly otherwise, a third not at all; and as many others are there.
NAMES = """
CREATE TABLE words AS SELECT n, w FROM unnest(string_to_array('permit licence payroll asset parking water waste transit fleet court evidence council agenda zoning
 inspection utility billing grant budget treasury tax assessment library recreation shelter animal fire dispatch police records jail booking election voter archive
 map survey drainage bridge pavement snow tree cemetery housing welfare health clinic vaccine lab pharmacy nursing daycare school bus ferry airport harbour customs
 tourism museum theatre festival market vendor contract purchase invoice ledger audit risk claim insurance pension benefit training recruit roster overtime badge
 visitor camera alarm radio antenna network storage backup desktop mobile printer wiki forum survey dashboard warehouse catalogue translation signature form',
 ' ')) WITH ORDINALITY AS u(w, n);
CREATE TABLE names AS
SELECT n, (SELECT initcap(string_agg(w, ' ' ORDER BY k)) FROM words JOIN
           (VALUES (0, n %% 127), (1, n / 127 %% 113), (2, n * 7 %% 109)) AS v(k, m) ON words.n = 1 + m %% (SELECT count(*) FROM words)) AS name
  FROM generate_series(1, %(n)d) AS n;
INSERT INTO pgsync_itsm.plan_records (run_id, entity_type, entity_id, native_key, name, class, payload, verdict)
SELECT %(run)s, 'application', md5('a' || n)::uuid, 'application/' || md5('a' || n)::uuid, name, 'cmdb_ci_business_app', json_build_object('name', name), 'CREATE' FROM names;
INSERT INTO integration_external_records (connection_id, namespace_id, external_table, external_id, target, name, attrs)
SELECT c.id, c.namespace_id, 'cmdb_ci_business_app', md5('x' || n), 'cmdb_ci_business_app',
       CASE n %% 3 WHEN 0 THEN names.name WHEN 1 THEN overlay(names.name placing '' from 2 for 1) || ' Online' ELSE reverse(names.name) END, '{}'
  FROM names, integration_connections AS c;
ANALYZE pgsync_itsm.plan_records; ANALYZE integration_external_records"""


def matching(cluster, table, quick):
    """names here and there"""
    size = 1000 if quick else 10000
    session = cluster.create(DATABASE)
    session.ask("CREATE EXTENSION pgsync_itsm; CREATE EXTENSION pg_trgm")
    conn = session.ask(
        "INSERT INTO integration_connections (namespace_id, platform, instance_url) "
        "VALUES (gen_random_uuid(), 'servicenow', 'https://acme.service-now.com') RETURNING id"
    )
    run = session.ask(
        "INSERT INTO integration_runs (namespace_id, connection_id, kind, status) "
        "SELECT namespace_id, id, 'match', 'planning' FROM integration_connections WHERE id = %s RETURNING id"
        % literal(conn)
    )
    session.ask(NAMES % {"n": size, "run": run})
    begin = time.monotonic()
    session.ask(
        "SET work_mem = '64MB'; SET plan_cache_mode = force_custom_plan; "
        "SELECT pgsync_itsm.match_propose(r, true) FROM integration_runs AS r WHERE r.id = %s" % run
    )
    seconds = time.monotonic() - begin
    found = session.rows(
        "SELECT count(*) FILTER (WHERE score > 0.94), count(*) FILTER (WHERE score < 0.9), count(*) FILTER (WHERE decision = 'create') "
        "FROM integration_matches"
    )[0]
    session.close()
    if int(found[0]) < size / 4 or int(found[1]) < size / 5:
        raise Failed("of %d names %s were found as they are and %s by likeness" % ((size,) + tuple(found[:2])))
    table.add(
        "h",
        "pairing {0:,} names with {0:,}".format(size),
        seconds,
        "s",
        limit=30,
        limit_of="s allowed",
        target="< 30 s",
        met=seconds < 30,
    )
    table.note("h", "%s as they are, %s by likeness, %s new" % tuple(found))
