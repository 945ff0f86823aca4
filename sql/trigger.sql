-- The trigger of watched tables, the queue, and what becomes of it.
\set SHOW_CONTEXT never
SELECT current_database() AS main \gset
SET client_min_messages = warning;
DROP DATABASE IF EXISTS regress_itsm_trigger;
CREATE DATABASE regress_itsm_trigger TEMPLATE template0;
\c regress_itsm_trigger
CREATE SCHEMA itsm;
SET client_min_messages = warning;
CREATE EXTENSION pgsync_itsm SCHEMA itsm;
SET client_min_messages = notice;
SET search_path = public, itsm;

-- takes what is queued and shows it
CREATE FUNCTION itsm.drain() RETURNS TABLE (relation regclass, op "char", key_column text, keys text[], namespace text)
LANGUAGE sql AS $$
    WITH gone AS (DELETE FROM itsm.integration_queue AS q RETURNING q.*)
    SELECT g.relation::regclass, g.op, g.key_column, g.keys, left(g.namespace_id::text, 4) FROM gone AS g ORDER BY g.id
$$;

CREATE TABLE app (id integer PRIMARY KEY, name text, note text, touched timestamptz, big text);
CREATE TABLE link (app_id integer, service text, vendor text, reference text);
SELECT itsm_watch('app', 'application', 'id', columns => '{name,big}');
SELECT itsm_watch('link', 'depends_on', 'app_id', 'parent');
SELECT itsm_watch('link', 'contract', 'vendor/reference');
SELECT relation, entity_type, key_column, match_by, owns_key, columns, origin FROM integration_watches ORDER BY 1, 2;
SELECT tgrelid::regclass, tgname, tgenabled, encode(tgargs, 'escape') AS arguments,
       (SELECT e.extname FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
         WHERE d.objid = t.oid AND d.classid = 'pg_trigger'::regclass AND d.deptype = 'x') AS goes_with
  FROM pg_trigger AS t WHERE tgname LIKE 'pgsync%' ORDER BY 1, 2;

-- nobody follows changes: nothing is queued
INSERT INTO app VALUES (1, 'one'), (2, 'two');
DELETE FROM app WHERE id = 2;
SELECT * FROM itsm.drain();

-- Connections that do not follow changes, active or not: of what is deleted, the keys that are the table's own, and nothing else.
INSERT INTO integration_connections (namespace_id, platform, instance_url, name)
VALUES ('33333333-3333-4333-8333-333333333333', 'servicenow', 'https://acme.service-now.com', 'by hand');
INSERT INTO app VALUES (2, 'two'), (3, 'three'), (4, 'four'), (5, 'five');
INSERT INTO link VALUES (2, 'db', 'v1', 'r1');
UPDATE app SET name = name || '!';
DELETE FROM link;
INSERT INTO link VALUES (2, 'db', 'v1', 'r1');
TRUNCATE link;
SELECT * FROM itsm.drain();
DELETE FROM app WHERE id IN (2, 3);
UPDATE app SET id = 50 WHERE id = 5;
SELECT * FROM itsm.drain();
BEGIN;
INSERT INTO app VALUES (6, 'six');
UPDATE app SET name = 'not told' WHERE id = 1;
SAVEPOINT a;
DELETE FROM app WHERE id = 50;
ROLLBACK TO a;
DELETE FROM app WHERE id = 6;
INSERT INTO app VALUES (6, 'again');
COMMIT;
SELECT * FROM itsm.drain();
BEGIN;
DELETE FROM app WHERE id = 6;
ROLLBACK;
SELECT * FROM itsm.drain();
BEGIN;
DELETE FROM app WHERE id = 6;
PREPARE TRANSACTION 'regress_itsm';
SELECT * FROM itsm.drain();
COMMIT PREPARED 'regress_itsm';
SELECT * FROM itsm.drain();
-- the primary key goes, and comes back
ALTER TABLE app DROP CONSTRAINT app_pkey;
DELETE FROM app WHERE id = 4;
SELECT * FROM itsm.drain();
ALTER TABLE app ADD PRIMARY KEY (id) DEFERRABLE;
DELETE FROM app WHERE id = 50;
SELECT * FROM itsm.drain();
-- namespaces: 1111 follows, 3333 has a connection that does not, 4444 has none
INSERT INTO integration_connections (namespace_id, platform, instance_url, sync_schedule)
VALUES ('11111111-1111-4111-8111-111111111111', 'servicenow', 'https://acme.service-now.com', 'on_change');
CREATE TABLE spaced (id integer PRIMARY KEY, owner integer, namespace_id uuid);
CREATE TRIGGER spaced AFTER INSERT OR UPDATE OR DELETE ON spaced FOR EACH ROW EXECUTE FUNCTION pgsync_itsm.queue_change('@namespace_id', 'id', 'owner');
INSERT INTO spaced SELECT n, n * 10, k::uuid
  FROM (VALUES (1, '11111111-1111-4111-8111-111111111111'), (2, '33333333-3333-4333-8333-333333333333'), (3, '44444444-4444-4444-8444-444444444444')) AS v(n, k);
SELECT * FROM itsm.drain();
UPDATE spaced SET owner = owner + 1;
SELECT * FROM itsm.drain();
UPDATE spaced SET id = id + 100;
SELECT * FROM itsm.drain();
DELETE FROM spaced;
SELECT * FROM itsm.drain();
DROP TABLE spaced;
DELETE FROM integration_connections;
DELETE FROM app WHERE id <> 1;
UPDATE app SET name = 'one';
ALTER TABLE app DROP CONSTRAINT app_pkey, ADD PRIMARY KEY (id);
INSERT INTO app VALUES (2, 'two');
SELECT * FROM itsm.drain();
INSERT INTO integration_connections (id, namespace_id, platform, instance_url, sync_schedule, name)
VALUES ('00000000-0000-4000-8000-000000000001', '11111111-1111-4111-8111-111111111111', 'servicenow', 'https://acme.service-now.com', 'on_change', 'a'),
       ('00000000-0000-4000-8000-000000000002', '22222222-2222-4222-8222-222222222222', 'servicenow', 'https://acme.service-now.com', 'on_change', 'b'),
       ('00000000-0000-4000-8000-000000000003', '11111111-1111-4111-8111-111111111111', 'servicenow', 'https://acme.service-now.com', 'manual', 'c');

-- rows that come, change and go; only what is watched, each key once
INSERT INTO app VALUES (3, 'three');
SELECT * FROM itsm.drain();
BEGIN;
UPDATE app SET name = name || '!' WHERE id IN (1, 3);
UPDATE app SET name = name || '!' WHERE id IN (1, 2);
UPDATE app SET note = 'unwatched', touched = now() WHERE id = 3;
COMMIT;
SELECT * FROM itsm.drain();
UPDATE app SET name = name, touched = now();
UPDATE app SET note = 'unwatched';
SELECT * FROM itsm.drain();
UPDATE app SET name = NULL WHERE id = 1;
UPDATE app SET name = NULL WHERE id = 1;
SELECT * FROM itsm.drain();
DELETE FROM app WHERE id = 2;
UPDATE app SET id = 30 WHERE id = 3;
SELECT * FROM itsm.drain();
-- values that are stored out of line
UPDATE app SET big = (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 1000) AS i) WHERE id = 30;
SELECT * FROM itsm.drain();
UPDATE app SET note = 'unwatched' WHERE id = 30;
SELECT * FROM itsm.drain();

-- links: both ends of a move; two columns as one key, without the blanks around them; no key, no change
INSERT INTO link VALUES (1, 'db', 'v1', ' r/1 '), (1, 'web', NULL, 'r2'), (2, 'db', 'v2', NULL), (NULL, 'db', NULL, NULL);
SELECT * FROM itsm.drain();
UPDATE link SET app_id = 2 WHERE app_id = 1 AND service = 'db';
SELECT * FROM itsm.drain();
UPDATE link SET reference = 'r3' WHERE service = 'web';
SELECT * FROM itsm.drain();
DELETE FROM link WHERE app_id = 2;
SELECT * FROM itsm.drain();

-- what is rolled back is not queued; of a savepoint it may be
BEGIN;
UPDATE app SET name = 'gone';
ROLLBACK;
SELECT * FROM itsm.drain();
BEGIN;
UPDATE app SET name = 'kept' WHERE id = 1;
SAVEPOINT a;
UPDATE app SET name = 'undone' WHERE id IN (1, 30);
ROLLBACK TO a;
SAVEPOINT b;
INSERT INTO app VALUES (4, 'four');
RELEASE b;
COMMIT;
SELECT * FROM itsm.drain();
BEGIN;
SAVEPOINT a;
UPDATE app SET name = 'first seen in a savepoint' WHERE id = 1;
ROLLBACK TO a;
UPDATE app SET name = 'and then outside' WHERE id = 4;
COMMIT;
SELECT * FROM itsm.drain();
DO $$ BEGIN
    UPDATE app SET name = 'x' WHERE id = 1;
    BEGIN
        UPDATE app SET name = 'y' WHERE id = 4;
        RAISE division_by_zero;
    EXCEPTION WHEN division_by_zero THEN
        UPDATE app SET name = 'z' WHERE id = 30;
    END;
END $$;
SELECT * FROM itsm.drain();

-- two-phase commit
BEGIN;
UPDATE app SET name = 'prepared' WHERE id = 1;
PREPARE TRANSACTION 'regress_itsm';
SELECT * FROM itsm.drain();
COMMIT PREPARED 'regress_itsm';
SELECT * FROM itsm.drain();
BEGIN;
UPDATE app SET name = 'prepared in vain' WHERE id = 1;
PREPARE TRANSACTION 'regress_itsm';
ROLLBACK PREPARED 'regress_itsm';
SELECT * FROM itsm.drain();

-- a procedure that commits; changes made while committing
CREATE PROCEDURE steps() LANGUAGE plpgsql AS $$ BEGIN
    FOR i IN 11..13 LOOP
        INSERT INTO app VALUES (i, 'step');
        IF i = 12 THEN ROLLBACK; ELSE COMMIT; END IF;
    END LOOP;
END $$;
CALL steps();
SELECT * FROM itsm.drain();
CREATE TABLE early (id integer);
CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE app SET name = 'late' WHERE id = NEW.id; RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON early DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late();
BEGIN;
INSERT INTO early VALUES (11);
SELECT * FROM itsm.drain();
COMMIT;
SELECT * FROM itsm.drain();

-- COPY, INSERT ON CONFLICT, MERGE, the replica role, a role without any right to the queue
COPY app (id, name) FROM stdin;
101	copied
102	copied too
\.
SELECT * FROM itsm.drain();
INSERT INTO app (id, name) VALUES (101, 'again'), (103, 'new') ON CONFLICT (id) DO UPDATE SET name = excluded.name;
SELECT * FROM itsm.drain();
MERGE INTO app USING (VALUES (101), (104)) AS v(id) ON app.id = v.id WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (id) VALUES (v.id);
SELECT * FROM itsm.drain();
SET session_replication_role = replica;
UPDATE app SET name = 'replicated' WHERE id = 102;
RESET session_replication_role;
SELECT * FROM itsm.drain();
CREATE ROLE regress_itsm_writer;
GRANT ALL ON app TO regress_itsm_writer;
SET ROLE regress_itsm_writer;
SET row_security = off;
UPDATE app SET name = 'by somebody' WHERE id = 102;
RESET row_security;
RESET ROLE;
SELECT * FROM itsm.drain();
SET default_transaction_isolation = 'serializable';
UPDATE app SET name = 'serialized' WHERE id = 102;
RESET default_transaction_isolation;
SELECT * FROM itsm.drain();

-- many keys: a thousand a row; too many: everything
BEGIN;
INSERT INTO app (id, name) SELECT i, 'bulk' FROM generate_series(100001, 102500) AS i;
UPDATE app SET name = 'bulk 2' WHERE id BETWEEN 100001 AND 102500;
COMMIT;
SELECT relation::regclass, op, cardinality(keys) AS keys FROM integration_queue ORDER BY id;
SELECT count(*), count(DISTINCT k) FROM itsm.drain() AS d, unnest(d.keys) AS k;
DELETE FROM app WHERE id > 100000;
SELECT relation, op, cardinality(keys) AS keys FROM itsm.drain();
INSERT INTO link (app_id) SELECT generate_series(1, 100001);
SELECT relation, op, key_column, cardinality(keys) AS keys FROM itsm.drain();
TRUNCATE link;
TRUNCATE link;
SELECT * FROM itsm.drain();

-- the table changes under the trigger: a watched column goes, a key column goes
BEGIN;
UPDATE app SET name = 'before' WHERE id = 1;
ALTER TABLE app DROP COLUMN note;
ALTER TABLE app ADD COLUMN more text;
UPDATE app SET more = 'x' WHERE id = 4;
UPDATE app SET name = 'after' WHERE id = 30;
COMMIT;
SELECT * FROM itsm.drain();
ALTER TABLE app DROP COLUMN big;
UPDATE app SET name = 'still' WHERE id = 1;
SELECT * FROM itsm.drain();
ALTER TABLE link RENAME COLUMN app_id TO application;
INSERT INTO link (application) VALUES (7);
SELECT * FROM itsm.drain();
ALTER TABLE link RENAME COLUMN application TO app_id;
INSERT INTO link (app_id) VALUES (7);
SELECT * FROM itsm.drain();

-- partitions, and tables whose rows do not say which records they concern
CREATE TABLE part (id integer, name text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (100);
CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM (100) TO (200);
SELECT itsm_watch('part', 'it_service', 'id');
INSERT INTO part VALUES (1, 'a'), (101, 'b');
UPDATE part SET id = 102 WHERE id = 1;
SELECT * FROM itsm.drain();
CREATE TABLE team (name text, motto text);
SELECT itsm_watch('team', 'application', '*', columns => '{name}');
INSERT INTO team VALUES ('blue');
UPDATE team SET motto = 'onward';
SELECT * FROM itsm.drain();
UPDATE team SET name = 'green';
SELECT * FROM itsm.drain();
CREATE TABLE flow (a integer, b integer, note text);
SELECT itsm_watch('flow', 'sends_data_to', '*');
INSERT INTO flow VALUES (1), (2);
DELETE FROM flow;
SELECT * FROM itsm.drain();
SELECT itsm_unwatch('flow');
SELECT itsm_watch('flow', 'sends_data_to', '*a/b', columns => '{a,b}'), itsm_watch('flow', 'sends_data_to', 'a', 'parent', '{a,b}');
INSERT INTO flow VALUES (1, 2), (3, NULL);
SELECT * FROM itsm.drain();
UPDATE flow SET note = 'x';
UPDATE flow SET b = 4 WHERE a = 3;
SELECT * FROM itsm.drain();
DELETE FROM flow WHERE a = 1;
SELECT * FROM itsm.drain();

-- watches that cannot work
SELECT itsm_watch('app', 'starship', 'id');
SELECT itsm_watch('app', 'application', 'identity');
SELECT itsm_watch('app', 'application', 'id/nothing');
SELECT itsm_watch('app', 'application', 'id', 'sibling');
SELECT itsm_watch('app', 'application', 'id', columns => '{colour}');
SELECT itsm_watch('app', 'application', NULL);
CREATE VIEW app_view AS SELECT * FROM app;
SELECT itsm_watch('app_view', 'application', 'id');
SELECT itsm_unwatch('early');
CREATE FUNCTION wrong() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER wrong BEFORE INSERT ON early FOR EACH ROW EXECUTE FUNCTION pgsync_itsm.queue_change('id');
INSERT INTO early VALUES (0);
DROP TRIGGER wrong ON early;

-- collecting: not before the debounce, then once, for the active connections that follow changes
CREATE FUNCTION itsm.show_keys() RETURNS TABLE (connection text, confirm boolean, entity_type text, match_by text, key text, deleted boolean)
LANGUAGE sql AS $$
    SELECT right(r.connection_id::text, 1), r.confirm, k.entity_type, k.match_by, k.key, k.deleted
      FROM itsm.integration_runs AS r JOIN pgsync_itsm.run_keys AS k ON k.run_id = r.id ORDER BY 1, 3, 4, 5
$$;
UPDATE integration_connections SET is_active = true WHERE name IN ('a', 'c');
UPDATE integration_connections SET first_publish_at = now() WHERE name = 'a';
SELECT pgsync_itsm.queue_due(), pgsync_itsm.collect();
UPDATE app SET name = 'collect me' WHERE id = 1;
DELETE FROM app WHERE id = 4;
INSERT INTO link VALUES (1, 'x', 'v', 'r');
INSERT INTO part VALUES (55, 'p');
UPDATE team SET name = 'red';
DELETE FROM link WHERE vendor = 'v';
SELECT pgsync_itsm.queue_due() > clock_timestamp() AS later, pgsync_itsm.collect() AS runs, count(*) AS queued FROM integration_queue;
UPDATE integration_queue SET at = at - interval '1 minute';
SELECT pgsync_itsm.collect() AS runs, (SELECT count(*) FROM integration_queue) AS queued_before;
SELECT count(*) AS queued FROM integration_queue;
SELECT * FROM itsm.show_keys();
SELECT kind, origin, status, partial, phase FROM integration_runs;
-- the next ones join the run that has not begun
UPDATE app SET name = 'again' WHERE id IN (1, 30);
DELETE FROM app WHERE id = 1;
UPDATE integration_queue SET at = at - interval '1 minute';
SELECT pgsync_itsm.collect() AS runs;
SELECT * FROM itsm.show_keys() WHERE entity_type = 'application';
UPDATE integration_runs SET status = 'planning';
INSERT INTO app (id) VALUES (77);
UPDATE integration_queue SET at = at - interval '1 minute';
SELECT pgsync_itsm.collect() AS runs;
SELECT status, count(*) FROM integration_runs GROUP BY 1 ORDER BY 1;
SELECT pgsync_itsm.collect() AS runs;
-- of which records cannot be said: planned in full
UPDATE integration_connections SET full_plan_after = NULL;
TRUNCATE link;
UPDATE integration_queue SET at = at - interval '1 minute';
SELECT pgsync_itsm.collect() AS runs;
SELECT name, full_plan_after IS NOT NULL AS in_full FROM integration_connections ORDER BY 1;
UPDATE integration_connections SET full_plan_after = NULL;
UPDATE app SET name = 'renamed' WHERE id = 30;
ALTER TABLE app RENAME TO application;
UPDATE integration_queue SET at = at - interval '1 minute';
SELECT pgsync_itsm.collect() AS runs;
SELECT name, full_plan_after IS NOT NULL AS in_full FROM integration_connections ORDER BY 1;
UPDATE integration_connections SET full_plan_after = NULL;
INSERT INTO flow VALUES (5, NULL);
UPDATE integration_queue SET at = at - interval '1 minute';
SELECT pgsync_itsm.collect() AS runs;
SELECT name, full_plan_after IS NOT NULL AS in_full FROM integration_connections ORDER BY 1;
SELECT * FROM itsm.show_keys() WHERE entity_type = 'sends_data_to';
-- known namespaces
INSERT INTO integration_queue (relation, op, key_column, keys, namespace_id, at)
VALUES ('part'::regclass, 'u', 'id', '{1}', '22222222-2222-4222-8222-222222222222', now() - interval '1 minute');
SELECT pgsync_itsm.collect() AS runs;
UPDATE integration_connections SET is_active = true WHERE name = 'b';
INSERT INTO integration_queue (relation, op, key_column, keys, namespace_id, at)
VALUES ('part'::regclass, 'u', 'id', '{1}', '22222222-2222-4222-8222-222222222222', now() - interval '1 minute');
SELECT pgsync_itsm.collect() AS runs;
SELECT * FROM itsm.show_keys() WHERE connection = '2';

-- leaving
SELECT itsm_unwatch('part');
SELECT itsm_unwatch('link', 'contract');
SELECT itsm_unwatch('link', 'contract');
SELECT tgrelid::regclass, tgname, encode(tgargs, 'escape') AS arguments FROM pg_trigger WHERE tgname LIKE 'pgsync%' ORDER BY 1, 2;
BEGIN;
INSERT INTO link (app_id) VALUES (1);
DROP EXTENSION pgsync_itsm CASCADE;
COMMIT;
INSERT INTO link (app_id) VALUES (2);
SELECT count(*) FROM link;

\c :main
DROP DATABASE regress_itsm_trigger;
DROP ROLE regress_itsm_writer;
