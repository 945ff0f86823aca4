-- Previews: what identification and reconciliation would do is asked of the platform's own engine, and what a plan would
-- overwrite there is told apart from what nobody touched.

CREATE FUNCTION pgsync_itsm.is_identified(entity_type text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN entity_type IN ('application', 'deployment_profile', 'it_service', 'software_package');
COMMENT ON FUNCTION pgsync_itsm.is_identified(text) IS 'Are records of this type CIs, which the identification engine finds or makes';

-- A plan that a person will look at before it is sent; the others go out at once, and the engine decides then.
CREATE FUNCTION pgsync_itsm.wants_dry_run(run @extschema@.integration_runs) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN pgsync_itsm.setting(run.connection_id, 'dry_run') = 'true'
           AND (run.kind = 'preview'
                OR run.kind = 'publish' AND NOT run.confirm AND (NOT run.partial OR run.applications IS NOT NULL)
                   AND EXISTS (SELECT FROM @extschema@.integration_connections AS c WHERE c.id = run.connection_id AND c.first_publish_at IS NULL));
END
$$;
COMMENT ON FUNCTION pgsync_itsm.wants_dry_run(@extschema@.integration_runs) IS 'Is the engine asked what it would do: for previews, and for a first publish that waits for approval';

CREATE FUNCTION pgsync_itsm.plan_ask_dry_run(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    most CONSTANT integer := greatest(least(pgsync_itsm.setting(run.connection_id, 'batch_items')::integer, 450), 1);
    bytes CONSTANT integer := greatest(least(pgsync_itsm.setting(run.connection_id, 'batch_bytes')::integer / 2, 1500000), 1);
BEGIN
    -- A payload holds so many CIs, and so many bytes.
    INSERT INTO pgsync_itsm.lookups (run_id, connection_id, kind, target, keys)
    SELECT run.id, run.connection_id, 'dry_run', '', array_agg(k.native_key ORDER BY k.n)
      FROM (SELECT p.native_key, row_number() OVER w AS n,
                   (row_number() OVER w - 1) / most AS part, sum(octet_length(p.payload::text) + 400) OVER w / bytes AS weight
              FROM pgsync_itsm.plan_records AS p
             WHERE p.run_id = run.id AND p.verdict IN ('CREATE', 'UPDATE') AND pgsync_itsm.is_identified(p.entity_type)
            WINDOW w AS (ORDER BY p.entity_type, p.entity_id)) AS k
     GROUP BY k.part, k.weight
     ORDER BY min(k.n);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_ask_dry_run(@extschema@.integration_runs) IS 'Asks the engine what it would do with what a plan would create or update';

-- What the engine found by its own rules is there and not ours, unless it was by our key.
CREATE FUNCTION pgsync_itsm.dry_run_verdict(verdict text, entity_type text, external_id text, found_id text, operation text, attrs json,
                                            adopt boolean, update_matched boolean) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN attrs ->> 'outcome' = 'retry' AND attrs ->> 'error' <> 'ABANDONED' THEN verdict
    WHEN attrs ->> 'error' IN ('MULTI_MATCH', 'MULTIPLE_DUPLICATE_RECORDS', 'RECLASSIFICATION_NOT_ALLOWED') THEN 'MISMATCH'
    WHEN attrs ->> 'error' IS NOT NULL OR operation LIKE 'INSERT\_AS\_%' THEN 'ERROR'
    WHEN attrs ->> 'merged' = 'true' THEN 'MISMATCH'
    WHEN operation LIKE 'UPDATE\_WITH\_%' THEN 'MISMATCH'
    WHEN verdict = 'UPDATE' AND (operation = 'INSERT' OR lower(found_id) <> lower(external_id)) THEN 'MISMATCH'
    WHEN verdict = 'CREATE' AND operation <> 'INSERT'
        THEN CASE WHEN attrs ->> 'native' = 'true' THEN 'UPDATE'
                  WHEN NOT adopt THEN 'MISMATCH'
                  WHEN entity_type IN ('it_service', 'software_package') AND NOT update_matched THEN 'MATCH'
                  ELSE 'UPDATE' END
    ELSE verdict END;
COMMENT ON FUNCTION pgsync_itsm.dry_run_verdict(text, text, text, text, text, json, boolean, boolean) IS 'What a dry run makes of a verdict';

CREATE FUNCTION pgsync_itsm.dry_run_reason(verdict text, external_id text, external_table text, found_id text, found_table text, operation text, attrs json) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN attrs ->> 'error' IS NOT NULL THEN 'the platform would refuse it: ' || left(attrs ->> 'message', 500)
    WHEN operation LIKE 'INSERT\_AS\_%' THEN 'the platform would park it as unfinished instead of making it'
    WHEN attrs ->> 'merged' = 'true' THEN 'the platform takes it and another record here for the same CI'
    WHEN operation LIKE 'UPDATE\_WITH\_%' THEN format('its class there would change from %s to %s', coalesce(external_table, found_table), found_table)
    WHEN verdict = 'UPDATE' AND operation = 'INSERT' THEN 'deleted there'
    WHEN verdict = 'UPDATE' THEN format('the platform would write to %s instead of %s', found_id, external_id)
    WHEN attrs ->> 'native' = 'true' THEN 'found there by native key'
    ELSE format('the platform takes it for %s, which is there and not ours%s', found_id, ' (found by ' || (attrs ->> 'found_by') || ')') END;
COMMENT ON FUNCTION pgsync_itsm.dry_run_reason(text, text, text, text, text, text, json) IS 'The same in words, where the verdict changes';

CREATE FUNCTION pgsync_itsm.plan_dry_run(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    adopt boolean := pgsync_itsm.setting(run.connection_id, 'on_existing') = 'adopt';
    update_matched boolean := pgsync_itsm.setting(run.connection_id, 'update_matched')::boolean;
BEGIN
    IF NOT EXISTS (SELECT FROM pgsync_itsm.lookups AS l WHERE l.run_id = run.id AND l.kind = 'dry_run') THEN
        RETURN;
    END IF;
    -- An answer that leaves a record out, or a lock that was held, is no verdict: the plan's own stands, and says so.
    UPDATE pgsync_itsm.plan_records AS p
       SET warnings = coalesce(p.warnings, '[]') || to_jsonb(coalesce('not confirmed by a dry run: ' || left(x.attrs ->> 'message', 300), 'not confirmed by a dry run'))
      FROM pgsync_itsm.plan_records AS q
      LEFT JOIN pgsync_itsm.lookup_rows AS x ON x.run_id = run.id AND x.kind = 'dry_run' AND x.target = '' AND x.key = q.native_key
     WHERE q.run_id = run.id AND q.verdict IN ('CREATE', 'UPDATE') AND pgsync_itsm.is_identified(q.entity_type)
       AND (x.key IS NULL OR x.attrs ->> 'outcome' = 'retry' AND x.attrs ->> 'error' <> 'ABANDONED')
       AND p.run_id = run.id AND p.entity_type = q.entity_type AND p.entity_id = q.entity_id;
    UPDATE pgsync_itsm.plan_records AS p
       SET warnings = coalesce(p.warnings, '[]') || (SELECT jsonb_agg(format('%s: another data source owns it there', m.field))
                                                      FROM unnest(string_to_array(x.attrs ->> 'masked', ',')) AS m(field))
      FROM pgsync_itsm.lookup_rows AS x
     WHERE x.run_id = run.id AND x.kind = 'dry_run' AND x.attrs ->> 'masked' IS NOT NULL
       AND p.run_id = run.id AND p.native_key = x.key AND p.verdict = 'UPDATE';
    UPDATE pgsync_itsm.plan_records AS p
       SET verdict = d.verdict,
           reason = pgsync_itsm.dry_run_reason(p.verdict, p.external_id, p.external_table, d.found_id, d.found_table, d.operation, d.attrs),
           external_id = coalesce(p.external_id, d.found_id),
           external_table = CASE WHEN p.external_id IS NULL AND d.found_id IS NOT NULL THEN d.found_table ELSE p.external_table END
      FROM (SELECT q.entity_type, q.entity_id, x.external_id AS found_id, x.external_table AS found_table, x.label AS operation, x.attrs,
                   pgsync_itsm.dry_run_verdict(q.verdict, q.entity_type, q.external_id, x.external_id, x.label, x.attrs,
                                               adopt AND NOT pgsync_itsm.match_rejected(run.connection_id, q.entity_type, q.entity_id, x.external_id),
                                               update_matched) AS verdict
              FROM pgsync_itsm.plan_records AS q
              JOIN pgsync_itsm.lookup_rows AS x ON x.run_id = run.id AND x.kind = 'dry_run' AND x.target = '' AND x.key = q.native_key
             WHERE q.run_id = run.id AND q.verdict IN ('CREATE', 'UPDATE')) AS d
     WHERE p.run_id = run.id AND p.entity_type = d.entity_type AND p.entity_id = d.entity_id AND d.verdict <> p.verdict;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_dry_run(@extschema@.integration_runs) IS 'Takes over what the engine says that it would do';

-- What somebody changed there since the last agreement, and this plan would change back.  A value that an attempt of ours
-- may have left there is ours; one that was never seen to be taken was never agreed.
CREATE FUNCTION pgsync_itsm.plan_edited(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    two_way CONSTANT boolean := (SELECT c.sync_direction = 'both' FROM @extschema@.integration_connections AS c WHERE c.id = run.connection_id);
BEGIN
    IF pgsync_itsm.setting(run.connection_id, 'on_edited') <> 'hold' OR pgsync_itsm.setting(run.connection_id, 'verify') <> 'true' THEN
        RETURN;
    END IF;
    UPDATE pgsync_itsm.plan_records AS p
       SET verdict = 'MISMATCH', reason = 'edited there since the last sync, and would be overwritten: ' || e.words
      FROM (SELECT q.entity_type, q.entity_id, string_agg(format('%s (there "%s")', v.field, left(t.value, 60)), ', ' ORDER BY v.field) AS words
              FROM pgsync_itsm.plan_records AS q
              JOIN @extschema@.integration_sync_map AS m
                ON m.connection_id = run.connection_id AND m.entity_type = q.entity_type AND m.entity_id = q.entity_id AND m.last_agreed IS NOT NULL
               -- seen to be so: what was not read back may have been made something else of by the platform itself
               AND m.last_sync_hash IS NOT NULL
             CROSS JOIN LATERAL (
                   SELECT e.key AS field, e.value FROM json_each_text(q.payload) AS e
                   UNION ALL
                   -- empty here: where what is there is read as well, that comes first
                   SELECT a.key, '' FROM json_each_text(m.last_agreed) AS a
                    WHERE two_way AND a.value <> '' AND q.payload ->> a.key IS NULL
                      AND a.key IN (SELECT f.target_field FROM pgsync_itsm.mapped_fields(run.connection_id, q.entity_type) AS f WHERE f.authority NOT IN ('theirs', 'if_empty'))
                      AND NOT EXISTS (SELECT FROM jsonb_array_elements_text(coalesce(q.warnings, '[]')) AS w(words)
                                       WHERE starts_with(w.words, a.key || ':') OR starts_with(w.words, 'column ' || a.key || ' '))) AS v
             CROSS JOIN LATERAL (SELECT pgsync_itsm.plain_value(q.old_values ->> v.field) AS value, pgsync_itsm.plain_value(m.last_agreed ->> v.field) AS agreed) AS t
             WHERE q.run_id = run.id AND q.verdict = 'UPDATE' AND q.old_values IS NOT NULL AND v.field NOT LIKE '\_%'
               AND t.value IS NOT NULL AND t.agreed IS NOT NULL AND t.value <> t.agreed AND t.value <> pgsync_itsm.plain_value(v.value)
               AND NOT EXISTS (SELECT FROM @extschema@.integration_run_items AS u
                                WHERE u.connection_id = run.connection_id AND u.entity_id = q.entity_id AND (u.in_doubt OR u.unheard)
                                  -- what was agreed since has taken its place: whoever wrote that value again, it was not us
                                  AND u.updated_at > m.last_synced_at AND u.entity_type = q.entity_type AND pgsync_itsm.plain_value(u.payload ->> v.field) = t.value)
             GROUP BY q.entity_type, q.entity_id) AS e
     WHERE p.run_id = run.id AND p.entity_type = e.entity_type AND p.entity_id = e.entity_id;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_edited(@extschema@.integration_runs) IS 'Holds updates that would overwrite what somebody edited there (on_edited = hold)';
