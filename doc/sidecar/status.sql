-- The database of the application again: what the sidecar knows, as views in the schema itsm.
--
--   psql -d DB -v "visible=namespace_id = public.get_current_namespace_id()" -v role=authenticated -v host=sidecar.example.com
--        -v dbname=sidecar -v user=itsm_status -v password=... [-v port=5432] -f status.sql
--
-- visible: condition on namespace_id that says whose rows the reader may see.  role: who may read the views.
-- The sidecar must be reachable from here, and need not be there: only who reads the views gets an error then.
\set ON_ERROR_STOP on
\if :{?port}
\else
\set port 5432
\endif

BEGIN;

CREATE EXTENSION IF NOT EXISTS postgres_fdw;
CREATE SCHEMA itsm;

CREATE SERVER itsm_sidecar FOREIGN DATA WRAPPER postgres_fdw
    OPTIONS (host :'host', port :'port', dbname :'dbname', updatable 'false', connect_timeout '5');
CREATE USER MAPPING FOR CURRENT_USER SERVER itsm_sidecar OPTIONS (user :'user', password :'password');

CREATE FOREIGN TABLE itsm.sidecar_status (
    namespace_id uuid, connection_id uuid, platform text, name text, is_active boolean, paused boolean, last_run bigint,
    last_run_status text, last_sync_at timestamptz, next_run_at timestamptz, problem text)
    SERVER itsm_sidecar OPTIONS (schema_name 'public', table_name 'integration_status');
CREATE FOREIGN TABLE itsm.sidecar_map (
    namespace_id uuid, connection_id uuid, entity_type text, entity_id uuid, external_id text, external_table text, external_number text,
    external_url text, state text, last_synced_at timestamptz)
    SERVER itsm_sidecar OPTIONS (schema_name 'public', table_name 'integration_sync_map');
CREATE FOREIGN TABLE itsm.sidecar_log (
    namespace_id uuid, connection_id uuid, run_id bigint, created_at timestamptz, operation text, status text, entity_type text,
    entity_id uuid, error_class text, error_message text)
    SERVER itsm_sidecar OPTIONS (schema_name 'public', table_name 'integration_sync_log_recent');

-- The views' owner reads the sidecar; whoever reads the views has no right there, and sees what is his.
CREATE VIEW itsm.status WITH (security_barrier) AS SELECT * FROM itsm.sidecar_status WHERE (:visible);
CREATE VIEW itsm.records WITH (security_barrier) AS SELECT * FROM itsm.sidecar_map WHERE (:visible);
CREATE VIEW itsm.recent WITH (security_barrier) AS SELECT * FROM itsm.sidecar_log WHERE (:visible);
COMMENT ON VIEW itsm.status IS 'Connections to platforms: state, last run, what is wrong';
COMMENT ON VIEW itsm.records IS 'Which record of the portfolio is which record of the platform';
COMMENT ON VIEW itsm.recent IS 'What was sent in the last 24 hours';

REVOKE ALL ON ALL TABLES IN SCHEMA itsm FROM PUBLIC;
GRANT USAGE ON SCHEMA itsm TO :"role";
GRANT SELECT ON itsm.status, itsm.records, itsm.recent TO :"role";

COMMIT;
