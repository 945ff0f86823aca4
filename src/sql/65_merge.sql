-- Merging: what was changed on the platform is compared with what is here, field by field, three ways (what was known
-- before, theirs, ours), and applied to the user's tables, left alone, or put before a person.
--
-- Ours is what a plan would send: the sources are read and resolved by the machinery of a partial plan, so that both
-- sides are compared in the platform's terms.

-- Deciding ------------------------------------------------------------------------------------------

CREATE FUNCTION pgsync_itsm.merge_decision(base text, ours text, theirs text, authority text, policy text, ours_at timestamptz, theirs_at timestamptz) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN theirs = base THEN 'nothing'
    WHEN theirs = ours THEN 'agreed'
    WHEN authority = 'ours' THEN 'ours'
    WHEN authority = 'if_empty' THEN CASE WHEN ours = '' THEN 'theirs' ELSE 'ours' END
    WHEN ours = base OR authority = 'theirs' THEN 'theirs'
    WHEN authority = 'manual' THEN 'conflict'
    WHEN authority = 'newest' OR policy = 'last_write_wins'
    -- the platform's times are seconds: of two changes in the same one nobody knows which was later
    THEN CASE WHEN ours_at IS NULL OR theirs_at IS NULL OR date_trunc('second', ours_at) = date_trunc('second', theirs_at) THEN 'conflict'
              WHEN theirs_at > ours_at THEN 'theirs' ELSE 'ours' END
    WHEN policy = 'local_wins' THEN 'ours'
    WHEN policy = 'remote_wins' THEN 'theirs'
    ELSE 'conflict' END;
COMMENT ON FUNCTION pgsync_itsm.merge_decision(text, text, text, text, text, timestamptz, timestamptz) IS
'Whose value holds of one field: nothing changed there, agreed, ours, theirs, or a conflict; authority as in integration_field_mappings, policy as in the setting conflict_policy';

CREATE FUNCTION pgsync_itsm.merge_fields(connection_id uuid, entity_type text, class text) RETURNS TABLE (field text, kind text, value_map jsonb, authority text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT m.target_field, m.kind, m.value_map, m.authority
      FROM pgsync_itsm.mapping_for(merge_fields.connection_id, merge_fields.entity_type, merge_fields.class) AS m
     WHERE m.target_field NOT LIKE '\_%' AND m.target_field NOT IN ('correlation_id', 'number');
END;
COMMENT ON FUNCTION pgsync_itsm.merge_fields(uuid, text, text) IS 'Fields of the mapping that are merged, for a class there';

-- A choice is stored there by its value; its label leads back to what the mapping made it from, where only one thing did,
-- else to the first by name.
CREATE FUNCTION pgsync_itsm.local_value(connection_id uuid, class text, field text, kind text, value_map jsonb, theirs text, OUT value text, OUT known boolean)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    label_there text;
BEGIN
    known := kind IN ('text', 'date') OR theirs = '';
    value := nullif(theirs, '');
    IF known OR kind <> 'choice' THEN
        RETURN;
    END IF;
    SELECT r.label INTO label_there FROM @extschema@.integration_references AS r
     WHERE r.connection_id = local_value.connection_id AND r.kind = 'choice' AND r.target = class AND split_part(r.key, '/', 1) = field AND r.external_id = theirs
     ORDER BY r.key LIMIT 1;
    IF value_map IS NULL THEN
        value := label_there;
    ELSE
        SELECT e.key INTO value FROM jsonb_each_text(value_map) AS e
         WHERE e.key <> '*' AND lower(label_there) IN (SELECT lower(btrim(a)) FROM string_to_table(e.value, '|') AS a)
         ORDER BY split_part(lower(e.value), '|', 1) <> lower(label_there), e.key LIMIT 1;
        IF value IS NULL AND value_map ->> '*' = '*' THEN
            value := label_there;
        END IF;
    END IF;
    known := value IS NOT NULL;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.local_value(uuid, text, text, text, jsonb, text) IS 'What a value of the platform is here; known: false if that cannot be told';

-- What a run has decided, a row a field.  Work space, as that of a plan.
CREATE UNLOGGED TABLE pgsync_itsm.merge_rows (
    run_id      bigint NOT NULL,
    map_id      uuid NOT NULL,
    inbox_id    bigint,
    entity_type text NOT NULL,
    entity_id   uuid NOT NULL,
    field       text NOT NULL,
    base        text NOT NULL,
    ours        text NOT NULL,
    theirs      text NOT NULL,
    ours_at     timestamptz,
    theirs_at   timestamptz,
    theirs_by   text,
    decision    text NOT NULL,
    local       text,
    reason      text,
    PRIMARY KEY (run_id, map_id, field)
);
COMMENT ON TABLE pgsync_itsm.merge_rows IS 'Work space: fields that were changed on the platform, and what a run makes of them';

-- Ours ------------------------------------------------------------------------------------------------

-- What could not be written, because somebody held the row or a trigger refused it, may be written now.
CREATE FUNCTION pgsync_itsm.merge_again(run @extschema@.integration_runs) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    UPDATE @extschema@.integration_inbox AS b SET state = 'new', reason = NULL
     WHERE b.connection_id = (merge_again.run).connection_id AND b.state = 'error';
END;
COMMENT ON FUNCTION pgsync_itsm.merge_again(@extschema@.integration_runs) IS 'Opens what is in the inbox and could not be written before';

CREATE FUNCTION pgsync_itsm.merge_keys(run @extschema@.integration_runs) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM pgsync_itsm.run_keys AS k WHERE k.run_id = run.id AND k.match_by <> 'gone';
    INSERT INTO pgsync_itsm.run_keys (run_id, entity_type, match_by, key)
    SELECT DISTINCT run.id, m.entity_type, 'key', substr(m.native_key, length(m.entity_type) + 2)
      FROM @extschema@.integration_sync_map AS m
     WHERE m.connection_id = run.connection_id AND m.parent_id IS NULL AND m.state = 'linked' AND m.entity_type = ANY (pgsync_itsm.wanted_types(run.connection_id))
       AND (EXISTS (SELECT FROM @extschema@.integration_inbox AS b
                     WHERE b.connection_id = run.connection_id AND b.external_id = m.external_id AND b.state = 'new' AND b.body IS NOT NULL)
            OR EXISTS (SELECT FROM @extschema@.integration_run_items AS i
                        WHERE i.run_id = run.id AND i.entity_type = m.entity_type AND i.entity_id = m.entity_id AND i.action = 'UPDATE')
            OR EXISTS (SELECT FROM @extschema@.integration_conflicts AS c
                        WHERE c.connection_id = run.connection_id AND c.entity_id = m.entity_id AND c.entity_type = m.entity_type AND c.state = 'open' AND c.resolution IS NULL));
    RETURN FOUND;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.merge_keys(@extschema@.integration_runs) IS 'Names the records that a run has to read here; false: none';

-- What the rows held before ours was read: a change that somebody makes after that is not written over.
CREATE UNLOGGED TABLE pgsync_itsm.merge_before (
    run_id      bigint NOT NULL,
    entity_type text NOT NULL,
    key         text NOT NULL,
    changed_at  timestamptz,
    columns     json,
    PRIMARY KEY (run_id, entity_type, key)
);
COMMENT ON TABLE pgsync_itsm.merge_before IS 'Work space: what rows of the user held before they were read for being merged';

-- A writer whose table cannot be read says so when it is to be written, of the records that it concerns.
CREATE FUNCTION pgsync_itsm.merge_look(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t record;
BEGIN
    DELETE FROM pgsync_itsm.merge_before AS b WHERE b.run_id = run.id;
    FOR t IN SELECT k.entity_type, array_agg(k.key) AS keys FROM pgsync_itsm.run_keys AS k WHERE k.run_id = run.id AND k.match_by = 'key' GROUP BY k.entity_type LOOP
        BEGIN
            INSERT INTO pgsync_itsm.merge_before (run_id, entity_type, key, changed_at, columns)
            SELECT run.id, t.entity_type, c.key, c.changed_at, c.columns FROM pgsync_itsm.changed_here(run.connection_id, t.entity_type, t.keys) AS c
            ON CONFLICT DO NOTHING;
        EXCEPTION WHEN query_canceled THEN
            RAISE;
        WHEN assert_failure OR others THEN
            CONTINUE;
        END;
    END LOOP;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.merge_look(@extschema@.integration_runs) IS 'Notes what the rows hold that may be written';

-- A partial plan of these records, as far as their payloads.
CREATE FUNCTION pgsync_itsm.merge_read(run @extschema@.integration_runs, phase text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    run.partial := true;
    run.phase := phase;
    PERFORM pgsync_itsm.plan_part(run, pgsync_itsm.wanted_types(run.connection_id));
END
$$;
COMMENT ON FUNCTION pgsync_itsm.merge_read(@extschema@.integration_runs, text) IS 'Reads and resolves the records of a run as a partial plan does; phase: queued or answers';

-- Comparing -------------------------------------------------------------------------------------------

-- A text that was cut when it was sent would lose its rest.
CREATE FUNCTION pgsync_itsm.is_cut(here text, sent text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(sent <> '' AND length(pgsync_itsm.plain_value(here)) > length(sent) AND starts_with(pgsync_itsm.plain_value(here), sent), false);
COMMENT ON FUNCTION pgsync_itsm.is_cut(text, text) IS 'Is what was sent of a text only its beginning';

CREATE FUNCTION pgsync_itsm.merge_compare(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    policy CONSTANT text := pgsync_itsm.setting(run.connection_id, 'conflict_policy');
BEGIN
    DELETE FROM pgsync_itsm.merge_rows AS r WHERE r.run_id = run.id;
    WITH records AS MATERIALIZED (
        SELECT m.id AS map_id, b.id AS inbox_id, m.entity_type, m.entity_id, m.external_table, substr(m.native_key, length(m.entity_type) + 2) AS key,
               b.before, b.body, p.payload, m.last_agreed, x.updated_there_at, x.updated_there_by
          FROM @extschema@.integration_inbox AS b
          JOIN @extschema@.integration_sync_map AS m ON m.connection_id = b.connection_id AND m.external_id = b.external_id AND m.parent_id IS NULL AND m.state = 'linked'
          JOIN pgsync_itsm.plan_records AS p ON p.run_id = run.id AND p.entity_type = m.entity_type AND p.entity_id = m.entity_id AND p.payload IS NOT NULL
          LEFT JOIN @extschema@.integration_external_records AS x ON x.connection_id = b.connection_id AND x.external_id = b.external_id
         WHERE b.connection_id = run.connection_id AND b.state = 'new' AND b.body IS NOT NULL
        UNION ALL
        -- conflicts that nobody has decided: by now the sides may agree, or only one of them differ from what was agreed
        SELECT m.id, NULL, m.entity_type, m.entity_id, m.external_table, substr(m.native_key, length(m.entity_type) + 2),
               o.base, (SELECT json_object_agg(k, x.attrs ->> k) FROM json_object_keys(o.base) AS k WHERE x.attrs::jsonb ? k), p.payload, m.last_agreed, x.updated_there_at, x.updated_there_by
          FROM (SELECT c.entity_type, c.entity_id, json_object_agg(c.field, c.base) AS base FROM @extschema@.integration_conflicts AS c
                 WHERE c.connection_id = run.connection_id AND c.state = 'open' AND c.resolution IS NULL GROUP BY 1, 2) AS o
          JOIN @extschema@.integration_sync_map AS m
            ON m.connection_id = run.connection_id AND m.entity_type = o.entity_type AND m.entity_id = o.entity_id AND m.parent_id IS NULL AND m.state = 'linked'
          JOIN pgsync_itsm.plan_records AS p ON p.run_id = run.id AND p.entity_type = m.entity_type AND p.entity_id = m.entity_id AND p.payload IS NOT NULL
          JOIN @extschema@.integration_external_records AS x ON x.connection_id = m.connection_id AND x.external_id = m.external_id
         WHERE NOT EXISTS (SELECT FROM @extschema@.integration_inbox AS b
                            WHERE b.connection_id = m.connection_id AND b.external_id = m.external_id AND b.state = 'new' AND b.body IS NOT NULL)
    ), fields AS MATERIALIZED (
        SELECT k.entity_type, k.external_table, f.* FROM (SELECT DISTINCT r.entity_type, r.external_table FROM records AS r) AS k
         CROSS JOIN LATERAL pgsync_itsm.merge_fields(run.connection_id, k.entity_type, k.external_table) AS f
    ), compared AS MATERIALIZED (
        SELECT r.map_id, r.inbox_id, r.entity_type, r.entity_id, r.external_table, f.field, f.kind, f.value_map, f.authority,
               pgsync_itsm.plain_value(coalesce(r.before ->> f.field, '')) AS base, pgsync_itsm.plain_value(coalesce(r.payload ->> f.field, '')) AS ours,
               pgsync_itsm.plain_value(coalesce(r.body ->> f.field, '')) AS theirs,
               r.last_agreed ->> f.field IS NULL AS never_sent, t.columns ->> f.field AS here,
               -- a value that is in conflict is as old as it was then, whatever else of its record has changed since
               CASE WHEN c.ours = pgsync_itsm.plain_value(coalesce(r.payload ->> f.field, '')) THEN c.ours_at ELSE t.changed_at END AS changed_at,
               CASE WHEN c.theirs = pgsync_itsm.plain_value(coalesce(r.body ->> f.field, '')) THEN c.theirs_at ELSE r.updated_there_at END AS updated_there_at,
               r.updated_there_by
          FROM records AS r JOIN fields AS f ON f.entity_type = r.entity_type AND f.external_table = r.external_table
          LEFT JOIN pgsync_itsm.merge_before AS t ON t.run_id = run.id AND t.entity_type = r.entity_type AND t.key = r.key
          LEFT JOIN @extschema@.integration_conflicts AS c
            ON c.connection_id = run.connection_id AND c.entity_id = r.entity_id AND c.entity_type = r.entity_type AND c.field = f.field AND c.state = 'open'
         WHERE r.body::jsonb ? f.field
    )
    INSERT INTO pgsync_itsm.merge_rows (run_id, map_id, inbox_id, entity_type, entity_id, field, base, ours, theirs, ours_at, theirs_at, theirs_by, decision, local, reason)
    SELECT run.id, c.map_id, c.inbox_id, c.entity_type, c.entity_id, c.field, c.base, c.ours, c.theirs, c.changed_at, c.updated_there_at, c.updated_there_by,
           -- what cannot be written here is nobody's to decide
           CASE WHEN d.decision IN ('theirs', 'conflict') AND NOT w.written OR d.decision = 'theirs' AND NOT v.known THEN 'skip' WHEN t.cut THEN 'conflict' ELSE d.decision END, v.value,
           CASE WHEN d.decision IN ('theirs', 'conflict') AND NOT w.written THEN 'no column here is written for it: itsm_set_writer()'
                WHEN d.decision = 'theirs' AND NOT v.known THEN coalesce(v.reason, format('"%s" there is nothing that is known here', left(c.theirs, 60)))
                WHEN t.cut THEN 'more is here than was sent' END
      FROM compared AS c
     -- what was empty when the record was sent, and is so still, was not changed here, whatever it was there
     CROSS JOIN LATERAL (SELECT pgsync_itsm.merge_decision(c.base, CASE WHEN c.never_sent AND c.ours = '' AND c.theirs <> '' AND c.authority <> 'if_empty' THEN c.base ELSE c.ours END,
                                                           c.theirs, c.authority, policy, c.changed_at, c.updated_there_at) AS decision) AS d
     CROSS JOIN LATERAL pgsync_itsm.merge_local(run.id, run.connection_id, c.entity_type, c.external_table, c.field, c.kind, c.value_map, c.theirs) AS v
     CROSS JOIN LATERAL (SELECT pgsync_itsm.is_written(run.connection_id, c.entity_type, c.field) AS written) AS w
     CROSS JOIN LATERAL (SELECT d.decision = 'theirs' AND c.kind = 'text' AND pgsync_itsm.is_cut(c.here, c.ours) AS cut) AS t
     WHERE d.decision <> 'nothing';
END
$$;
COMMENT ON FUNCTION pgsync_itsm.merge_compare(@extschema@.integration_runs) IS 'Compares what is in the inbox with what is here, and decides field by field';

-- What is shown, and kept as a plan: records that are written here, fields that nobody can write, conflicts, what is gone there.
CREATE FUNCTION pgsync_itsm.merge_items(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO @extschema@.integration_run_items
        (run_id, connection_id, namespace_id, ord, step, entity_type, entity_id, native_key, label, action, state, payload, old_values, external_id, external_table, reason)
    SELECT run.id, run.connection_id, run.namespace_id, 10, 'in', m.entity_type, m.entity_id, m.native_key, left(coalesce(m.published_name, m.native_key), 300),
           k.action, k.state, k.payload, k.old_values, m.external_id, m.external_table, k.reason
      FROM (SELECT r.map_id, CASE r.decision WHEN 'theirs' THEN 'UPDATE' WHEN 'conflict' THEN 'MISMATCH' ELSE 'SKIP' END AS action,
                   CASE r.decision WHEN 'theirs' THEN 'planned' WHEN 'conflict' THEN 'held' ELSE 'skipped' END AS state,
                   json_object_agg(r.field, r.theirs ORDER BY r.field) AS payload, json_object_agg(r.field, r.ours ORDER BY r.field) AS old_values,
                   CASE r.decision WHEN 'theirs' THEN format('changed there%s', coalesce(' by ' || nullif(min(r.theirs_by), ''), ''))
                        WHEN 'conflict' THEN format('%s: %s', CASE WHEN bool_or(r.reason IS NULL) THEN 'changed on both sides' ELSE 'to be decided' END,
                                                     string_agg(r.field || coalesce(' (' || r.reason || ')', ''), ', ' ORDER BY r.field))
                        ELSE string_agg(format('%s: %s', r.field, r.reason), '; ' ORDER BY r.field) END AS reason
              FROM pgsync_itsm.merge_rows AS r
             WHERE r.run_id = run.id AND r.decision IN ('theirs', 'conflict', 'skip')
             GROUP BY r.map_id, r.decision) AS k
      JOIN @extschema@.integration_sync_map AS m ON m.id = k.map_id
    UNION ALL
    SELECT DISTINCT ON (m.entity_id, m.entity_type) run.id, run.connection_id, run.namespace_id, 10, 'in', m.entity_type, m.entity_id, m.native_key,
           left(coalesce(m.published_name, m.native_key), 300), 'MISMATCH', 'held', NULL::json, NULL::json, m.external_id, m.external_table,
           CASE WHEN b.origin = 'audit' THEN 'deleted there' ELSE 'not there any more' END
      FROM @extschema@.integration_inbox AS b
      JOIN @extschema@.integration_sync_map AS m ON m.connection_id = b.connection_id AND m.entity_type = b.entity_type AND m.entity_id = b.entity_id
     WHERE b.connection_id = run.connection_id AND b.state = 'new' AND b.body IS NULL AND m.external_id = b.external_id
    ON CONFLICT DO NOTHING;
    UPDATE @extschema@.integration_runs AS r
       SET to_update = c.updates, held = c.held, skipped = c.skipped, planned_at = now(),
           summary = concat_ws('; ', r.summary, format('%s records to be changed here, %s need a decision', c.updates, c.held))
      FROM (SELECT count(*) FILTER (WHERE i.state = 'planned') AS updates, count(*) FILTER (WHERE i.state = 'held') AS held,
                   count(*) FILTER (WHERE i.state = 'skipped') AS skipped
              FROM @extschema@.integration_run_items AS i WHERE i.run_id = run.id) AS c
     WHERE r.id = run.id;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.merge_items(@extschema@.integration_runs) IS 'Makes the items of a subscribe run from what was decided';

-- What was agreed moves to what is there, so that a publish sends ours again and takes it for nobody's edit.
CREATE FUNCTION pgsync_itsm.merge_settle(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE @extschema@.integration_sync_map AS m
       SET last_agreed = pgsync_itsm.merged(m.last_agreed, k.theirs), source_hash = NULL, source_version = NULL,
           last_sent_hash = CASE WHEN k.ours_holds THEN NULL ELSE m.last_sent_hash END
      FROM (SELECT r.map_id, json_object_agg(r.field, r.theirs) AS theirs, bool_or(r.decision = 'ours') AS ours_holds
              FROM pgsync_itsm.merge_rows AS r WHERE r.run_id = run.id AND r.decision IN ('agreed', 'ours') GROUP BY r.map_id) AS k
     WHERE m.id = k.map_id;
    INSERT INTO @extschema@.integration_conflicts AS c
        (connection_id, namespace_id, run_id, entity_type, entity_id, label, field, base, ours, ours_at, theirs, theirs_at, theirs_by)
    SELECT run.connection_id, run.namespace_id, run.id, r.entity_type, r.entity_id, m.published_name, r.field, r.base, r.ours, r.ours_at, r.theirs, r.theirs_at, r.theirs_by
      FROM pgsync_itsm.merge_rows AS r JOIN @extschema@.integration_sync_map AS m ON m.id = r.map_id
     WHERE r.run_id = run.id AND r.decision = 'conflict'
    ON CONFLICT (connection_id, entity_id, entity_type, field) WHERE state = 'open'
    DO UPDATE SET resolution = CASE WHEN c.theirs = excluded.theirs THEN c.resolution END, ours = excluded.ours, ours_at = excluded.ours_at, theirs = excluded.theirs, theirs_at = excluded.theirs_at, theirs_by = excluded.theirs_by, run_id = excluded.run_id;
    -- one whose value here is theirs now is over when that is written
    UPDATE @extschema@.integration_conflicts AS c SET state = 'resolved', resolution = 'agreed', resolved_at = now()
      FROM pgsync_itsm.merge_rows AS r
     WHERE r.run_id = run.id AND r.decision IN ('agreed', 'ours') AND c.connection_id = run.connection_id AND c.state = 'open'
       AND c.entity_type = r.entity_type AND c.entity_id = r.entity_id AND c.field = r.field;
    UPDATE @extschema@.integration_sync_map AS m SET state = 'gone'
      FROM @extschema@.integration_inbox AS b
     WHERE b.connection_id = run.connection_id AND b.state = 'new' AND b.body IS NULL AND m.connection_id = b.connection_id AND m.parent_id IS NULL
       AND m.entity_type = b.entity_type AND m.entity_id = b.entity_id AND m.external_id = b.external_id AND m.state = 'linked';
    PERFORM pgsync_itsm.conflicts_overtaken(run.connection_id);
    UPDATE @extschema@.integration_inbox AS b
       SET state = CASE WHEN i.held OR NOT i.here THEN 'ignored' ELSE 'applied' END,
           reason = CASE WHEN b.body IS NULL THEN 'gone there' WHEN i.held THEN 'waits for a decision' WHEN NOT i.here THEN 'the record is not published from here any more' END
      FROM (SELECT x.id, x.body IS NULL OR EXISTS (SELECT FROM pgsync_itsm.plan_records AS p
                                                    WHERE p.run_id = run.id AND p.entity_type = x.entity_type AND p.entity_id = x.entity_id) AS here,
                   EXISTS (SELECT FROM pgsync_itsm.merge_rows AS r WHERE r.run_id = run.id AND r.inbox_id = x.id AND r.decision IN ('conflict', 'skip')) AS held
              FROM @extschema@.integration_inbox AS x
             WHERE x.connection_id = run.connection_id AND x.state = 'new'
               AND NOT EXISTS (SELECT FROM pgsync_itsm.merge_rows AS r WHERE r.run_id = run.id AND r.inbox_id = x.id AND r.decision = 'theirs')) AS i
     WHERE b.id = i.id;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.merge_settle(@extschema@.integration_runs) IS 'Notes what needs no writing here: what is agreed, what stays ours, conflicts, what is gone there';

-- Applying --------------------------------------------------------------------------------------------

-- One record in one transaction; false: none is left.
CREATE FUNCTION pgsync_itsm.merge_apply(run @extschema@.integration_runs) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    i @extschema@.integration_run_items;
    fields text[];
    locals text[];
    before text[];
    w record;
    moved boolean;
BEGIN
    SELECT * INTO i FROM @extschema@.integration_run_items AS x
     WHERE x.run_id = run.id AND x.state = 'planned' AND x.step = 'in' AND x.action = 'UPDATE' ORDER BY x.id LIMIT 1;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    -- of fields there that are one column here, and say the same, one is written
    SELECT array_agg(o.field ORDER BY o.field), array_agg(o.local ORDER BY o.field), CASE WHEN bool_and(o.seen) THEN array_agg(o.before ORDER BY o.field) END
      INTO fields, locals, before
      FROM (SELECT DISTINCT ON (coalesce(c.col, '/' || r.field), c.expression, r.local) r.field, r.local, b.columns ->> r.field AS before, b.run_id IS NOT NULL AS seen
              FROM pgsync_itsm.merge_rows AS r
              LEFT JOIN pgsync_itsm.writer_columns((pgsync_itsm.writer_of(run.connection_id, i.entity_type)).columns) AS c ON c.field = r.field
              LEFT JOIN pgsync_itsm.merge_before AS b ON b.run_id = run.id AND b.entity_type = i.entity_type AND b.key = substr(i.native_key, length(i.entity_type) + 2)
             WHERE r.run_id = run.id AND r.decision = 'theirs' AND i.payload::jsonb ? r.field
               AND r.map_id = (SELECT m.id FROM @extschema@.integration_sync_map AS m
                                WHERE m.connection_id = run.connection_id AND m.entity_id = i.entity_id AND m.entity_type = i.entity_type)
             ORDER BY coalesce(c.col, '/' || r.field), c.expression, r.local, r.field) AS o;
    w := pgsync_itsm.try_write_record(run, i, fields, locals, before);
    moved := NOT w.ok AND w.reason = 'it was changed here meanwhile';
    UPDATE @extschema@.integration_run_items AS x
       SET state = CASE WHEN w.ok THEN 'done' WHEN moved THEN 'refused' ELSE 'dead' END, outcome = CASE WHEN w.ok THEN 'done' WHEN NOT moved THEN 'dead' END,
           error_class = CASE WHEN NOT w.ok AND NOT moved THEN 'NOT_WRITTEN' END, reason = coalesce(w.reason, x.reason), updated_at = now()
     WHERE x.id = i.id;
    -- what was overtaken stays in the inbox, for the next run to compare
    UPDATE @extschema@.integration_inbox AS b
       SET state = CASE WHEN w.ok THEN 'applied' ELSE 'error' END, reason = w.reason
     WHERE b.connection_id = run.connection_id AND b.external_id = i.external_id AND b.state = 'new' AND NOT moved AND run.purpose IS DISTINCT FROM 'decision';
    IF moved THEN
        RETURN true;
    ELSIF w.ok THEN
        UPDATE @extschema@.integration_sync_map AS m
           SET last_agreed = CASE WHEN run.purpose = 'decision' THEN m.last_agreed ELSE pgsync_itsm.merged(m.last_agreed, i.payload) END, last_sent_hash = NULL, source_hash = NULL, source_version = NULL
         WHERE m.connection_id = run.connection_id AND m.entity_type = i.entity_type AND m.entity_id = i.entity_id;
        UPDATE @extschema@.integration_conflicts AS c SET state = 'resolved', resolution = coalesce(c.resolution, 'theirs'), resolved_at = now()
         WHERE c.connection_id = run.connection_id AND c.entity_type = i.entity_type AND c.entity_id = i.entity_id
           AND c.state = 'open' AND (run.purpose = 'decision') = (c.resolution IS NOT NULL) AND i.payload::jsonb ? c.field;
    END IF;
    INSERT INTO @extschema@.integration_sync_log
        (connection_id, namespace_id, run_id, item_id, operation, entity_type, entity_id, status, external_id, error_class, error_message, response_payload)
    VALUES (run.connection_id, run.namespace_id, run.id, i.id, 'read', i.entity_type, i.entity_id, CASE WHEN w.ok THEN 'success' ELSE 'error' END, i.external_id,
            CASE WHEN NOT w.ok THEN 'NOT_WRITTEN' END, w.reason, i.payload);
    RETURN true;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.merge_apply(@extschema@.integration_runs) IS 'Writes the next record of a subscribe run into the user''s table; false if none is left';

-- What is here now is what both sides agree on: the next plan finds nothing to send, unless what was written here came to
-- something else.
CREATE FUNCTION pgsync_itsm.merge_agree(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE @extschema@.integration_sync_map AS m SET last_sent_hash = p.payload_hash
      FROM @extschema@.integration_run_items AS i
      JOIN pgsync_itsm.plan_records AS p ON p.run_id = i.run_id AND p.entity_type = i.entity_type AND p.entity_id = i.entity_id AND p.payload_hash IS NOT NULL
     WHERE i.run_id = run.id AND i.action = 'UPDATE' AND i.state = 'done' AND m.connection_id = run.connection_id AND m.entity_type = i.entity_type AND m.entity_id = i.entity_id
       AND NOT EXISTS (SELECT FROM json_each_text(p.payload) AS v(field, value)
                        WHERE v.field NOT LIKE '\_%' AND v.field <> 'correlation_id'
                          AND pgsync_itsm.plain_value(v.value) IS DISTINCT FROM pgsync_itsm.plain_value(m.last_agreed ->> v.field))
       -- what is empty here is not in a payload, and may have to be cleared there
       AND NOT EXISTS (SELECT FROM json_each_text(m.last_agreed) AS a(field, value) WHERE a.value <> '' AND a.field NOT LIKE '\_%' AND p.payload ->> a.field IS NULL);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.merge_agree(@extschema@.integration_runs) IS 'Notes for records that were written here that nothing has to be sent';

-- When a plan that was shown is applied, what moved since on either side is refused.
CREATE FUNCTION pgsync_itsm.merge_recheck(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE @extschema@.integration_run_items AS i
       SET state = 'refused', updated_at = now(), reason = coalesce(format('changed since the plan: %s', f.fields), 'nothing of it is left to be applied')
      FROM @extschema@.integration_run_items AS j
      LEFT JOIN LATERAL (SELECT string_agg(v.field, ', ' ORDER BY v.field) AS fields, count(*) FILTER (WHERE r.field IS NULL) AS missing
                           FROM json_each_text(j.payload) AS v(field, value)
                           LEFT JOIN pgsync_itsm.merge_rows AS r
                             ON r.run_id = run.id AND r.entity_type = j.entity_type AND r.entity_id = j.entity_id AND r.field = v.field AND r.decision = 'theirs'
                          WHERE r.field IS NULL OR r.theirs <> v.value OR r.ours <> j.old_values ->> v.field) AS f ON true
     WHERE j.run_id = run.id AND j.state = 'planned' AND j.action = 'UPDATE' AND j.step = 'in' AND i.id = j.id AND f.fields IS NOT NULL;
    -- what has come up since is for the next run
    DELETE FROM pgsync_itsm.merge_rows AS r
     WHERE r.run_id = run.id AND r.decision = 'theirs'
       AND NOT EXISTS (SELECT FROM @extschema@.integration_run_items AS i
                        WHERE i.run_id = run.id AND i.entity_type = r.entity_type AND i.entity_id = r.entity_id AND i.action = 'UPDATE' AND i.state = 'planned' AND i.payload::jsonb ? r.field);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.merge_recheck(@extschema@.integration_runs) IS 'Refuses what was planned and has changed since, here or there';

-- What somebody has decided is written as it is.
CREATE FUNCTION pgsync_itsm.merge_decided(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO pgsync_itsm.merge_rows (run_id, map_id, entity_type, entity_id, field, base, ours, theirs, decision, local)
    SELECT run.id, m.id, m.entity_type, m.entity_id, v.field, '', '', v.value, 'theirs', l.value
      FROM @extschema@.integration_run_items AS i
      JOIN @extschema@.integration_sync_map AS m ON m.connection_id = i.connection_id AND m.entity_type = i.entity_type AND m.entity_id = i.entity_id
     CROSS JOIN LATERAL json_each_text(i.payload) AS v(field, value)
      JOIN LATERAL pgsync_itsm.merge_fields(i.connection_id, i.entity_type, i.external_table) AS f ON f.field = v.field
     CROSS JOIN LATERAL pgsync_itsm.merge_local(run.id, i.connection_id, i.entity_type, i.external_table, f.field, f.kind, f.value_map, v.value) AS l
     WHERE i.run_id = run.id AND i.state = 'planned' AND i.action = 'UPDATE' AND l.known;
    -- all that was decided about a record, or nothing of it
    UPDATE @extschema@.integration_run_items AS i
       SET state = 'dead', error_class = 'NOT_WRITTEN', reason = format('the value is nothing that is known here: %s', k.fields), updated_at = now()
      FROM (SELECT x.id, string_agg(v.field, ', ' ORDER BY v.field) AS fields
              FROM @extschema@.integration_run_items AS x CROSS JOIN LATERAL json_object_keys(x.payload) AS v(field)
             WHERE x.run_id = run.id AND x.state = 'planned' AND x.action = 'UPDATE'
               AND NOT EXISTS (SELECT FROM pgsync_itsm.merge_rows AS r
                                 JOIN @extschema@.integration_sync_map AS m ON m.id = r.map_id
                                WHERE r.run_id = run.id AND r.field = v.field AND m.connection_id = x.connection_id AND m.entity_type = x.entity_type AND m.entity_id = x.entity_id)
             GROUP BY x.id) AS k
     WHERE i.id = k.id;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.merge_decided(@extschema@.integration_runs) IS 'Prepares what was decided about conflicts for being written here';

CREATE FUNCTION pgsync_itsm.merge_phase(run @extschema@.integration_runs) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    reads boolean;
    asks boolean;
BEGIN
    CASE run.phase
        WHEN 'decided' THEN
            PERFORM pgsync_itsm.clear_plan(run.id);
            PERFORM pgsync_itsm.refs_look(run);
            PERFORM pgsync_itsm.merge_decided(run);
            PERFORM pgsync_itsm.intake_items(run);
            RETURN 'apply';
        WHEN 'recheck', 'ours' THEN
            PERFORM pgsync_itsm.merge_again(run);
            reads := pgsync_itsm.merge_keys(run);
            IF reads THEN
                PERFORM pgsync_itsm.merge_look(run);
                PERFORM pgsync_itsm.roles_look(run);
                PERFORM pgsync_itsm.merge_read(run, 'queued');
            END IF;
            PERFORM pgsync_itsm.intake_look(run);
            asks := pgsync_itsm.intake_ask(run);
            RETURN CASE WHEN asks OR reads THEN 'ours answers' ELSE 'merge' END;
        WHEN 'ours answers' THEN
            PERFORM pgsync_itsm.merge_read(run, 'answers');
            RETURN 'merge';
        WHEN 'merge' THEN
            PERFORM pgsync_itsm.merge_compare(run);
            IF EXISTS (SELECT FROM @extschema@.integration_run_items AS i WHERE i.run_id = run.id) THEN
                PERFORM pgsync_itsm.merge_recheck(run);
                PERFORM pgsync_itsm.intake_recheck(run);
            ELSE
                PERFORM pgsync_itsm.merge_items(run);
                PERFORM pgsync_itsm.intake_items(run);
                IF run.purpose = 'preview' AND NOT run.confirm THEN
                    UPDATE @extschema@.integration_runs AS r SET status = 'planned', phase = 'apply' WHERE r.id = run.id;
                    PERFORM pgsync_itsm.clear_plan(run.id);
                    RETURN NULL;
                END IF;
                PERFORM pgsync_itsm.merge_settle(run);
                PERFORM pgsync_itsm.intake_settle(run);
            END IF;
            RETURN 'apply';
        WHEN 'apply' THEN
            IF pgsync_itsm.intake_apply(run, 'in contacts') OR pgsync_itsm.merge_apply(run) OR pgsync_itsm.intake_apply(run, 'in servers') OR pgsync_itsm.intake_apply_links(run) THEN
                RETURN 'apply';
            ELSIF EXISTS (SELECT FROM @extschema@.integration_run_items AS i WHERE i.run_id = run.id AND i.step = 'in' AND i.action = 'UPDATE' AND i.state = 'done')
                  AND pgsync_itsm.merge_keys(run) THEN
                PERFORM pgsync_itsm.merge_read(run, 'queued');
                RETURN 'after';
            END IF;
            RETURN 'end';
        WHEN 'end' THEN
            PERFORM pgsync_itsm.finish_run(run.id, 'done');
            RETURN NULL;
        WHEN 'after' THEN
            PERFORM pgsync_itsm.merge_read(run, 'answers');
            PERFORM pgsync_itsm.merge_agree(run);
            PERFORM pgsync_itsm.finish_run(run.id, 'done');
            RETURN NULL;
        ELSE
            RAISE EXCEPTION 'run % has the unknown phase "%"', run.id, run.phase;
    END CASE;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.merge_phase(@extschema@.integration_runs) IS 'Does one phase of merging and returns the next; NULL at the end';

-- Conflicts -------------------------------------------------------------------------------------------

CREATE FUNCTION pgsync_itsm.conflict_holds(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE pgsync_itsm.plan_records AS p
       SET verdict = 'MISMATCH', reason = format('changed on both sides, and waits for a decision: %s', c.fields)
      FROM (SELECT o.entity_type, o.entity_id, string_agg(o.field, ', ' ORDER BY o.field) AS fields FROM @extschema@.integration_conflicts AS o
             WHERE o.connection_id = run.connection_id AND o.state = 'open' GROUP BY 1, 2) AS c
     WHERE p.run_id = run.id AND p.verdict = 'UPDATE' AND p.entity_type = c.entity_type AND p.entity_id = c.entity_id;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.conflict_holds(@extschema@.integration_runs) IS 'Holds records with a conflict that nobody has decided';

-- What was decided and could not be written here is decided anew: its publish would send the value that was decided against.
-- Agreed is then what was before: a change there that is taken back leaves no conflict.
CREATE FUNCTION pgsync_itsm.reopen_conflicts(run_id bigint) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH reopened AS (
        UPDATE @extschema@.integration_conflicts AS c SET resolution = NULL, resolved_by = NULL
          FROM @extschema@.integration_runs AS r JOIN @extschema@.integration_run_items AS i ON i.run_id = r.id
         WHERE r.id = reopen_conflicts.run_id AND r.purpose = 'decision' AND i.state <> 'done' AND c.connection_id = i.connection_id
           AND c.entity_type = i.entity_type AND c.entity_id = i.entity_id AND c.state = 'open' AND i.payload::jsonb ? c.field
        RETURNING c.connection_id, c.entity_type, c.entity_id, c.field, c.base, c.theirs)
    UPDATE @extschema@.integration_sync_map AS m SET last_agreed = pgsync_itsm.merged(m.last_agreed, k.bases)
      FROM (SELECT o.id, json_object_agg(x.field, x.base) AS bases
              FROM reopened AS x JOIN @extschema@.integration_sync_map AS o ON o.connection_id = x.connection_id AND o.entity_type = x.entity_type AND o.entity_id = x.entity_id
             WHERE o.last_agreed ->> x.field = x.theirs GROUP BY o.id) AS k
     WHERE m.id = k.id;
END;
COMMENT ON FUNCTION pgsync_itsm.reopen_conflicts(bigint) IS 'Takes back decisions that a run that ends could not write here';

CREATE FUNCTION pgsync_itsm.seen_conflict(conflict_id bigint) RETURNS @extschema@.integration_conflicts
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c @extschema@.integration_conflicts;
BEGIN
    SELECT * INTO c FROM @extschema@.integration_conflicts AS x WHERE x.id = conflict_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'conflict % does not exist', coalesce(conflict_id::text, 'NULL')
            USING ERRCODE = 'undefined_object', HINT = 'SELECT id, label, field, ours, theirs FROM integration_conflicts WHERE state = ''open'';';
    END IF;
    RETURN c;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.seen_conflict(bigint) IS 'A conflict''s row, or the same error whether it is not there or not visible';
