-- Writing into tables of the user's: with whose rights, of which types, and what a table may have against it.
\set SHOW_CONTEXT never
\set VERBOSITY terse
SELECT current_database() AS main \gset
SET client_min_messages = warning;
DROP DATABASE IF EXISTS regress_itsm_writers;
CREATE DATABASE regress_itsm_writers TEMPLATE template0;
\c regress_itsm_writers
SET client_min_messages = warning;
CREATE ROLE regress_itsm_writer;
CREATE SCHEMA itsm;
CREATE EXTENSION pgsync_itsm SCHEMA itsm;
SET client_min_messages = notice;
SET search_path = public, itsm;
\set acme '''00000000-0000-4000-8000-000000000001'''
\set ns '''11111111-1111-4111-8111-111111111111'''
INSERT INTO integration_connections (id, namespace_id, platform, instance_url, owner, session_settings)
VALUES (:acme, :ns, 'servicenow', 'https://acme.service-now.com', 'regress_itsm_writer', '{"app.tenant": "city"}');

CREATE TYPE public.colour AS ENUM ('red', 'green');
CREATE DOMAIN public.short AS varchar(10) CHECK (VALUE <> 'no');
CREATE TABLE public.thing (id uuid PRIMARY KEY, name text NOT NULL, title varchar(12), colour colour, short short, ok boolean, day date, cost numeric(8,2),
    ref uuid, rank integer NOT NULL DEFAULT 0, changed timestamptz DEFAULT '2026-01-01', who text);
INSERT INTO public.thing (id, name) SELECT ('aaaaaaaa-0000-4000-8000-00000000000' || n)::uuid, 'thing ' || n FROM generate_series(1, 3) AS n;
GRANT SELECT, UPDATE ON public.thing TO regress_itsm_writer;
CREATE FUNCTION public.noted() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.who := current_user || ' ' || current_setting('app.tenant', true) || ' ' || current_setting('search_path'); RETURN NEW; END $$;
CREATE TRIGGER noted BEFORE UPDATE ON public.thing FOR EACH ROW EXECUTE FUNCTION public.noted();
\set one '''aaaaaaaa-0000-4000-8000-000000000001'''
\set two '''aaaaaaaa-0000-4000-8000-000000000002'''

-- no writer yet
SELECT * FROM pgsync_itsm.try_write(:acme, 'application', :one, '{name}', '{new}');
-- what is no writer
SELECT itsm_set_writer(:acme, 'application', 'public.nothing', 'id', '{"name": "name"}');
SELECT itsm_set_writer(:acme, 'application', 'public.thing', 'key', '{"name": "name"}');
SELECT itsm_set_writer(:acme, 'application', 'public.thing', 'id', '{"name": "nom"}');
SELECT itsm_set_writer(:acme, 'application', 'public.thing', 'id', '{"name": "name"}', 'changed_at');
SELECT itsm_set_writer(:acme, 'application', 'public.thing', 'id', '{}');
SELECT itsm_set_writer(:acme, 'application', 'public.thing', 'id', '["name"]');
SELECT itsm_set_writer(:acme, 'application', 'public.thing', 'id', '{"name": {"column": "name", "value": "value) FROM x; DROP TABLE y"}}');
SELECT itsm_set_writer(:acme, 'application', 'public.thing', 'id', '{"name": {"value": "upper(value)"}}');
SELECT itsm_set_writer(:acme, 'nothing', 'public.thing', 'id', '{"name": "name"}');
SELECT itsm_set_writer('00000000-0000-4000-8000-0000000000ff', 'application', 'public.thing', 'id', '{"name": "name"}');
SELECT itsm_set_writer(:acme, 'application', 'public.thing', 'id',
    '{"name": "name", "title": "title", "colour": "colour", "short": "short", "ok": "ok", "day": "day", "cost": "cost", "ref": "ref", "rank": "rank",
      "shout": {"column": "name", "value": "upper(value) || ''!''"}}', 'changed');
SELECT entity_type, relation, key_column, changed_column FROM integration_writers;

-- each type, as the owner, under its settings, and nothing of that stays
SELECT * FROM pgsync_itsm.try_write(:acme, 'application', :one, '{name,title,colour,short,ok,day,cost,ref}',
    ARRAY['Zoë 🌳', 'twelve chars', 'green', 'short', 'true', '2026-01-31', '1234.567', :two]);
SELECT name, title, colour, short, ok, day, cost, ref = :two AS ref, who FROM public.thing WHERE id = :one;
SELECT current_user = session_user AS same, current_setting('app.tenant', true) AS tenant, current_setting('transaction_read_only') AS read_only, current_setting('search_path') AS path;
SELECT * FROM pgsync_itsm.try_write(:acme, 'application', :one, '{shout,title,ref}', ARRAY['quiet', NULL, NULL]);
SELECT name, title, ref FROM public.thing WHERE id = :one;
SELECT * FROM pgsync_itsm.changed_here(:acme, 'application', ARRAY[:one, :two, 'aaaaaaaa-0000-4000-8000-0000000000ff']) ORDER BY key;

-- only what is still there is written over; what is NULL is that
SELECT * FROM pgsync_itsm.try_write(:acme, 'application', :one, '{name,title}', '{again,title}', ARRAY['QUIET!', NULL]);
SELECT * FROM pgsync_itsm.try_write(:acme, 'application', :one, '{name,title}', '{once more,title}', ARRAY['again', NULL]);
SELECT name, title FROM public.thing WHERE id = :one;
-- what a table refuses is an answer; nothing was written, not the other fields either
SELECT f.field, f.value, w.* FROM (VALUES ('title', 'longer than twelve'), ('colour', 'blue'), ('short', 'no'), ('short', 'more than ten'), ('ok', 'perhaps'), ('day', '2026-02-30'),
        ('cost', '12345678.9'), ('ref', 'no uuid'), ('rank', NULL)) AS f(field, value),
    LATERAL pgsync_itsm.try_write(:acme, 'application', :two, ARRAY['shout', f.field], ARRAY['half', f.value]) AS w;
SELECT name, who FROM public.thing WHERE id = :two;
SELECT * FROM pgsync_itsm.try_write(:acme, 'application', 'aaaaaaaa-0000-4000-8000-0000000000ff', '{name}', '{new}');
SELECT * FROM pgsync_itsm.try_write(:acme, 'application', 'no uuid', '{name}', '{new}');
SELECT * FROM pgsync_itsm.try_write(:acme, 'application', :two, '{colour,nothing}', '{red,new}');
SELECT * FROM pgsync_itsm.try_write(:acme, 'application', NULL, '{name}', '{new}');
SELECT * FROM pgsync_itsm.try_write('00000000-0000-4000-8000-0000000000ff', 'application', :one, '{name}', '{new}');

-- rights, policies, several rows
REVOKE UPDATE ON public.thing FROM regress_itsm_writer;
GRANT UPDATE (name, who) ON public.thing TO regress_itsm_writer;
SELECT * FROM pgsync_itsm.try_write(:acme, 'application', :two, '{title}', '{new}');
ALTER TABLE public.thing ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON public.thing USING (id <> :two::uuid) WITH CHECK (name <> 'forbidden');
SELECT * FROM pgsync_itsm.try_write(:acme, 'application', :two, '{name}', '{new}');
SELECT * FROM pgsync_itsm.try_write(:acme, 'application', :one, '{name}', '{forbidden}');
SELECT * FROM pgsync_itsm.try_write(:acme, 'application', :one, '{name}', '{allowed}');
CREATE TABLE public.twice (id text, name text);
INSERT INTO public.twice VALUES ('x', 'a'), ('x', 'b');
GRANT SELECT, UPDATE ON public.twice TO regress_itsm_writer;
SELECT itsm_set_writer(:acme, 'it_service', 'public.twice', 'id', '{"name": "name"}');
SELECT * FROM pgsync_itsm.try_write(:acme, 'it_service', 'x', '{name}', '{new}');
SELECT * FROM public.twice;
SELECT * FROM pgsync_itsm.changed_here(:acme, 'it_service', '{x}');

-- a view with a trigger of its own; a partitioned table
CREATE VIEW public.shown AS SELECT id, name FROM public.thing;
CREATE FUNCTION public.instead() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE public.thing SET name = NEW.name WHERE id = NEW.id; RETURN NEW; END $$;
CREATE TRIGGER instead INSTEAD OF UPDATE ON public.shown FOR EACH ROW EXECUTE FUNCTION public.instead();
GRANT SELECT, UPDATE ON public.shown TO regress_itsm_writer;
SELECT itsm_set_writer(:acme, 'deployment_profile', 'public.shown', 'id', '{"name": "name"}');
SELECT * FROM pgsync_itsm.try_write(:acme, 'deployment_profile', :one, '{name}', '{through a view}');
CREATE TABLE public.parts (id integer, name text) PARTITION BY RANGE (id);
CREATE TABLE public.parts_1 PARTITION OF public.parts FOR VALUES FROM (0) TO (10);
INSERT INTO public.parts VALUES (1, 'one');
GRANT SELECT, UPDATE ON public.parts TO regress_itsm_writer;
SELECT itsm_set_writer(:acme, 'software_product', 'public.parts', 'id', '{"name": "name"}');
SELECT * FROM pgsync_itsm.try_write(:acme, 'software_product', '1', '{name}', '{in a part}');
SELECT name FROM public.thing WHERE id = :one UNION ALL SELECT name FROM public.parts;

-- what is put off until commit happens at once, with the owner's rights; what is forbidden to the owner stays forbidden
CREATE TABLE public.told (who text, what text);
GRANT INSERT, SELECT ON public.told TO regress_itsm_writer;
CREATE FUNCTION public.late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.told VALUES (current_user, NEW.name); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON public.twice DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.late();
DELETE FROM public.twice WHERE name = 'b';
ALTER TABLE public.twice ADD more char(5);
SELECT * FROM pgsync_itsm.try_write(:acme, 'it_service', 'x', '{name}', '{put off}');
SELECT * FROM public.told;
CREATE FUNCTION public.bad() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN EXECUTE NEW.name; RETURN NEW; END $$;
CREATE TRIGGER bad BEFORE UPDATE ON public.twice FOR EACH ROW EXECUTE FUNCTION public.bad();
SELECT s.statement, w.ok, w.reason FROM unnest(ARRAY['SET ROLE postgres', 'RESET ROLE', 'SELECT count(*) FROM pgsync_itsm.integration_secrets',
        'UPDATE itsm.integration_connections SET owner = ''postgres''', 'CREATE TEMP TABLE x (y integer)', 'SELECT pg_read_file(''postgresql.conf'')',
        'SELECT pgsync_itsm.write_record(NULL, NULL, NULL, NULL, NULL)', 'SET exit_on_error = on']) AS s(statement),
    LATERAL pgsync_itsm.try_write(:acme, 'it_service', 'x', '{name}', ARRAY[s.statement]) AS w;
SELECT current_user = session_user AS same, current_setting('transaction_read_only') AS read_only;

-- characters, which have a length of their own
DROP TRIGGER bad ON public.twice;
SELECT itsm_set_writer(:acme, 'it_service', 'public.twice', 'id', '{"more": "more"}');
SELECT w.* FROM unnest(ARRAY['five5', 'six666']) AS v(value), LATERAL pgsync_itsm.try_write(:acme, 'it_service', 'x', '{more}', ARRAY[v.value]) AS w;
SELECT more FROM public.twice;

-- whose rights: a member of the owner, and nobody else
CREATE ROLE regress_itsm_other;
GRANT USAGE ON SCHEMA pgsync_itsm, itsm TO regress_itsm_other;
GRANT EXECUTE ON FUNCTION pgsync_itsm.write_record(uuid, text, text, text[], text[], text[]) TO regress_itsm_other;
SET ROLE regress_itsm_other;
SELECT pgsync_itsm.write_record(:acme, 'software_product', '1', '{name}', '{stolen}');
RESET ROLE;
SELECT name FROM public.parts;

-- a table that is gone; taken back; all connections'
DROP TABLE public.parts;
SELECT * FROM pgsync_itsm.try_write(:acme, 'software_product', '1', '{name}', '{new}');
SELECT itsm_set_writer(:acme, 'software_product', NULL, NULL, NULL);
SELECT itsm_set_writer(NULL, 'software_product', 'public.twice', 'id', '{"name": "name"}');
SELECT pgsync_itsm.is_written(:acme, 'software_product', 'name') AS name, pgsync_itsm.is_written(:acme, 'software_product', 'version') AS version;
SET ROLE regress_itsm_other;
SELECT itsm_set_writer(NULL, 'software_product', NULL, NULL, NULL);
RESET ROLE;

\c :main
SET client_min_messages = warning;
DROP DATABASE regress_itsm_writers;
DROP ROLE regress_itsm_writer, regress_itsm_other;
