-- What DBAs read first.  integration_* views run with the reader's rights, so row-level security holds in them;
-- itsm_stat_* views hold ids and numbers only and are for pg_monitor.

CREATE VIEW @extschema@.integration_plan WITH (security_invoker = true) AS
SELECT i.run_id, i.step, i.entity_type, i.entity_id, i.label, i.action, i.state, i.reason, i.warnings,
       i.external_table, i.external_id, i.payload, i.old_values, i.namespace_id
  FROM @extschema@.integration_run_items AS i;
COMMENT ON VIEW @extschema@.integration_plan IS 'Items of runs: what each plans to do or did, and why';

CREATE FUNCTION pgsync_itsm.error_hints(platform text DEFAULT 'servicenow') RETURNS TABLE (error_class text, cause text, hint text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT DISTINCT ON (o.match) o.match, o.reason, o.hint
      FROM pgsync_itsm.adapter_outcomes(error_hints.platform) WITH ORDINALITY AS o(layer, match, outcome, reason, hint, n)
     WHERE o.match !~ '[*x]' AND o.outcome NOT IN ('done', 'unchanged')
     ORDER BY o.match, o.hint IS NULL, o.layer <> 'record', o.n;
END;
COMMENT ON FUNCTION pgsync_itsm.error_hints(text) IS 'Cause and remedy by error class on a platform';

CREATE VIEW @extschema@.integration_sync_log_recent WITH (security_invoker = true) AS
SELECT l.created_at, l.operation, l.status, l.entity_type, l.entity_id, l.external_id, l.error_class, l.error_message,
       l.run_id, l.connection_id, l.namespace_id
  FROM @extschema@.integration_sync_log AS l
 WHERE l.created_at > now() - interval '1 day'
 ORDER BY l.created_at DESC;
COMMENT ON VIEW @extschema@.integration_sync_log_recent IS 'Operations of the last 24 hours, newest first';

CREATE VIEW @extschema@.integration_sync_log_errors WITH (security_invoker = true) AS
SELECT l.created_at, l.entity_type, l.entity_id, l.error_class, l.error_message, coalesce(h.cause, 'see error_message') AS cause, h.hint,
       l.http_status, l.run_id, l.connection_id, l.namespace_id
  FROM @extschema@.integration_sync_log AS l
  LEFT JOIN @extschema@.integration_connections AS c ON c.id = l.connection_id
  LEFT JOIN (SELECT 'servicenow' AS platform, s.* FROM pgsync_itsm.error_hints('servicenow') AS s
             UNION ALL SELECT 'haloitsm', t.* FROM pgsync_itsm.error_hints('haloitsm') AS t) AS h
    ON h.error_class = l.error_class AND h.platform = coalesce(c.platform, 'servicenow')
 WHERE l.status = 'error'
 ORDER BY l.created_at DESC;
COMMENT ON VIEW @extschema@.integration_sync_log_errors IS 'Failed operations with cause and hint, newest first';

CREATE VIEW @extschema@.integration_sync_log_by_record WITH (security_invoker = true) AS
SELECT l.namespace_id, l.connection_id, l.entity_type, l.entity_id, max(l.external_id) AS external_id,
       count(*) FILTER (WHERE l.status = 'success') AS succeeded, count(*) FILTER (WHERE l.status = 'error') AS failed,
       max(l.created_at) AS last_at, (array_agg(l.error_message ORDER BY l.created_at DESC))[1] AS last_message
  FROM @extschema@.integration_sync_log AS l
 GROUP BY l.namespace_id, l.connection_id, l.entity_type, l.entity_id;
COMMENT ON VIEW @extschema@.integration_sync_log_by_record IS 'The log by record: how often, when last, how it ended last';

CREATE VIEW @extschema@.integration_sync_log_by_run WITH (security_invoker = true) AS
SELECT r.id AS run_id, r.namespace_id, r.connection_id, r.kind, r.status, r.created_at, r.finished_at,
       count(l.id) FILTER (WHERE l.operation = 'create' AND l.status = 'success') AS created,
       count(l.id) FILTER (WHERE l.operation = 'update' AND l.status = 'success') AS updated,
       count(l.id) FILTER (WHERE l.operation = 'delete' AND l.status = 'success') AS deleted,
       count(l.id) FILTER (WHERE l.status = 'error') AS errors
  FROM @extschema@.integration_runs AS r LEFT JOIN @extschema@.integration_sync_log AS l ON l.run_id = r.id
 GROUP BY r.id;
COMMENT ON VIEW @extschema@.integration_sync_log_by_run IS 'The log by run: what each created, updated, deleted, failed at';

CREATE VIEW @extschema@.integration_status WITH (security_invoker = true) AS
SELECT c.namespace_id, c.id AS connection_id, c.platform, c.name, c.is_active, c.paused_at IS NOT NULL AS paused,
       r.id AS last_run, r.status AS last_run_status, c.last_sync_at, c.next_run_at,
       CASE WHEN c.blackout_until > now() THEN c.blackout_until END AS blackout_until,
       coalesce(c.pause_reason, r.error_message, r.approval_reason) AS problem,
       CASE WHEN c.pause_class = 'NAMESPACE_DELETED' THEN format('SELECT itsm_disconnect(%L);', c.id)
            WHEN c.paused_at IS NOT NULL THEN format('SELECT itsm_activate(%L);', c.id)
            WHEN NOT c.is_active THEN format('SELECT * FROM itsm_test_connection(%L);', c.id)
            WHEN r.status = 'needs_approval' THEN format('SELECT itsm_apply(%s);', r.id)
            WHEN r.status IN ('queued', 'planning', 'running') THEN format('CALL itsm_wait(%s);', r.id)
            ELSE format('SELECT itsm_publish(%L);', c.namespace_id) END AS next_call
  FROM @extschema@.integration_connections AS c
  LEFT JOIN LATERAL (SELECT x.* FROM @extschema@.integration_runs AS x WHERE x.connection_id = c.id ORDER BY x.id DESC LIMIT 1) AS r ON true;
COMMENT ON VIEW @extschema@.integration_status IS 'Connections of the reader''s namespaces: state, last run, what is wrong, the next call';

CREATE VIEW @extschema@.itsm_stat_progress AS
SELECT r.id AS run_id, r.kind, r.status, r.phase, s.step, s.done, s.total, s.failed, s.requests,
       date_trunc('second', clock_timestamp() - r.created_at) AS age,
       CASE WHEN pgsync_itsm.is_quiet(c.blackout_until, c.settings, r.origin) THEN 'black-out'
            WHEN r.status = 'queued' THEN NULL
            WHEN c.paused_at IS NOT NULL THEN 'paused'
            WHEN p.state IN ('open', 'half_open') THEN 'circuit breaker'
            WHEN p.until > clock_timestamp() THEN CASE p.state WHEN 'limited' THEN 'rate limit' ELSE 'backoff' END
            WHEN b.until IS NOT NULL THEN 'backoff' END AS waiting,
       CASE WHEN pgsync_itsm.is_quiet(c.blackout_until, c.settings, r.origin) THEN c.blackout_until
            WHEN r.status <> 'queued' AND c.paused_at IS NULL THEN CASE WHEN p.until > clock_timestamp() THEN p.until ELSE b.until END END::time(0) AS until
  FROM @extschema@.integration_runs AS r
  LEFT JOIN @extschema@.integration_connections AS c ON c.id = r.connection_id
  LEFT JOIN pgsync_itsm.connection_pace AS p ON p.connection_id = r.connection_id AND p.state <> 'active'
  LEFT JOIN LATERAL (SELECT x.* FROM @extschema@.integration_run_steps AS x
                      WHERE x.run_id = r.id AND x.status <> 'waiting' ORDER BY x.status = 'running' DESC, x.ord DESC LIMIT 1) AS s ON true
  -- items that wait for their next attempt, and nothing is on the wire
  LEFT JOIN LATERAL (SELECT min(i.not_before) AS until FROM @extschema@.integration_run_items AS i
                      WHERE i.run_id = r.id AND i.state = 'pending' AND i.not_before > now()
                        AND NOT EXISTS (SELECT FROM pgsync_itsm.claims AS o WHERE o.run_id = r.id)) AS b ON true
 WHERE r.status IN ('queued', 'planning', 'running');
COMMENT ON VIEW @extschema@.itsm_stat_progress IS 'Open runs, the step they are in, and what they wait for; for pg_monitor, ids and numbers only';

CREATE VIEW @extschema@.itsm_stat_connection AS
SELECT c.id AS connection_id,
       CASE WHEN NOT c.is_active THEN 'inactive' WHEN c.paused_at IS NOT NULL THEN 'paused'
            WHEN p.state IN ('open', 'half_open') OR p.until > clock_timestamp() THEN p.state ELSE 'active' END AS state,
       CASE WHEN c.paused_at IS NOT NULL THEN c.pause_class
            WHEN p.state IN ('open', 'half_open') OR p.until > clock_timestamp() THEN p.reason END AS reason,
       CASE WHEN p.until > clock_timestamp() THEN p.until END::time(0) AS until,
       (SELECT count(*) FROM @extschema@.integration_run_items AS i JOIN @extschema@.integration_runs AS r ON r.id = i.run_id AND r.status = 'running'
         WHERE r.connection_id = c.id AND i.state = 'pending') - w.sent AS pending,
       w.sent,
       p.slots, h.used AS hour_used, h.hour_limit
  FROM @extschema@.integration_connections AS c
  LEFT JOIN pgsync_itsm.connection_pace AS p ON p.connection_id = c.id
 CROSS JOIN LATERAL (SELECT coalesce(sum(cardinality(o.item_ids)), 0)::bigint AS sent FROM pgsync_itsm.claims AS o WHERE o.connection_id = c.id) AS w
  LEFT JOIN LATERAL (SELECT CASE WHEN u.resets_at > clock_timestamp() THEN u.used ELSE 0 END AS used, u.hour_limit
                       FROM unnest(p.used, p.limits, p.resets) AS u(used, hour_limit, resets_at) WHERE u.hour_limit >= 0
                      ORDER BY CASE WHEN u.resets_at > clock_timestamp() THEN u.used ELSE 0 END::float8 / greatest(u.hour_limit, 1) DESC, u.hour_limit LIMIT 1) AS h ON true;
COMMENT ON VIEW @extschema@.itsm_stat_connection IS
'Connections: state, what waits, what is on the wire, how much of the tightest hourly limit is used; for pg_monitor, ids and numbers only';
