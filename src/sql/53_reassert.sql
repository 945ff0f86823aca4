-- What is agreed, and written all the same: a reconciliation looks at what the platform has of it, and a refresh
-- confirms what was not written for long.

-- Only values that were seen to be there count as agreed, and only what we published is ours to confirm.
CREATE FUNCTION pgsync_itsm.plan_agreed(run @extschema@.integration_runs)
RETURNS TABLE (entity_type text, entity_id uuid, external_id text, external_table text, agreed json, sent_hash text, source_hash text, source_version text, since timestamptz)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    IF run.purpose IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY
        SELECT p.entity_type, p.entity_id, p.external_id, p.external_table, m.last_agreed, m.last_sent_hash, m.source_hash, m.source_version, m.last_synced_at
          FROM pgsync_itsm.plan_records AS p
          JOIN @extschema@.integration_sync_map AS m
            ON m.connection_id = run.connection_id AND m.entity_type = p.entity_type AND m.entity_id = p.entity_id
         WHERE p.run_id = run.id AND p.verdict = 'UNCHANGED' AND p.external_id IS NOT NULL
           AND m.state = 'linked' AND m.sync_direction = 'published' AND m.last_sync_hash IS NOT NULL AND m.last_agreed IS NOT NULL
           AND (run.purpose = 'reconcile' OR m.created_by_us AND pgsync_itsm.is_identified(m.entity_type));
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_agreed(@extschema@.integration_runs) IS
'Records of a reconciliation or refresh that are unchanged here, and what is agreed on them; of other runs: none';

CREATE FUNCTION pgsync_itsm.plan_ask_agreed(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    g record;
BEGIN
    FOR g IN SELECT a.entity_type, a.external_table AS target, array_agg(a.external_id) AS ids FROM pgsync_itsm.plan_agreed(run) AS a GROUP BY 1, 2 LOOP
        PERFORM pgsync_itsm.ask(run, 'record', g.target, g.ids, pgsync_itsm.wanted_fields(run.connection_id, g.entity_type));
    END LOOP;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_ask_agreed(@extschema@.integration_runs) IS 'Asks what the platform has of records that are unchanged here';

-- A refresh sends what is there as it was agreed, and nothing that somebody changed there: it undoes no edit.  A
-- reconciliation wants all of what is agreed; whether it may have it is decided as for every other update.
CREATE FUNCTION pgsync_itsm.plan_reassert(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    refresh CONSTANT boolean := run.purpose = 'refresh';
BEGIN
    IF run.purpose IS NULL THEN
        RETURN;
    END IF;
    UPDATE pgsync_itsm.plan_records AS p
       SET verdict = 'UPDATE', payload = CASE WHEN refresh THEN c.same ELSE a.agreed END,
           payload_hash = a.sent_hash, source_hash = a.source_hash, source_version = a.source_version,
           reason = CASE WHEN refresh THEN format('confirmed: not written since %s', a.since::date) ELSE 'differs there' END
      FROM pgsync_itsm.plan_agreed(run) AS a
      JOIN (SELECT DISTINCT ON (l.key) l.key, l.attrs FROM pgsync_itsm.lookup_rows AS l WHERE l.run_id = run.id AND l.kind = 'record') AS x ON x.key = a.external_id
     CROSS JOIN LATERAL (
           SELECT json_object_agg(v.field, v.value ORDER BY v.ord) FILTER (WHERE NOT v.differs) AS same,
                  coalesce(bool_or(v.differs), false) AS differs, coalesce(bool_or(v.differs AND v.field = 'name'), false) AS renamed
             FROM (SELECT e.field, e.value, e.ord,
                          e.field NOT LIKE '\_%' AND x.attrs ->> e.field IS NOT NULL
                          AND pgsync_itsm.plain_value(x.attrs ->> e.field) <> pgsync_itsm.plain_value(e.value) AS differs
                     FROM json_each_text(a.agreed) WITH ORDINALITY AS e(field, value, ord)) AS v) AS c
     WHERE p.run_id = run.id AND p.entity_type = a.entity_type AND p.entity_id = a.entity_id
       AND CASE WHEN refresh THEN c.same IS NOT NULL AND NOT c.renamed ELSE c.differs END;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_reassert(@extschema@.integration_runs) IS 'Makes updates of what is unchanged here and has to be written all the same';

-- Where only fields differ that are the platform's own, nothing is left to be written.
CREATE FUNCTION pgsync_itsm.plan_reasserted(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF run.purpose IS DISTINCT FROM 'reconcile' THEN
        RETURN;
    END IF;
    UPDATE pgsync_itsm.plan_records AS p SET verdict = 'UNCHANGED', reason = NULL
     WHERE p.run_id = run.id AND p.verdict = 'UPDATE' AND p.reason = 'differs there'
       AND NOT EXISTS (SELECT FROM json_each_text(p.payload) AS v(field, value)
                        WHERE v.field NOT LIKE '\_%' AND p.old_values ->> v.field IS NOT NULL
                          AND pgsync_itsm.plain_value(p.old_values ->> v.field) <> pgsync_itsm.plain_value(v.value));
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_reasserted(@extschema@.integration_runs) IS 'Takes back updates of a reconciliation that would change nothing';
