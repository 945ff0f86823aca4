-- Launcher, worker and planner: how they are woken, what they show.

CREATE FUNCTION pgsync_itsm.wake() RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'pgsync_itsm_wake';
COMMENT ON FUNCTION pgsync_itsm.wake() IS
'Wakes this database''s worker when the transaction commits; a rolled-back one wakes nobody, a prepared one when it is committed';

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

CREATE FUNCTION pgsync_itsm.is_planned(run_id bigint) RETURNS boolean
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'pgsync_itsm_is_planned';
COMMENT ON FUNCTION pgsync_itsm.is_planned(bigint) IS 'Is a planner other than this process at the run now';

CREATE FUNCTION pgsync_itsm.planner_yields(run_id bigint) RETURNS boolean
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'pgsync_itsm_planner_yields';
COMMENT ON FUNCTION pgsync_itsm.planner_yields(bigint) IS 'Was this planner interrupted because others wait: then the run is left to the one for slow plans';

CREATE FUNCTION pgsync_itsm.is_listed() RETURNS boolean
LANGUAGE c STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'pgsync_itsm_is_listed';
COMMENT ON FUNCTION pgsync_itsm.is_listed() IS 'Does pgsync_itsm.databases name this database';

CREATE FUNCTION pgsync_itsm.list_name(name name) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
RETURN CASE WHEN name::text ~ '[[:space:],"]' THEN '"' || replace(name::text, '"', '""') || '"' ELSE name::text END;
COMMENT ON FUNCTION pgsync_itsm.list_name(name) IS 'A name as pgsync_itsm.databases wants it: quoted only where it has to be, as case counts there';

-- The first is the oldest, or nearly so: ids are given out at the end of transactions.
CREATE FUNCTION pgsync_itsm.oldest_change() RETURNS timestamptz
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (SELECT q.at FROM @extschema@.integration_queue AS q ORDER BY q.id LIMIT 1);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.oldest_change() IS 'When the oldest change that waits in the queue was made; NULL: none waits';

CREATE FUNCTION pgsync_itsm.worker_state(
    OUT database_oid oid, OUT state text, OUT since timestamptz, OUT worker_pid integer, OUT in_flight integer, OUT restarts bigint,
    OUT last_cycle timestamptz, OUT oldest_change timestamptz, OUT last_error_at timestamptz, OUT last_error_code text, OUT last_error text,
    OUT planner_pid integer, OUT planner_run bigint, OUT planner_since timestamptz,
    OUT slow_planner_pid integer, OUT slow_planner_run bigint, OUT slow_planner_since timestamptz)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'pgsync_itsm_worker_state';
COMMENT ON FUNCTION pgsync_itsm.worker_state() IS
'One row per database that the launcher serves or tries to, from shared memory, with full times; last_error is shown to superusers only';

-- Eight characters at most, so that a view of several fits a terminal.
CREATE FUNCTION pgsync_itsm.age_of(at timestamptz) RETURNS interval
LANGUAGE sql VOLATILE STRICT SET search_path = pg_catalog, pg_temp
RETURN date_trunc(CASE WHEN clock_timestamp() - age_of.at < interval '1 day' THEN 'second' ELSE 'day' END,
                  greatest(clock_timestamp() - age_of.at, interval '0'));
COMMENT ON FUNCTION pgsync_itsm.age_of(timestamptz) IS 'How long ago, in whole seconds, or in whole days from one on';

CREATE VIEW @extschema@.itsm_stat_worker AS
SELECT d.datname AS database, w.state, w.worker_pid, w.in_flight, pgsync_itsm.age_of(w.since) AS since,
       w.last_cycle::time(3) AS last_cycle, pgsync_itsm.age_of(w.oldest_change) AS oldest_change,
       w.last_error_code AS last_error, pgsync_itsm.age_of(w.last_error_at) AS error_age
  FROM pgsync_itsm.worker_state() AS w
  LEFT JOIN pg_catalog.pg_database AS d ON d.oid = w.database_oid;
COMMENT ON VIEW @extschema@.itsm_stat_worker IS
'Workers of this cluster, one row per database of pgsync_itsm.databases; no row: the launcher does not serve it';
COMMENT ON COLUMN @extschema@.itsm_stat_worker.database IS 'Name of the database';
COMMENT ON COLUMN @extschema@.itsm_stat_worker.state IS
'starting, idle, busy, not adopted, no extension, stopping, exited, backing off (ended, and started again after a while, which is longer each time), or no worker slot';
COMMENT ON COLUMN @extschema@.itsm_stat_worker.worker_pid IS 'Process id of the worker; NULL if none runs';
COMMENT ON COLUMN @extschema@.itsm_stat_worker.in_flight IS 'Requests on the wire at the end of the last cycle';
COMMENT ON COLUMN @extschema@.itsm_stat_worker.since IS 'How long it has been in this state';
COMMENT ON COLUMN @extschema@.itsm_stat_worker.last_cycle IS 'When the worker last looked at its tables, at the latest pgsync_itsm.slow_poll ago while it is idle';
COMMENT ON COLUMN @extschema@.itsm_stat_worker.oldest_change IS 'For how long the oldest change in integration_queue has waited, as the last cycle left it; NULL: none waits';
COMMENT ON COLUMN @extschema@.itsm_stat_worker.last_error IS
'SQLSTATE of the error that last ended the worker or a plan; its text is in the server log and, for superusers, in pgsync_itsm.worker_state()';
COMMENT ON COLUMN @extschema@.itsm_stat_worker.error_age IS 'How long ago that was';

CREATE VIEW @extschema@.itsm_stat_process AS
SELECT d.datname AS database, p.process, p.pid, p.run_id, pgsync_itsm.age_of(p.since) AS since, p.restarts
  FROM pgsync_itsm.worker_state() AS w
 CROSS JOIN LATERAL (VALUES (1, 'worker', w.worker_pid, NULL::bigint, CASE WHEN w.worker_pid IS NOT NULL THEN w.since END, w.restarts),
                            (2, 'planner', w.planner_pid, w.planner_run, w.planner_since, NULL),
                            (3, 'slow planner', w.slow_planner_pid, w.slow_planner_run, w.slow_planner_since, NULL))
       AS p(ord, process, pid, run_id, since, restarts)
  LEFT JOIN pg_catalog.pg_database AS d ON d.oid = w.database_oid
 WHERE p.ord = 1 OR p.pid IS NOT NULL
 ORDER BY d.datname, p.ord;
COMMENT ON VIEW @extschema@.itsm_stat_process IS
'Processes of this cluster: the worker of each database, and its planners while they plan';
COMMENT ON COLUMN @extschema@.itsm_stat_process.database IS 'Name of the database';
COMMENT ON COLUMN @extschema@.itsm_stat_process.process IS
'worker, planner, or slow planner: where plans go on that took longer than pgsync_itsm.planner_slice while others waited';
COMMENT ON COLUMN @extschema@.itsm_stat_process.pid IS 'Process id; NULL: it does not run now';
COMMENT ON COLUMN @extschema@.itsm_stat_process.run_id IS 'Run that a planner is at; its phase is in itsm_stat_progress';
COMMENT ON COLUMN @extschema@.itsm_stat_process.since IS 'For how long: a planner at its run, a worker in its state';
COMMENT ON COLUMN @extschema@.itsm_stat_process.restarts IS 'How often the worker was started again';

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
