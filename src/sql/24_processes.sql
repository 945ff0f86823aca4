-- Launcher, worker and planner: how they are woken, what they show.

CREATE FUNCTION pgsync_itsm.wake() RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'pgsync_itsm_wake';
COMMENT ON FUNCTION pgsync_itsm.wake() IS
'Wakes this database''s worker when the transaction commits; a rolled-back or prepared one wakes nobody';

CREATE FUNCTION pgsync_itsm.wake_launcher() RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'pgsync_itsm_wake_launcher';
COMMENT ON FUNCTION pgsync_itsm.wake_launcher() IS
'Makes the launcher look at this database when the transaction commits';

CREATE FUNCTION pgsync_itsm.preloaded() RETURNS boolean
LANGUAGE c STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'pgsync_itsm_preloaded';
COMMENT ON FUNCTION pgsync_itsm.preloaded() IS
'Was the library loaded by shared_preload_libraries? Without that there are no workers';

CREATE FUNCTION pgsync_itsm.launcher_pid() RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'pgsync_itsm_launcher_pid';
COMMENT ON FUNCTION pgsync_itsm.launcher_pid() IS 'Process id of the launcher; NULL if it does not run';

CREATE FUNCTION pgsync_itsm.cancel_planner(run_id bigint) RETURNS boolean
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'pgsync_itsm_cancel_planner';
COMMENT ON FUNCTION pgsync_itsm.cancel_planner(bigint) IS
'Cancels at once what the planner does for this run; false if it does nothing for it. A plan in progress locks its run''s row: call this before touching that';

CREATE FUNCTION pgsync_itsm.worker_state(
    OUT database_oid oid, OUT worker_pid integer, OUT planner_pid integer, OUT planner_run bigint,
    OUT state text, OUT since timestamptz, OUT last_cycle timestamptz, OUT last_error_at timestamptz,
    OUT last_error_code text, OUT last_error text, OUT restarts bigint, OUT in_flight integer)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'pgsync_itsm_worker_state';
COMMENT ON FUNCTION pgsync_itsm.worker_state() IS
'One row per database that the launcher serves or tries to, from shared memory; last_error is shown to superusers only';

CREATE VIEW @extschema@.itsm_stat_worker AS
SELECT d.datname AS database, w.state, w.worker_pid, w.planner_pid, w.planner_run, w.in_flight, w.restarts,
       w.since, w.last_cycle, w.last_error_at, w.last_error_code
  FROM pgsync_itsm.worker_state() AS w
  LEFT JOIN pg_catalog.pg_database AS d ON d.oid = w.database_oid;
COMMENT ON VIEW @extschema@.itsm_stat_worker IS
'Workers of this cluster, one row per database of pgsync_itsm.databases; no row: the launcher does not serve it';
COMMENT ON COLUMN @extschema@.itsm_stat_worker.database IS 'Name of the database';
COMMENT ON COLUMN @extschema@.itsm_stat_worker.state IS
'starting, idle, busy, not adopted, no extension, stopping, exited, waiting to restart, or no worker slot';
COMMENT ON COLUMN @extschema@.itsm_stat_worker.worker_pid IS 'Process id of the worker; NULL if none runs';
COMMENT ON COLUMN @extschema@.itsm_stat_worker.planner_pid IS 'Process id of the planner; NULL if none runs';
COMMENT ON COLUMN @extschema@.itsm_stat_worker.planner_run IS 'Run that the planner is at';
COMMENT ON COLUMN @extschema@.itsm_stat_worker.in_flight IS 'Requests on the wire at the end of the last cycle';
COMMENT ON COLUMN @extschema@.itsm_stat_worker.restarts IS 'How often the worker was started again';
COMMENT ON COLUMN @extschema@.itsm_stat_worker.since IS 'When the state was reached';
COMMENT ON COLUMN @extschema@.itsm_stat_worker.last_cycle IS 'When the worker last looked at its tables';
COMMENT ON COLUMN @extschema@.itsm_stat_worker.last_error_at IS 'When an error last ended the worker or a plan';
COMMENT ON COLUMN @extschema@.itsm_stat_worker.last_error_code IS 'SQLSTATE of that error; its text is in the server log';
GRANT SELECT ON @extschema@.itsm_stat_worker TO pg_monitor;
GRANT EXECUTE ON FUNCTION pgsync_itsm.worker_state() TO pg_monitor;

-- Only a change is written: while a platform is away, a worker says the same again and again.
CREATE FUNCTION pgsync_itsm.connection_trouble(connection_id uuid, error_class text, message text) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    UPDATE @extschema@.integration_connections AS c
       SET last_error = connection_trouble.error_class || ': ' || connection_trouble.message
     WHERE c.id = connection_trouble.connection_id
       AND c.last_error IS DISTINCT FROM connection_trouble.error_class || ': ' || connection_trouble.message;
END;
COMMENT ON FUNCTION pgsync_itsm.connection_trouble(uuid, text, text) IS
'Keeps why a connection gets nowhere for the moment; NULLs: it does again';

-- The launcher looks when this script's transaction commits.
DO $do$
BEGIN
    PERFORM pgsync_itsm.wake_launcher();
END
$do$;
