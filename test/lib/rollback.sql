-- The stage of rollback tests: the sample, a connection, and a platform that is played (see sql/plan.sql).
CREATE SCHEMA itsm;
SET client_min_messages = error;
CREATE EXTENSION pgsync_itsm SCHEMA itsm;
SET search_path = public, itsm;
\i :abs_srcdir/test/getinsync/schema.sql
\i :abs_srcdir/test/getinsync/sample.sql
SELECT itsm_attach_getinsync() AS attached \gset
\i :abs_srcdir/test/getinsync/sample_scope.sql
\set ON_ERROR_STOP off
\set riverton '''00000000-0000-4000-8000-000000000001'''
INSERT INTO integration_connections (id, namespace_id, platform, instance_url, settings, is_active, first_publish_at)
VALUES (:riverton, '11111111-1111-4111-8111-111111111111', 'servicenow', 'https://acme.service-now.com', '{"default_owner": "admin", "retire_by": "life_cycle"}', true, now());

-- What is there is what was agreed, made and touched by "sync", unless "there" says otherwise.  attrs null: gone.
CREATE TABLE there (kind text, key text, external_id text, attrs json, label text);
CREATE FUNCTION answer(run bigint) RETURNS void LANGUAGE sql
    AS $$
        INSERT INTO pgsync_itsm.lookup_rows (run_id, kind, target, key, external_id, external_table, attrs, label)
        SELECT run, l.kind, l.target, k.key, md5(l.kind || '/' || k.key), NULL, NULL::json, NULL
          FROM pgsync_itsm.lookups AS l, unnest(l.keys) AS k(key)
         WHERE l.run_id = run AND l.kind IN ('user', 'group', 'relation_type', 'contract_model', 'life_cycle') AND NOT (l.kind = 'relation_type' AND EXISTS (SELECT FROM there AS t WHERE t.kind = 'no types'))
        UNION ALL
        SELECT run, 'choice', l.target, k.key, o.value, l.target, NULL, o.label
          FROM pgsync_itsm.lookups AS l, unnest(l.keys) AS k(key), (VALUES ('1', 'Operational'), ('2', 'Retired'), ('3', 'In Production')) AS o(value, label)
         WHERE l.run_id = run AND l.kind = 'choice' AND k.key IN ('operational_status', 'install_status') AND l.target <> 'cmdb_ci_spkg'
        UNION ALL
        SELECT run, 'column', l.target, '', c, l.target, NULL, NULL
          FROM pgsync_itsm.lookups AS l, unnest('{name,operational_status,install_status,life_cycle_stage,life_cycle_stage_status,short_description,comments,vendor,correlation_id,version,discovery_source,environment}'::text[]) AS c
         WHERE l.run_id = run AND l.kind = 'column' AND l.target ~ '^(cmdb_ci|service_offering)'
        UNION ALL
        SELECT run, l.kind, l.target, t.key, t.external_id, CASE WHEN l.kind LIKE 'others%' THEN 'cmdb_rel_ci' ELSE l.target END, t.attrs, t.label
          FROM pgsync_itsm.lookups AS l, there AS t WHERE l.run_id = run AND l.kind = t.kind AND t.key = ANY (l.keys) AND l.kind <> 'record'
        UNION ALL
        SELECT run, l.kind, l.target, i.external_id, i.external_id, l.target,
               pgsync_itsm.merged(pgsync_itsm.merged(pgsync_itsm.merged((SELECT json_object_agg(f, '') FROM unnest(l.fields) AS f), i.last_agreed), '{"sys_created_by": "sync", "sys_updated_by": "sync"}'), t.attrs), NULL
          FROM pgsync_itsm.lookups AS l, integration_sync_map AS i LEFT JOIN there AS t ON t.kind = 'record' AND t.key = i.external_id
         WHERE l.run_id = run AND l.kind = 'record' AND i.external_id = ANY (l.keys) AND (t.key IS NULL OR t.attrs IS NOT NULL);
        UPDATE pgsync_itsm.lookups SET state = 'done' WHERE run_id = run
    $$;
CREATE PROCEDURE plan(run bigint) LANGUAGE plpgsql
    AS $$
    DECLARE
        what text;
    BEGIN
        UPDATE integration_runs SET status = 'planning' WHERE id = run;
        LOOP
            what := pgsync_itsm.plan_step(run);
            COMMIT;
            EXIT WHEN what = 'done';
            IF what = 'wait' THEN
                PERFORM answer(run);
            END IF;
        END LOOP;
    END
    $$;
CREATE FUNCTION new_run(partial boolean DEFAULT false, kind text DEFAULT 'publish') RETURNS bigint LANGUAGE sql
    AS $$
        INSERT INTO integration_runs (namespace_id, connection_id, kind, partial, origin, confirm)
        SELECT namespace_id, id, kind, partial, CASE WHEN partial THEN 'on_change' ELSE 'call' END, true FROM integration_connections RETURNING id
    $$;
-- The platform takes all of it, up to an order.
CREATE FUNCTION agree(run bigint, below integer DEFAULT 10000) RETURNS bigint LANGUAGE sql
    AS $$
        SELECT pgsync_itsm.settle_map(r.connection_id, array_agg(ROW(i.id, 'done', CASE i.action WHEN 'CREATE' THEN 'create' WHEN 'DELETE' THEN 'delete' ELSE 'update' END,
                   coalesce(i.external_id, md5(i.native_key || '/' || run)), coalesce(i.external_table, CASE WHEN i.entity_type = 'covers' THEN 'contract_rel_ci' ELSE 'cmdb_rel_ci' END),
                   NULL, NULL, NULL, NULL, NULL, NULL, NULL, i.step, i.action, false)::pgsync_itsm.answer ORDER BY i.id))
          FROM integration_run_items AS i JOIN integration_runs AS r ON r.id = i.run_id WHERE i.run_id = run AND i.state = 'pending' AND i.ord < below GROUP BY r.connection_id;
        WITH done AS (
            UPDATE integration_run_items AS i SET state = 'done', updated_at = clock_timestamp(), operation = CASE action WHEN 'CREATE' THEN 'create' WHEN 'DELETE' THEN 'delete' ELSE 'update' END,
                   external_id = coalesce(external_id, md5(native_key || '/' || run)),
                   external_table = coalesce(external_table, CASE WHEN entity_type = 'covers' THEN 'contract_rel_ci' ELSE 'cmdb_rel_ci' END)
             WHERE run_id = run AND state = 'pending' AND ord < below RETURNING 1)
        SELECT count(*) FROM done
    $$;
-- Companies first: what names them is filled in when it is sent.
CREATE FUNCTION publish(run bigint) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    n bigint := agree(run, 21);
BEGIN
    UPDATE integration_run_items SET payload = pgsync_itsm.fill_companies(connection_id, payload) WHERE run_id = run AND payload::text LIKE '%"@company/%';
    n := n + agree(run);
    PERFORM ended(run);
    RETURN n > 0;
END
$$;
CREATE FUNCTION ended(run bigint) RETURNS text LANGUAGE sql AS $$ SELECT pgsync_itsm.finish_run(run, 'done'); SELECT status FROM integration_runs WHERE id = run $$;
CREATE FUNCTION last_run() RETURNS bigint LANGUAGE sql AS $$ SELECT max(id) FROM integration_runs $$;
CREATE FUNCTION attempt(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    message text; detail text; hint text; state text;
BEGIN
    EXECUTE statement;
    RETURN 'no error';
EXCEPTION WHEN others THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN state || ': ' || message || coalesce(E'\n  ' || nullif(detail, ''), '') || coalesce(E'\n  ' || nullif(hint, ''), '');
END
$$;
CREATE VIEW matter AS SELECT run_id, id, entity_type, label, action, state, reason FROM integration_run_items;
