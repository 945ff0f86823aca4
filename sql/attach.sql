-- Attaching a GetInSync schema: with all of its tables, with few of them, and leaving it as it was.
\set SHOW_CONTEXT never
\getenv abs_srcdir PG_ABS_SRCDIR
SELECT current_database() AS main \gset
SET client_min_messages = warning;
DROP DATABASE IF EXISTS regress_itsm_attach;
CREATE DATABASE regress_itsm_attach TEMPLATE template0;
\c regress_itsm_attach
CREATE SCHEMA itsm;
SET client_min_messages = warning;
CREATE EXTENSION pgsync_itsm SCHEMA itsm;
SET client_min_messages = notice;
SET search_path = public, itsm;

-- nothing there
SELECT itsm_attach_getinsync();
SELECT itsm_attach_getinsync('nowhere');
SELECT itsm_set_scope('11111111-1111-4111-8111-111111111111', 'application_service');
SELECT itsm_detach_getinsync();

\set ECHO none
\i :abs_srcdir/test/getinsync/schema.sql
\i :abs_srcdir/test/getinsync/sample.sql
\set ON_ERROR_STOP off
\set ECHO all

-- what of the schema a dump would show
CREATE VIEW itsm.schema_now AS
    SELECT c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull
           || coalesce(' ' || pg_get_expr(d.adbin, d.adrelid), '') || coalesce(' ' || col_description(c.oid, a.attnum), '') AS item
      FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
     WHERE c.relnamespace = 'public'::regnamespace
    UNION ALL
    SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
     WHERE connamespace = 'public'::regnamespace
    UNION ALL
    SELECT pg_get_triggerdef(t.oid) || ' ' || t.tgenabled::text FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
     WHERE c.relnamespace = 'public'::regnamespace AND NOT t.tgisinternal
    UNION ALL
    SELECT c.oid::regclass::text || ' ' || c.relkind::text || coalesce(c.relacl::text, '') FROM pg_class AS c
     WHERE c.relnamespace = 'public'::regnamespace;
CREATE TABLE itsm.schema_before AS SELECT * FROM itsm.schema_now;

-- only who could read everything anyway may attach
CREATE ROLE regress_itsm_nobody;
GRANT USAGE ON SCHEMA itsm, pgsync_itsm TO regress_itsm_nobody;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA itsm, pgsync_itsm TO regress_itsm_nobody;
SET ROLE regress_itsm_nobody;
SELECT itsm_attach_getinsync();
RESET ROLE;

SELECT itsm_attach_getinsync();
SELECT entity_type, key_type, origin, description FROM integration_sources ORDER BY entity_type;
SELECT relation, entity_type, key_column, match_by, owns_key FROM integration_watches ORDER BY 1, 2, 3, 4;
SELECT tgrelid::regclass AS relation, tgname, tgenabled, encode(tgargs, 'escape') AS arguments
  FROM pg_trigger WHERE tgname LIKE 'pgsync%' ORDER BY 1, 2;
SELECT item FROM (TABLE itsm.schema_now EXCEPT TABLE itsm.schema_before) AS x WHERE item LIKE '%scope%' ORDER BY 1;
SELECT kind, relation, name FROM pgsync_itsm.attached_objects ORDER BY 1, 2;
SELECT pgsync_itsm.attached_schema();
\set VERBOSITY terse
INSERT INTO deployment_profiles (workspace_id, name, sn_sync_scope) SELECT id, 'x', 'everything' FROM workspaces LIMIT 1;
\set VERBOSITY default

-- again: nothing is made twice
CREATE TEMPORARY TABLE triggers_before AS SELECT oid, tgrelid, tgname FROM pg_trigger WHERE tgname LIKE 'pgsync%';
SELECT itsm_attach_getinsync();
SELECT count(*) AS triggers, count(*) FILTER (WHERE b.oid IS NULL) AS made_anew
  FROM pg_trigger AS t LEFT JOIN triggers_before AS b ON b.oid = t.oid WHERE t.tgname LIKE 'pgsync%';
SELECT count(*) FROM integration_sources;

-- a source that a superuser stored for all is kept
SELECT itsm_set_source(NULL, 'contact', 'SELECT id AS key, display_name AS name, true AS used FROM public.contacts WHERE namespace_id = $1');
SELECT itsm_attach_getinsync();
SELECT itsm_set_source(NULL, 'contact', NULL);

-- another schema at the same time
CREATE SCHEMA other;
SELECT itsm_attach_getinsync('other');

-- setting the scope
SELECT itsm_set_scope('11111111-1111-4111-8111-111111111111', 'application_service', $$dp_type = 'application' AND environment = 'PROD'$$);
SELECT itsm_set_scope('11111111-1111-4111-8111-111111111111', 'application_service');
SELECT sn_sync_scope, dp_type, count(*) FROM deployment_profiles GROUP BY 1, 2 ORDER BY 1, 2;
SELECT itsm_set_scope('11111111-1111-4111-8111-111111111111', 'none', 'application_name IS NULL');
SELECT itsm_set_scope('11111111-1111-4111-8111-111111111111', 'everything');
SELECT itsm_set_scope('99999999-9999-4999-8999-999999999999', 'none');
SELECT itsm_set_scope('11111111-1111-4111-8111-111111111111', 'none', 'colour = 1');
SELECT itsm_set_scope('11111111-1111-4111-8111-111111111111', 'none', 'true) AS q; DROP TABLE public.teams; --');

-- leaving: the column stays unless it is to go
SELECT itsm_detach_getinsync();
SELECT item FROM (TABLE itsm.schema_now EXCEPT TABLE itsm.schema_before) AS x ORDER BY 1;
SELECT count(*) FROM integration_sources;
SELECT itsm_attach_getinsync();
SELECT sn_sync_scope, count(*) FROM deployment_profiles GROUP BY 1 ORDER BY 1;
SELECT itsm_detach_getinsync(drop_scope => true);
SELECT item FROM (TABLE itsm.schema_now EXCEPT TABLE itsm.schema_before) AS x
UNION ALL
SELECT item FROM (TABLE itsm.schema_before EXCEPT TABLE itsm.schema_now) AS x;
SELECT * FROM pgsync_itsm.attached_objects;
SELECT itsm_detach_getinsync(true);

-- a column of that name that was there before stays
ALTER TABLE it_services ADD COLUMN sn_sync_scope text;
SELECT itsm_attach_getinsync();
SELECT itsm_detach_getinsync(true);
SELECT count(*) FROM pg_attribute WHERE attname = 'sn_sync_scope' AND NOT attisdropped AND attrelid = 'it_services'::regclass;

-- three tables, and not all of their columns, are enough
CREATE SCHEMA small;
CREATE TABLE small.workspaces (id uuid PRIMARY KEY, namespace_id uuid NOT NULL);
CREATE TABLE small.applications (id uuid PRIMARY KEY, workspace_id uuid NOT NULL, name varchar(80) NOT NULL, management_classification text);
SELECT itsm_attach_getinsync('small');
CREATE TABLE small.deployment_profiles (id uuid PRIMARY KEY, application_id uuid, workspace_id uuid NOT NULL);
SELECT itsm_attach_getinsync('small');
ALTER TABLE small.deployment_profiles ADD COLUMN name text, ADD COLUMN is_primary boolean, ADD COLUMN dp_type text,
    ADD COLUMN contract_reference text;
CREATE TABLE small.application_integrations (source_application_id uuid, target_application_id uuid);
SELECT itsm_attach_getinsync('small');
INSERT INTO small.workspaces VALUES ('10000000-0000-4000-8000-000000000001', '11111111-1111-4111-8111-111111111111');
INSERT INTO small.applications VALUES ('20000000-0000-4000-8000-000000000001', '10000000-0000-4000-8000-000000000001', 'Ledger', 'apm');
INSERT INTO small.deployment_profiles (id, application_id, workspace_id, name, is_primary, contract_reference)
VALUES ('30000000-0000-4000-8000-000000000001', '20000000-0000-4000-8000-000000000001', '10000000-0000-4000-8000-000000000001', 'Prod', true, 'C-1');
SELECT itsm_set_scope('11111111-1111-4111-8111-111111111111', 'application_service');
INSERT INTO integration_connections (id, namespace_id, platform, instance_url)
VALUES ('00000000-0000-4000-8000-000000000001', '11111111-1111-4111-8111-111111111111', 'servicenow', 'https://acme.service-now.com');
SELECT * FROM pgsync_itsm.source_row_counts('00000000-0000-4000-8000-000000000001');
SELECT key, class, name, payload FROM pgsync_itsm.read_source('00000000-0000-4000-8000-000000000001', 'application');
SELECT key, parent_key, class, name, payload FROM pgsync_itsm.read_source('00000000-0000-4000-8000-000000000001', 'deployment_profile');
SELECT entity_type FROM integration_sources ORDER BY 1;
SELECT relation, entity_type, key_column, match_by, columns FROM integration_watches ORDER BY 1, 2, 3;

-- the application's own migrations go through, and so does DROP EXTENSION
ALTER TABLE small.deployment_profiles RENAME COLUMN contract_reference TO contract_number;
ALTER TABLE small.applications ALTER COLUMN name TYPE text;
UPDATE small.deployment_profiles SET name = 'Production';
DROP EXTENSION pgsync_itsm CASCADE;
UPDATE small.deployment_profiles SET name = 'Prod';
SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'pgsync%';

DROP OWNED BY regress_itsm_nobody;
DROP ROLE regress_itsm_nobody;
\c :main
DROP DATABASE regress_itsm_attach;
