-- What is old is removed, what is still asked for is not.  Time is moved in the rows.

\set VERBOSITY terse
SET client_min_messages = warning;
CREATE EXTENSION pgsync_itsm;
SET client_min_messages = notice;
INSERT INTO pgsync_itsm.site (only_one) VALUES (true) ON CONFLICT DO NOTHING;
INSERT INTO integration_connections (id, namespace_id, platform, instance_url, is_active)
VALUES ('22222222-2222-4222-8222-222222222222', '11111111-1111-4111-8111-111111111111', 'servicenow', 'https://acme.service-now.com', true);

-- A run that ended (or was planned) so long ago, with three items: one done, one dead, one never heard of.
CREATE FUNCTION run_of(age interval, kind text, status text, origin text, partial boolean) RETURNS bigint LANGUAGE sql AS $$
    WITH r AS (
        INSERT INTO integration_runs (namespace_id, connection_id, kind, origin, status, partial, created_at, planned_at, started_at, finished_at)
        SELECT c.namespace_id, c.id, $2, $4, $3, $5, now() - age, now() - age, CASE WHEN kind <> 'preview' AND status <> 'needs_approval' THEN now() - age END, CASE WHEN status IN ('done', 'failed', 'cancelled') THEN now() - age END
          FROM integration_connections AS c RETURNING *),
    s AS (INSERT INTO integration_run_steps (run_id, namespace_id, step, ord, title) SELECT id, namespace_id, '4', 40, 'applications' FROM r)
    INSERT INTO integration_run_items (run_id, connection_id, namespace_id, ord, step, entity_type, entity_id, native_key, action, state, unheard)
    SELECT r.id, r.connection_id, r.namespace_id, 40, '4', 'application', md5(n::text)::uuid, 'application/' || n, v.action, v.state, v.unheard
      FROM r, (VALUES (1, 'UPDATE', 'done', false), (2, 'UPDATE', 'dead', false), (3, 'CREATE', 'dead', true), (4, 'DELETE', 'done', false)) AS v(n, action, state, unheard)
     WHERE v.n < 3 OR r.kind <> 'preview' AND r.origin = 'call'
    RETURNING run_id
$$;
CREATE VIEW left_over AS
    SELECT r.id, r.kind, r.origin, r.status, r.partial, r.items_removed_at IS NOT NULL AS removed, r.error_message,
           string_agg(i.action || ' ' || i.state, ', ' ORDER BY i.id) AS items,
           (SELECT count(*) FROM integration_run_steps AS s WHERE s.run_id = r.id) AS steps
      FROM integration_runs AS r LEFT JOIN integration_run_items AS i ON i.run_id = r.id GROUP BY r.id ORDER BY r.id;
CREATE PROCEDURE purge() LANGUAGE sql AS $$ UPDATE pgsync_itsm.site SET purged_at = NULL; SELECT pgsync_itsm.purge() $$;

SELECT min(run_of('100 days', 'publish', 'done', 'call', false)) AS old_and_not_the_newest;
SELECT min(run_of('99 days', 'publish', 'failed', 'on_change', true)) AS old_and_started_by_nobody;
SELECT min(run_of('98 days', 'publish', 'done', 'on_change', true)) AS rolled_back;
SELECT min(run_of('97 days', 'rollback', 'done', 'call', false)) AS a_rollback;
UPDATE integration_runs SET rolls_back = 3 WHERE id = 4;
SELECT min(run_of('96 days', 'publish', 'done', 'call', false)) AS the_newest_in_full;
SELECT min(run_of('80 days', 'publish', 'done', 'on_change', true)) AS young_enough;
SELECT min(run_of('80 days', 'publish', 'running', 'on_change', true)) AS still_going_on;

CALL purge();
-- the old ones keep what later plans ask for; the newest plan in full keeps all, and so does what is young
SELECT id, kind, origin, status, removed, items, steps FROM left_over;

-- undone is what is known
SELECT * FROM itsm_rollback(1);

-- kept plans: the newest stays, one that is too old to be applied and has a newer one goes
SELECT min(run_of('12 days', 'preview', 'planned', 'call', false)) AS too_old;
SELECT min(run_of('11 days', 'publish', 'needs_approval', 'schedule', false)) AS too_old_as_well;
SELECT min(run_of('6 days', 'preview', 'planned', 'call', false)) AS can_be_applied;
SELECT min(run_of('2 days', 'preview', 'cancelled', 'call', false)) AS cancelled_preview;
SELECT min(run_of('1 hour', 'preview', 'cancelled', 'call', false)) AS just_cancelled;
CALL purge();
SELECT id, kind, status, removed, items, error_message FROM left_over WHERE id >= 5;
SELECT itsm_apply(8);
SELECT itsm_set('22222222-2222-4222-8222-222222222222', 'plan_max_age', '5 days');
SELECT min(run_of('5 days 1 hour', 'preview', 'planned', 'call', false)) AS newest_and_too_old;
CALL purge();
SELECT id, kind, status, removed, items FROM left_over WHERE id >= 8;

-- more than goes at a time: the next time goes on where this one stopped
UPDATE integration_runs SET items_removed_at = NULL WHERE id = 1;
INSERT INTO integration_run_items (run_id, connection_id, namespace_id, ord, step, entity_type, entity_id, native_key, action, state)
SELECT 1, '22222222-2222-4222-8222-222222222222', '11111111-1111-4111-8111-111111111111', 40, '4', 'application', md5('x' || n)::uuid, 'application/x' || n, 'UPDATE', 'done'
  FROM generate_series(1, 20001) AS n;
CALL purge();
SELECT count(*), max((r.items_removed_at IS NOT NULL)::text) AS removed FROM integration_run_items AS i JOIN integration_runs AS r ON r.id = i.run_id WHERE r.id = 1;
SELECT purged_at IS NULL AS goes_on FROM pgsync_itsm.site;
CALL purge();
SELECT count(*), max((r.items_removed_at IS NOT NULL)::text) AS removed FROM integration_run_items AS i JOIN integration_runs AS r ON r.id = i.run_id WHERE r.id = 1;
SELECT purged_at IS NOT NULL AS done FROM pgsync_itsm.site;

-- a connection that is gone leaves its runs' rows, and no items for ever
DELETE FROM integration_connections;
UPDATE integration_runs SET finished_at = now() - interval '91 days' WHERE finished_at IS NOT NULL;
CALL purge();
SELECT id, kind, status, removed, items FROM left_over;

DROP PROCEDURE purge();
DROP VIEW left_over;
DROP FUNCTION run_of(interval, text, text, text, boolean);
DROP EXTENSION pgsync_itsm;
