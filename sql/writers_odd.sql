-- Tables of the user's with a temper: what is no table to be written to, what triggers, rules, policies and constraints do,
-- and what is odd about keys, columns and values.  Whatever they do, it is the record's answer, and nothing of it stays.
\set SHOW_CONTEXT never
\set VERBOSITY terse
SELECT current_database() AS main \gset
SET client_min_messages = warning;
DROP DATABASE IF EXISTS regress_itsm_odd;
CREATE DATABASE regress_itsm_odd TEMPLATE template0;
\c regress_itsm_odd
SET client_min_messages = warning;
CREATE ROLE regress_itsm_odd;
CREATE SCHEMA itsm;
CREATE EXTENSION pgsync_itsm SCHEMA itsm;
SET search_path = public, itsm;
\set acme '''00000000-0000-4000-8000-000000000001'''
INSERT INTO integration_connections (id, namespace_id, platform, instance_url, owner)
VALUES (:acme, '11111111-1111-4111-8111-111111111111', 'servicenow', 'https://acme.service-now.com', 'regress_itsm_odd');
CREATE SCHEMA app AUTHORIZATION regress_itsm_odd;
SET client_min_messages = notice;

-- What is no table to be written to -------------------------------------------------------------------

SET ROLE regress_itsm_odd;
CREATE DOMAIN app.filled AS varchar(20) NOT NULL;
CREATE TABLE app.things (id uuid PRIMARY KEY, name text, note text NOT NULL DEFAULT '', filled app.filled DEFAULT 'x', day date, needed date NOT NULL DEFAULT '2026-01-01', n integer,
    twice integer GENERATED ALWAYS AS (n * 2) STORED, number integer GENERATED ALWAYS AS IDENTITY, said text, changed timestamp);
INSERT INTO app.things (id, name) SELECT ('aaaaaaaa-0000-4000-8000-00000000000' || i)::uuid, 'thing ' || i FROM generate_series(1, 3) AS i;
CREATE VIEW app.counted AS SELECT name, count(*) AS n FROM app.things GROUP BY 1;
CREATE VIEW app.computed AS SELECT id, name, upper(name) AS loud FROM app.things;
CREATE MATERIALIZED VIEW app.frozen AS SELECT id, name FROM app.things;
RESET ROLE;
CREATE TEMP TABLE passing (id integer, name text);
CREATE TABLE writers (relation text, columns jsonb, changed_column text, says text);
INSERT INTO writers VALUES
    ('app.things',                     '{"name": "name", "u_n": "n"}',                              'changed', NULL),
    ('app.things',                     '{"name": {"column": "name", "value": "upper(value) -- loud"}}', NULL,  NULL),
    ('app.computed',                   '{"name": "name"}',                                          NULL,      NULL),
    ('itsm.integration_connections',   '{"name": "name"}',                                          NULL,      'itsm.integration_connections holds no records of yours'),
    ('pgsync_itsm.integration_secrets', '{"name": "purpose"}',                                      NULL,      'pgsync_itsm.integration_secrets holds no records of yours'),
    ('pg_catalog.pg_class',            '{"name": "relname"}',                                       NULL,      'pg_catalog.pg_class holds no records of yours'),
    ('pg_class',                       '{"name": "relname"}',                                       NULL,      'pg_class holds no records of yours'),
    ('pg_temp.passing',                '{"name": "name"}',                                          NULL,      'pg_temp.passing is temporary'),
    ('app.frozen',                     '{"name": "name"}',                                          NULL,      'there is no table or view app.frozen'),
    ('app.counted',                    '{"name": "name"}',                                          NULL,      'view app.counted cannot be updated'),
    ('app.computed',                   '{"name": "loud"}',                                          NULL,      'the column for name: column "loud" of app.computed cannot be written'),
    ('app.things',                     '{"u_n": "twice"}',                                          NULL,      'the column for u_n: column "twice" of app.things cannot be written'),
    ('app.things',                     '{"u_n": "number"}',                                         NULL,      'the column for u_n: column "number" of app.things cannot be written'),
    ('app.things',                     '{"name": "name"}',                                          'said',    'changed_column: column "said" of app.things is no time'),
    ('app.things',                     '{"name": {"column": "name", "value": "upper(valu)"}}',      NULL,      'the column for name: column "valu" does not exist'),
    ('app.things',                     '{"name": {"column": "name", "value": "nothing(value)"}}',   NULL,      'the column for name: function nothing(text) does not exist'),
    ('app.things',                     '{"name": {"column": "day", "value": "length(value)"}}',     NULL,      'the column for name: cannot cast type integer to date'),
    ('app.things',                     '{"name": {"column": "name", "value": "(SELECT s.sealed FROM pgsync_itsm.integration_secrets AS s)"}}', NULL, 'permission denied for schema pgsync_itsm'),
    ('app.things',                     '{"name": {"column": "name", "value": "value)::text, said = (value"}}', NULL, 'syntax error at or near ")"');
CREATE FUNCTION set_writer(relation text, columns jsonb, changed_column text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM itsm.itsm_set_writer('00000000-0000-4000-8000-000000000001', 'application', relation, CASE WHEN relation LIKE '%pg_class' THEN 'oid' WHEN relation LIKE '%counted' THEN 'name' ELSE 'id' END, columns, changed_column);
    RETURN NULL;
EXCEPTION WHEN others THEN
    RETURN SQLERRM;
END
$$;
SELECT w.relation, w.columns, w.says, s.said FROM writers AS w, LATERAL set_writer(w.relation, w.columns, w.changed_column) AS s(said) WHERE s.said IS DISTINCT FROM w.says;
SELECT count(*) AS writers, count(says) AS refused FROM writers;

-- Keys and values -------------------------------------------------------------------------------------

SELECT itsm_set_writer(:acme, 'application', 'app.things', 'id', '{"name": "name", "u_note": "note", "u_filled": "filled", "u_day": "day", "u_needed": "needed", "u_n": "n", "u_loud": {"column": "name", "value": "upper(value) -- loud"}}');
CREATE FUNCTION write(field text, value text, key text DEFAULT 'aaaaaaaa-0000-4000-8000-000000000001', before text DEFAULT NULL, entity_type text DEFAULT 'application')
RETURNS TABLE (ok boolean, reason text, as_before boolean) LANGUAGE plpgsql AS $$
DECLARE
    was text := concat_ws(' ', current_user, current_setting('search_path'), current_setting('transaction_read_only'), current_setting('work_mem'), current_setting('statement_timeout'));
BEGIN
    SELECT t.ok, t.reason INTO ok, reason
      FROM pgsync_itsm.try_write('00000000-0000-4000-8000-000000000001', entity_type, key, ARRAY[field], ARRAY[value], CASE WHEN before IS NOT NULL THEN ARRAY[before] END) AS t;
    as_before := was = concat_ws(' ', current_user, current_setting('search_path'), current_setting('transaction_read_only'), current_setting('work_mem'), current_setting('statement_timeout'));
    RETURN NEXT;
END
$$;
-- what is empty there: NULL, and where that is refused an empty text
SELECT f.field, w.* FROM unnest(ARRAY['name', 'u_note', 'u_filled', 'u_day', 'u_needed', 'u_n']) AS f(field), LATERAL write(f.field, NULL) AS w;
SELECT name, note, filled, day, needed, n FROM app.things WHERE id = 'aaaaaaaa-0000-4000-8000-000000000001';
SELECT * FROM write('u_loud', 'quiet');
-- keys that are none of the column's type, a key of ten digits, one with a quote
SELECT key FROM pgsync_itsm.changed_here(:acme, 'application', ARRAY['no uuid', '', 'AAAAAAAA-0000-4000-8000-000000000002', NULL, '1']);
CREATE TABLE app.numbered (id integer PRIMARY KEY, name text);
CREATE TABLE app.named (id varchar(20) PRIMARY KEY, name text);
CREATE TABLE app.decimal (id numeric PRIMARY KEY, name text);
INSERT INTO app.numbered VALUES (1, 'one'), (2000000000, 'many');
INSERT INTO app.named VALUES ('O''Neill', 'quote'), ('1', 'one');
INSERT INTO app.decimal VALUES (1.50, 'one and a half');
GRANT SELECT, UPDATE ON app.numbered, app.named, app.decimal TO regress_itsm_odd;
CREATE FUNCTION found(relation text) RETURNS text[] LANGUAGE plpgsql AS $$
BEGIN
    PERFORM itsm.itsm_set_writer('00000000-0000-4000-8000-000000000001', 'it_service', relation, 'id', '{"name": "name"}');
    RETURN ARRAY(SELECT c.key FROM pgsync_itsm.changed_here('00000000-0000-4000-8000-000000000001', 'it_service', ARRAY['1', '2000000000', '99999999999999999999', 'O''Neill', '1.50', '']) AS c ORDER BY 1);
END
$$;
SELECT r.relation, found(r.relation) FROM unnest(ARRAY['app.numbered', 'app.named', 'app.decimal']) AS r(relation);
SELECT w.* FROM unnest(ARRAY['1.50', '2', 'x']) AS k(key), LATERAL write('name', 'written', k.key, NULL, 'it_service') AS w;
SELECT name FROM app.decimal;

-- Tempers ---------------------------------------------------------------------------------------------

SET ROLE regress_itsm_odd;
CREATE TABLE app.moody (id integer PRIMARY KEY, name text, said text);
INSERT INTO app.moody VALUES (1, 'one'), (2, 'two');
CREATE TABLE app.log (what text, who name DEFAULT current_user);
CREATE FUNCTION app.attempt(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RETURN 'done as ' || current_user;
EXCEPTION WHEN query_canceled OR assert_failure OR others THEN
    RETURN SQLSTATE;
END $$;
CREATE FUNCTION app.temper() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO app.log VALUES (NEW.name);
    IF NEW.name LIKE 'raise %' THEN
        RAISE EXCEPTION USING ERRCODE = substr(NEW.name, 7), MESSAGE = repeat('words ', 1000), DETAIL = 'a secret';
    ELSIF NEW.name = 'nothing' THEN
        RETURN NULL;
    ELSIF NEW.name = 'assert' THEN
        ASSERT false, 'asserted';
    ELSIF NEW.name LIKE 'try %' THEN
        NEW.said := app.attempt(substr(NEW.name, 5));
    ELSIF NEW.name LIKE 'do %' THEN
        EXECUTE substr(NEW.name, 4);
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER temper BEFORE UPDATE OF name ON app.moody FOR EACH ROW EXECUTE FUNCTION app.temper();
RESET ROLE;
SELECT itsm_set_writer(:acme, 'contract', 'app.moody', 'id', '{"name": "name"}');
-- an error is data, whatever it says it is: no cancellation, no assertion, no end of the process
SELECT s AS state, w.ok, left(w.reason, 12) AS words, right(w.reason, 7) AS said, length(w.reason), w.as_before
  FROM unnest('{P0001,22012,P0004,57014,57P01,57P02,XX001,40001,40P01,42501,02000}'::text[]) AS s, LATERAL write('name', 'raise ' || s, '1', NULL, 'contract') AS w;
SELECT w.* FROM unnest(ARRAY['assert', 'do INSERT INTO log VALUES (1)']) AS n(name), LATERAL write('name', n.name, '1', NULL, 'contract') AS w;
-- what leaves the row alone, with and without knowing what it held; a row that is not there; one that was changed
SELECT w.* FROM (VALUES ('1', NULL), ('1', 'one'), ('1', 'other'), ('3', NULL), ('3', 'one')) AS v(key, before), LATERAL write('name', 'nothing', v.key, v.before, 'contract') AS w;
SELECT count(*) AS left_behind FROM app.log;
-- what else a trigger tries
CREATE FUNCTION tries(statement text) RETURNS TABLE (ok boolean, reason text, as_before boolean, said text) LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT w.ok, w.reason, w.as_before, NULL::text FROM public.write('name', 'try ' || statement, '2', NULL, 'contract') AS w;
    RETURN QUERY SELECT NULL::boolean, NULL::text, NULL::boolean, m.said FROM app.moody AS m WHERE m.id = 2;
END
$$;
SELECT t.n, bool_and(w.ok) AS ok, bool_and(w.as_before) AS as_before, max(w.said) AS said, t.statement
  FROM (VALUES (1, 'SET ROLE postgres'), (2, 'RESET ROLE'), (3, 'SET SESSION AUTHORIZATION postgres'), (4, 'RESET SESSION AUTHORIZATION'), (5, 'SELECT set_config(''role'', ''postgres'', false)'),
               (6, 'COMMIT'), (7, 'ROLLBACK'), (8, 'SELECT sealed FROM pgsync_itsm.integration_secrets'), (9, 'UPDATE itsm.integration_runs SET status = ''done'''), (10, 'CREATE TEMP TABLE t ()'),
               (11, 'DECLARE c CURSOR WITH HOLD FOR SELECT 1'), (12, 'LISTEN x'), (13, 'PREPARE p AS SELECT 1'), (14, 'SELECT set_config(''exit_on_error'', ''on'', false)'),
               (15, 'SELECT set_config(''search_path'', ''app'', false), set_config(''statement_timeout'', ''1'', false), set_config(''work_mem'', ''64'', false), set_config(''transaction_read_only'', ''on'', false)'),
               (16, 'SET CONSTRAINTS ALL DEFERRED'), (17, 'SELECT pg_read_file(''/etc/passwd'')'), (18, 'UPDATE app.moody SET said = ''itself'' WHERE id = 1'), (19, 'SELECT pg_terminate_backend(pg_backend_pid())')) AS t(n, statement)
 CROSS JOIN LATERAL tries(t.statement) AS w GROUP BY t.n, t.statement ORDER BY t.n;
-- a trigger that writes to the row itself: before, which is refused, and after, which is not
SELECT w.ok, w.reason FROM write('name', 'do UPDATE app.moody SET said = ''itself'' WHERE id = 1', '1', NULL, 'contract') AS w;
SET ROLE regress_itsm_odd;
CREATE FUNCTION app.again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE app.moody SET said = 'after ' || NEW.name WHERE id = NEW.id; RETURN NULL; END $$;
CREATE TRIGGER again AFTER UPDATE OF name ON app.moody FOR EACH ROW EXECUTE FUNCTION app.again();
RESET ROLE;
SELECT w.ok, w.reason FROM write('name', 'twice', '1', NULL, 'contract') AS w;
SELECT name, said FROM app.moody WHERE id = 1;
-- nobody writes in the name of another while he is being written to, or read
GRANT USAGE ON SCHEMA itsm, pgsync_itsm TO regress_itsm_odd;
GRANT EXECUTE ON FUNCTION pgsync_itsm.write_record(uuid, text, text, text[], text[], text[]) TO regress_itsm_odd;
SELECT w.* FROM write('name', 'do SELECT pgsync_itsm.write_record(''00000000-0000-4000-8000-000000000001'', ''it_service'', ''1'', ''{name}'', ''{x}'')', '1', NULL, 'contract') AS w;

-- Policies, rules, and what waits for the end of the transaction -----------------------------------------

CREATE TABLE app.late (id integer PRIMARY KEY, name text UNIQUE DEFERRABLE INITIALLY DEFERRED, boss integer REFERENCES app.late DEFERRABLE INITIALLY DEFERRED);
INSERT INTO app.late VALUES (1, 'one'), (2, 'two');
GRANT SELECT, UPDATE ON app.late TO regress_itsm_odd;
SELECT itsm_set_writer(:acme, 'company', 'app.late', 'id', '{"name": "name", "vendor": "boss"}');
SELECT w.* FROM (VALUES ('name', 'two'), ('vendor', '99'), ('vendor', '2')) AS v(field, value), LATERAL write(v.field, v.value, '1', NULL, 'company') AS w;
SELECT * FROM app.late ORDER BY id;
SET ROLE regress_itsm_odd;
CREATE TABLE app.kept (id integer PRIMARY KEY, name text);
INSERT INTO app.kept VALUES (1, 'one'), (2, 'two');
CREATE VIEW app.ruled AS SELECT id, name FROM app.kept;
CREATE RULE nothing AS ON UPDATE TO app.ruled DO INSTEAD NOTHING;
CREATE VIEW app.checked AS SELECT id, name FROM app.kept WHERE name <> 'hidden' WITH CHECK OPTION;
ALTER TABLE app.kept ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY see ON app.kept FOR SELECT USING (true);
CREATE POLICY change ON app.kept FOR UPDATE USING (id = 1) WITH CHECK (name <> 'forbidden');
RESET ROLE;
SELECT itsm_set_writer(:acme, 'contact', 'app.kept', 'id', '{"name": "name"}'), itsm_set_writer(:acme, 'deployment_profile', 'app.ruled', 'id', '{"name": "name"}'),
       itsm_set_writer(:acme, 'software_product', 'app.checked', 'id', '{"name": "name"}');
SELECT v.*, w.* FROM (VALUES ('contact', '1', 'changed', 'one'), ('contact', '2', 'changed', 'two'), ('contact', '2', 'changed', NULL), ('contact', '1', 'forbidden', NULL),
        ('deployment_profile', '1', 'more', 'changed'), ('deployment_profile', '1', 'more', NULL), ('software_product', '1', 'hidden', NULL), ('software_product', '1', 'shown', NULL)) AS v(entity_type, key, value, before),
    LATERAL write('name', v.value, v.key, v.before, v.entity_type) AS w;
SELECT * FROM app.kept ORDER BY id;

-- A writer that is broken says so of the records that it concerns, and keeps nobody else's from being read.
DROP TABLE app.late;
INSERT INTO integration_runs (namespace_id, connection_id, kind, status) SELECT namespace_id, id, 'subscribe', 'planning' FROM integration_connections;
INSERT INTO pgsync_itsm.run_keys (run_id, entity_type, match_by, key) SELECT r.id, v.entity_type, 'key', '1' FROM integration_runs AS r, (VALUES ('company'), ('contact'), ('contract')) AS v(entity_type);
SELECT pgsync_itsm.merge_look(r) FROM integration_runs AS r;
SELECT entity_type, key, columns FROM pgsync_itsm.merge_before ORDER BY 1;
SELECT * FROM write('name', 'x', '1', NULL, 'company');

\c :main
SET client_min_messages = warning;
DROP DATABASE regress_itsm_odd;
DROP ROLE regress_itsm_odd;
