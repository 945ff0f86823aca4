-- Reading back: what changed on the platform since the last time goes into the mirror, page by page, and what of it
-- concerns records of ours into the inbox.  Every page is one transaction with the place that it ends at, so that a
-- reading goes on where it was interrupted.
--
-- Only what is proven is concluded: a reading counts as complete if every row that the platform counts was shown, and a
-- record counts as gone if the platform's audit says so, or a complete sweep of ids did not meet it.

CREATE FUNCTION pgsync_itsm.check_read_setting(name text, value text) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF name IN ('read_overlap', 'sweep_every', 'read_every') AND value <> '' AND NOT pgsync_itsm.is_interval(value) THEN
        RAISE EXCEPTION 'invalid value "%" for connection setting "%"', value, name
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a time, such as 10 minutes or 1 day.';
    ELSIF name = 'read_tables' AND value !~ '^[a-z0-9_]+(\s*,\s*[a-z0-9_]+)*$' THEN
        RAISE EXCEPTION 'invalid value "%" for connection setting "%"', value, name
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give tables there, separated by commas, such as cmdb_ci_business_app, cmdb_ci_server.';
    ELSIF name = 'intake' AND value !~ '^((server|computer)(\s*,\s*(server|computer))*)?$' THEN
        RAISE EXCEPTION 'invalid value "%" for connection setting "%"', value, name
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give kinds of records, separated by commas: server, computer.';
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.check_read_setting(text, text) IS 'Raises a clear error if a setting of reading has no such value';

-- What is read --------------------------------------------------------------------------------------

CREATE FUNCTION pgsync_itsm.read_fields(connection_id uuid, target text) RETURNS text[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    types text[] := ARRAY(SELECT m.entity_type FROM pgsync_itsm.mirror_tables(read_fields.connection_id) AS m WHERE m.target = read_fields.target)
                    || CASE target WHEN 'ast_contract' THEN 'contract' WHEN 'sys_user' THEN 'contact' END;
BEGIN
    RETURN ARRAY(
        SELECT DISTINCT f.field
          FROM (SELECT unnest(CASE
                    WHEN target LIKE 'cmdb_ci_server%' OR target = 'cmdb_ci_computer'
                    THEN ARRAY['name', 'ip_address', 'fqdn', 'os', 'os_version', 'serial_number', 'asset_tag', 'operational_status', 'install_status',
                               'cpu_count', 'ram', 'disk_space', 'virtual', 'location', 'support_group', 'managed_by_group', 'discovery_source', 'last_discovered', 'duplicate_of']
                    WHEN target = 'sys_user' THEN ARRAY['name', 'user_name', 'email', 'first_name', 'last_name', 'title', 'phone', 'active', 'department', 'company']
                    WHEN target = 'ast_contract' THEN ARRAY['short_description', 'number', 'vendor', 'vendor_contract', 'starts', 'ends', 'state', 'contract_model']
                    WHEN target = 'cmdb_rel_ci' THEN ARRAY['parent', 'child', 'type']
                    WHEN target = 'sys_audit_delete' THEN ARRAY['tablename', 'documentkey']
                    WHEN EXISTS (SELECT FROM pgsync_itsm.mirror_tables(read_fields.connection_id) AS m WHERE m.target = read_fields.target)
                    THEN pgsync_itsm.mirror_fields(target)
                    ELSE ARRAY['name', 'operational_status', 'install_status', 'discovery_source', 'correlation_id'] END)
                UNION ALL
                SELECT w.field FROM unnest(types) AS t(entity_type), unnest(pgsync_itsm.wanted_fields(read_fields.connection_id, t.entity_type)) AS w(field)) AS f(field)
         WHERE f.field NOT IN ('sys_id', 'sys_class_name', 'sys_updated_on', 'sys_updated_by', 'sys_mod_count') ORDER BY f.field);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.read_fields(uuid, text) IS 'Columns that are read of a table there: those of matching and readiness, and those that the mapping fills';

-- Deletions and relationships are followed from now on; all else is read from the beginning.
CREATE FUNCTION pgsync_itsm.read_targets(connection_id uuid)
RETURNS TABLE (target text, filter text, from_now boolean, swept boolean)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT btrim(t.target),
           -- servers, and what is below, are read as such; of computers the rest
           CASE btrim(t.target) WHEN 'cmdb_ci_computer' THEN 'sys_class_name=cmdb_ci_computer' ELSE '' END,
           false, true
      FROM string_to_table(pgsync_itsm.setting(read_targets.connection_id, 'read_tables'), ',') AS t(target)
     WHERE btrim(t.target) NOT IN ('cmdb_rel_ci', 'sys_audit_delete')
    UNION ALL VALUES ('cmdb_rel_ci', '', true, false), ('sys_audit_delete', '', true, false);
END;
COMMENT ON FUNCTION pgsync_itsm.read_targets(uuid) IS
'Tables that a connection reads: the condition on rows, whether only what comes from now on, whether ids are swept';

CREATE FUNCTION pgsync_itsm.stamp_at(stamp text) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN stamp ~ '^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$' THEN make_timestamptz(substr(stamp, 1, 4)::integer, substr(stamp, 6, 2)::integer, substr(stamp, 9, 2)::integer,
            substr(stamp, 12, 2)::integer, substr(stamp, 15, 2)::integer, substr(stamp, 18, 2)::double precision, 'UTC') END;
COMMENT ON FUNCTION pgsync_itsm.stamp_at(text) IS 'The time that a stamp of the platform says; NULL: none';

-- Beginning -----------------------------------------------------------------------------------------

-- A pass goes through what was changed in a window of time, in the order of ids; what changes meanwhile is in the window of
-- the next one, which reaches back to where this one began, and an overlap further: for what is committed late.  A pass
-- that was interrupted goes on where it stopped, however long ago that was.
CREATE FUNCTION pgsync_itsm.read_begin(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM @extschema@.integration_watermarks AS w
     WHERE w.connection_id = run.connection_id AND NOT EXISTS (SELECT FROM pgsync_itsm.read_targets(run.connection_id) AS t WHERE t.target = w.external_table);
    INSERT INTO @extschema@.integration_watermarks AS w (connection_id, namespace_id, external_table, run_id, started_at, window_from)
    SELECT run.connection_id, run.namespace_id, t.target, run.id, clock_timestamp(), CASE WHEN t.from_now THEN clock_timestamp() END
      FROM pgsync_itsm.read_targets(run.connection_id) AS t
    ON CONFLICT (connection_id, external_table) DO UPDATE SET run_id = excluded.run_id;
    UPDATE @extschema@.integration_watermarks AS w
       SET state = 'reading', started_at = clock_timestamp(), window_from = coalesce(w.reached_at, w.window_from), cursor_id = '', cursor_offset = 0, rows = 0, changed = 0,
           hidden = false, expected = NULL, note = NULL,
           -- a clock that was set back does not tell how long ago something was
           broken = coalesce(w.reached_at > clock_timestamp(), false)
     WHERE w.connection_id = run.connection_id AND w.state <> 'reading';
END
$$;
COMMENT ON FUNCTION pgsync_itsm.read_begin(@extschema@.integration_runs) IS 'Begins a pass through every table that is read, or goes on with the one that was interrupted';

CREATE FUNCTION pgsync_itsm.read_since(run @extschema@.integration_runs, window_from timestamptz) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    overlap CONSTANT interval := coalesce(pgsync_itsm.setting(run.connection_id, 'read_overlap')::interval, '10 minutes');
    unit CONSTANT text := pgsync_itsm.setting(run.connection_id, 'read_unit');
    ago CONSTANT double precision := extract(epoch FROM greatest(clock_timestamp() - window_from, interval '0') + overlap) / CASE unit WHEN 'hour' THEN 3600 ELSE 60 END;
BEGIN
    -- whole units of a clock there: one more, for the part that has begun
    RETURN coalesce(format('@%s@ago@%s', unit, ceil(ago)::bigint + 1), '');
END
$$;
COMMENT ON FUNCTION pgsync_itsm.read_since(@extschema@.integration_runs, timestamptz) IS
'A time as the platform is asked for what changed since: how long ago it is; empty for null';

CREATE FUNCTION pgsync_itsm.read_ask(run @extschema@.integration_runs) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO pgsync_itsm.lookups (run_id, connection_id, kind, target, keys, fields)
    SELECT run.id, run.connection_id, 'changes', w.external_table,
           ARRAY[w.cursor_id, CASE WHEN w.window_from IS NULL THEN '' ELSE pgsync_itsm.read_since(run, w.window_from) END, least(w.page_rows, pgsync_itsm.setting(run.connection_id, 'read_page')::integer)::text, w.cursor_offset::text, t.filter],
           pgsync_itsm.read_fields(run.connection_id, w.external_table)
      FROM @extschema@.integration_watermarks AS w JOIN pgsync_itsm.read_targets(run.connection_id) AS t ON t.target = w.external_table
     WHERE w.connection_id = run.connection_id AND w.run_id = run.id AND w.state = 'reading'
       AND NOT EXISTS (SELECT FROM pgsync_itsm.lookups AS l WHERE l.run_id = run.id AND l.kind = 'changes' AND l.target = w.external_table);
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE @extschema@.integration_watermarks AS w SET asked_at = clock_timestamp()
     WHERE w.connection_id = run.connection_id AND w.run_id = run.id AND w.state = 'reading';
    RETURN true;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.read_ask(@extschema@.integration_runs) IS 'Asks for the next page of every table that is being read; false: of none';

-- Pages ---------------------------------------------------------------------------------------------

-- What of a reading differs from what was agreed is for the inbox; where nothing was agreed on a field, from what was read
-- before.  What comes back as we wrote it is no change of theirs, and neither is what is seen for the first time.
CREATE FUNCTION pgsync_itsm.read_concerns(fields text[], agreed json, before json, attrs json) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN EXISTS (SELECT FROM unnest(fields) AS f(field)
                WHERE attrs::jsonb ? f.field
                  AND pgsync_itsm.plain_value(coalesce(attrs ->> f.field, ''))
                      <> pgsync_itsm.plain_value(coalesce(agreed ->> f.field, before ->> f.field, attrs ->> f.field, '')));
COMMENT ON FUNCTION pgsync_itsm.read_concerns(text[], json, json, json) IS
'Does what was read of a record of ours differ, in a field of the mapping, from what was agreed, or else from what was read before';

CREATE FUNCTION pgsync_itsm.inbox_add(run @extschema@.integration_runs, origin text, map_ids uuid[], befores jsonb DEFAULT '{}') RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF map_ids = '{}' THEN
        RETURN;
    END IF;
    -- One row a record that is open or to be tried again: the newest.  What was known before the first of them is what all of them are compared with.
    WITH older AS (
        UPDATE @extschema@.integration_inbox AS b SET state = 'ignored', reason = 'superseded by a newer reading'
          FROM @extschema@.integration_sync_map AS m
         WHERE m.id = ANY (map_ids) AND b.connection_id = run.connection_id AND b.external_id = m.external_id AND b.state IN ('new', 'error')
        RETURNING m.id, b.before)
    INSERT INTO @extschema@.integration_inbox (connection_id, namespace_id, run_id, origin, external_table, external_id, entity_type, entity_id, before, body)
    SELECT run.connection_id, run.namespace_id, run.id, origin, coalesce(x.external_table, m.external_table), m.external_id, m.entity_type, m.entity_id,
           coalesce((SELECT o.before FROM older AS o WHERE o.id = m.id AND o.before IS NOT NULL LIMIT 1), (befores -> m.id::text)::json, m.last_agreed), x.attrs
      FROM @extschema@.integration_sync_map AS m
      LEFT JOIN @extschema@.integration_external_records AS x ON x.connection_id = m.connection_id AND x.external_id = m.external_id
     WHERE m.id = ANY (map_ids);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.inbox_add(@extschema@.integration_runs, text, uuid[], jsonb) IS
'Puts records of ours that were changed there into the inbox, with what was read and what was known before; a body that is null: it is gone there';

-- Of relationships only those around ours are kept: a CMDB may have millions.
CREATE FUNCTION pgsync_itsm.read_store(run @extschema@.integration_runs, kind text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    differ text[];
    concern uuid[];
    befores jsonb;
BEGIN
    -- however they were asked for, they are kept alike
    UPDATE pgsync_itsm.lookup_rows AS x
       SET target = 'cmdb_rel_ci', external_table = 'cmdb_rel_ci', label = NULL,
           attrs = json_build_object('parent', x.attrs ->> 'parent', 'child', x.attrs ->> 'child', 'type', x.attrs ->> 'type',
                                     'sys_updated_on', x.attrs ->> 'sys_updated_on', 'sys_updated_by', x.attrs ->> 'sys_updated_by')
     WHERE x.run_id = run.id AND x.kind = read_store.kind AND x.external_id IS NOT NULL AND x.target IN ('', 'cmdb_rel_ci');
    DELETE FROM pgsync_itsm.lookup_rows AS x
     WHERE x.run_id = run.id AND x.kind = read_store.kind AND x.external_id IS NOT NULL AND x.target = 'cmdb_rel_ci'
       AND NOT EXISTS (SELECT FROM @extschema@.integration_sync_map AS m
                        WHERE m.connection_id = run.connection_id AND m.external_id IN (x.attrs ->> 'parent', x.attrs ->> 'child') AND m.parent_id IS NULL);
    differ := ARRAY(
        SELECT DISTINCT x.external_id
          FROM pgsync_itsm.lookup_rows AS x
          LEFT JOIN @extschema@.integration_external_records AS r ON r.connection_id = run.connection_id AND r.external_id = x.external_id
         WHERE x.run_id = run.id AND x.kind = read_store.kind AND x.external_id IS NOT NULL AND x.target <> 'sys_audit_delete'
           AND (r.external_id IS NULL OR (r.external_table, r.attrs::text) IS DISTINCT FROM (coalesce(x.external_table, x.target), x.attrs::text)));
        WITH ours AS MATERIALIZED (
            SELECT m.id, m.entity_type, m.last_agreed, r.attrs AS before, x.attrs, m.external_id
              FROM pgsync_itsm.lookup_rows AS x
              JOIN @extschema@.integration_sync_map AS m ON m.connection_id = run.connection_id AND m.external_id = x.external_id AND m.parent_id IS NULL
              LEFT JOIN @extschema@.integration_external_records AS r ON r.connection_id = run.connection_id AND r.external_id = x.external_id
             WHERE x.run_id = run.id AND x.kind = read_store.kind AND x.external_id = ANY (differ) AND x.target <> 'cmdb_rel_ci'),
        fields AS MATERIALIZED (
            SELECT t.entity_type, array_remove(array_remove(pgsync_itsm.wanted_fields(run.connection_id, t.entity_type), 'sys_mod_count'), 'number') AS fields
              FROM (SELECT DISTINCT o.entity_type FROM ours AS o) AS t)
        SELECT coalesce(array_agg(DISTINCT o.id), '{}'), jsonb_object_agg(o.id, coalesce(pgsync_itsm.merged(o.before, o.last_agreed), '{}')::jsonb)
          INTO concern, befores
          FROM ours AS o JOIN fields AS f ON f.entity_type = o.entity_type
         WHERE pgsync_itsm.read_concerns(f.fields, o.last_agreed, o.before, o.attrs)
            -- what was changed back there takes the place of a change that is not dealt with yet
            OR EXISTS (SELECT FROM @extschema@.integration_inbox AS b
                        WHERE b.connection_id = run.connection_id AND b.external_id = o.external_id AND b.state IN ('new', 'error'));
    INSERT INTO @extschema@.integration_external_records AS r
        (connection_id, namespace_id, external_table, external_id, target, name, attrs, updated_there_at, updated_there_by, last_changed)
    SELECT DISTINCT ON (x.external_id) run.connection_id, run.namespace_id, coalesce(x.external_table, x.target), x.external_id, x.target,
           coalesce(x.label, x.attrs ->> 'name', x.attrs ->> 'short_description'), x.attrs, pgsync_itsm.stamp_at(x.attrs ->> 'sys_updated_on'), x.attrs ->> 'sys_updated_by', now()
      FROM pgsync_itsm.lookup_rows AS x
     WHERE x.run_id = run.id AND x.kind = read_store.kind AND x.external_id IS NOT NULL AND x.target <> 'sys_audit_delete'
     ORDER BY x.external_id, x.attrs ->> 'sys_updated_on' DESC
    ON CONFLICT (connection_id, external_id) DO UPDATE
       SET external_table = excluded.external_table, target = excluded.target, name = excluded.name, attrs = excluded.attrs,
           updated_there_at = excluded.updated_there_at, updated_there_by = excluded.updated_there_by, last_seen = now(),
           last_changed = CASE WHEN excluded.external_id = ANY (differ) THEN now() ELSE r.last_changed END;
    UPDATE @extschema@.integration_watermarks AS w SET changed = w.changed + n.changed
      FROM (SELECT x.target, count(DISTINCT x.external_id) AS changed FROM pgsync_itsm.lookup_rows AS x
             WHERE x.run_id = run.id AND x.kind = read_store.kind AND x.external_id = ANY (differ) GROUP BY x.target) AS n
     WHERE w.connection_id = run.connection_id AND w.external_table = n.target;
    PERFORM pgsync_itsm.inbox_add(run, 'poll', concern, befores);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.read_store(@extschema@.integration_runs, text) IS 'Takes rows that were read into the mirror, and what concerns records of ours into the inbox';

CREATE FUNCTION pgsync_itsm.read_gone(run @extschema@.integration_runs, origin text, ids text[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    ours uuid[];
BEGIN
    IF ids = '{}' THEN
        RETURN;
    END IF;
    -- a relationship is found by its ends: there is no index of its id
    ours := ARRAY(
        SELECT m.id FROM @extschema@.integration_sync_map AS m
         WHERE m.connection_id = run.connection_id AND m.external_id = ANY (ids) AND m.parent_id IS NULL AND m.state NOT IN ('gone', 'left')
        UNION ALL
        SELECT m.id FROM @extschema@.integration_external_records AS x
          JOIN @extschema@.integration_sync_map AS p ON p.connection_id = x.connection_id AND p.external_id = x.attrs ->> 'parent' AND p.parent_id IS NULL
          JOIN @extschema@.integration_sync_map AS m ON m.parent_id = p.entity_id AND m.connection_id = x.connection_id AND m.external_id = x.external_id
         WHERE x.connection_id = run.connection_id AND x.external_id = ANY (ids) AND x.target = 'cmdb_rel_ci' AND m.state NOT IN ('gone', 'left'));
    DELETE FROM @extschema@.integration_external_records AS r WHERE r.connection_id = run.connection_id AND r.external_id = ANY (ids);
    PERFORM pgsync_itsm.inbox_add(run, origin, ours);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.read_gone(@extschema@.integration_runs, text, text[]) IS 'Takes out of the mirror what is proven to be gone there, and tells the inbox of what was ours';

-- The place that a page ends at, and whether it was the last.  The platform applies the limit before it hides rows: one may
-- show fewer than it holds, or none, while more follow.  A full page is never taken for the last, whatever the count says.
CREATE FUNCTION pgsync_itsm.read_pages(run @extschema@.integration_runs)
RETURNS TABLE (target text, rows bigint, total bigint, size bigint, skipped bigint, last_id text, oldest text, refusal text, attempts integer)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT l.target, n.rows, n.total, l.keys[3]::bigint, l.keys[4]::bigint, n.last_id, n.oldest,
           CASE WHEN n.total IS NULL THEN coalesce(l.error_message, l.error_class, 'no answer') END, l.attempts
      FROM pgsync_itsm.lookups AS l
     CROSS JOIN LATERAL (SELECT count(x.external_id) AS rows, max(x.label::bigint) FILTER (WHERE x.external_id IS NULL) AS total,
                                max(x.external_id COLLATE "C") AS last_id, min(x.attrs ->> 'sys_updated_on') AS oldest
                           FROM pgsync_itsm.lookup_rows AS x WHERE x.run_id = l.run_id AND x.kind = 'changes' AND x.target = l.target) AS n
     WHERE l.run_id = read_pages.run.id AND l.kind = 'changes' AND l.state = 'done';
END;
COMMENT ON FUNCTION pgsync_itsm.read_pages(@extschema@.integration_runs) IS
'Pages that were answered: rows shown, rows counted from the cursor on, where the page ends; refusal: why the table may not be read';

CREATE FUNCTION pgsync_itsm.read_advance(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE @extschema@.integration_watermarks AS w
       SET rows = w.rows + p.rows, hidden = w.hidden OR p.rows <> least(p.total - p.skipped, p.size),
           -- what followed the last page is still there, unless it was deleted
           broken = w.broken OR coalesce(p.total - p.skipped < w.expected, false),
           expected = greatest(p.total - p.skipped - p.size, 0),
           cursor_id = coalesce(p.last_id, w.cursor_id),
           -- behind a page of which nothing is shown there is no id to go on from
           cursor_offset = CASE WHEN p.rows = 0 AND NOT p.is_last THEN w.cursor_offset + p.size ELSE 0 END,
           state = CASE WHEN p.is_last THEN 'done' ELSE 'reading' END,
           note = CASE WHEN w.window_from IS NOT NULL AND pgsync_itsm.stamp_at(p.oldest) < w.window_from - interval '2 days'
                       THEN 'what is asked for is not only what changed: the platform does not understand the condition, see read_unit' ELSE w.note END,
           -- what takes long, or had to be asked twice, is asked in smaller pages
           page_rows = CASE WHEN p.attempts > 1 OR clock_timestamp() - w.asked_at > interval '10 s' THEN greatest(p.size / 2, 50)
                            WHEN p.rows = p.size AND clock_timestamp() - w.asked_at < interval '3 s' THEN least(p.size * 2, pgsync_itsm.setting(run.connection_id, 'read_page')::integer) ELSE w.page_rows END
      FROM (SELECT x.*, x.total - x.skipped <= x.size AND x.rows < x.size AS is_last FROM pgsync_itsm.read_pages(run) AS x WHERE x.refusal IS NULL) AS p
     WHERE w.connection_id = run.connection_id AND w.external_table = p.target;
    UPDATE @extschema@.integration_watermarks AS w SET state = 'refused', complete = false, note = left(p.refusal, 500), asked_at = NULL
      FROM pgsync_itsm.read_pages(run) AS p
     WHERE w.connection_id = run.connection_id AND w.external_table = p.target AND p.refusal IS NOT NULL;
    UPDATE @extschema@.integration_watermarks AS w
       SET complete = NOT (w.hidden OR w.broken), reached_at = w.started_at, read_at = now(), asked_at = NULL,
           note = CASE WHEN w.hidden THEN 'rows are counted that are not shown: nothing is concluded from what is missing'
                       WHEN w.broken THEN 'rows that were counted before are not there any more: the table is swept' ELSE w.note END,
           -- a table that was read from its beginning was met id by id
           swept_at = CASE WHEN w.broken THEN NULL WHEN w.window_from IS NULL THEN now() ELSE w.swept_at END,
           swept_whole = CASE WHEN w.window_from IS NULL THEN NOT (w.hidden OR w.broken) ELSE w.swept_whole END
     WHERE w.connection_id = run.connection_id AND w.run_id = run.id AND w.state = 'done' AND w.asked_at IS NOT NULL;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.read_advance(@extschema@.integration_runs) IS 'Moves the cursors behind the pages that were answered; a table whose last page was among them is done';

CREATE FUNCTION pgsync_itsm.read_take(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pgsync_itsm.read_gone(run, 'audit', ARRAY(
        SELECT x.attrs ->> 'documentkey' FROM pgsync_itsm.lookup_rows AS x
         WHERE x.run_id = run.id AND x.kind = 'changes' AND x.target = 'sys_audit_delete' AND x.external_id IS NOT NULL));
    PERFORM pgsync_itsm.read_store(run, 'changes');
    PERFORM pgsync_itsm.read_advance(run);
    DELETE FROM pgsync_itsm.lookup_rows AS x WHERE x.run_id = run.id AND x.kind = 'changes';
    DELETE FROM pgsync_itsm.lookups AS l WHERE l.run_id = run.id AND l.kind = 'changes' AND l.state = 'done';
END
$$;
COMMENT ON FUNCTION pgsync_itsm.read_take(@extschema@.integration_runs) IS 'Takes the pages that were answered into mirror and inbox, with the places that they end at';

-- Sweeps --------------------------------------------------------------------------------------------

-- Ids and stamps of a whole table.  They find what was deleted, where nobody may read the audit, and what changed without
-- a new stamp, or with one that lies further back than any overlap.
CREATE FUNCTION pgsync_itsm.sweep_begin(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    every CONSTANT interval := pgsync_itsm.setting(run.connection_id, 'sweep_every')::interval;
BEGIN
    UPDATE @extschema@.integration_watermarks AS w
       SET sweep_run_id = run.id, sweep_id = '', sweep_hidden = false,
           sweep_from = CASE WHEN w.sweep_run_id IS NOT NULL THEN w.sweep_from ELSE now() END
      FROM pgsync_itsm.read_targets(run.connection_id) AS t
     WHERE w.connection_id = run.connection_id AND t.target = w.external_table AND t.swept AND w.state = 'done' AND w.reached_at IS NOT NULL
       AND (w.swept_at IS NULL OR w.swept_at < now() - every);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.sweep_begin(@extschema@.integration_runs) IS 'Begins a sweep of the tables for which one is due';

CREATE FUNCTION pgsync_itsm.sweep_ask(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    w record;
BEGIN
    FOR w IN SELECT x.external_table, x.sweep_id FROM @extschema@.integration_watermarks AS x
              WHERE x.connection_id = run.connection_id AND x.sweep_run_id = run.id AND x.sweep_id IS NOT NULL AND x.external_table <> 'cmdb_rel_ci'
                AND NOT EXISTS (SELECT FROM pgsync_itsm.lookups AS l WHERE l.run_id = run.id AND l.kind = 'page' AND l.target = x.external_table)
              ORDER BY 1 LOOP
        PERFORM pgsync_itsm.ask(run, 'page', w.external_table, ARRAY[w.sweep_id], ARRAY['sys_updated_on']);
    END LOOP;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.sweep_ask(@extschema@.integration_runs) IS 'Asks for the next page of ids of every table that is being swept';

CREATE FUNCTION pgsync_itsm.read_ask_records(run @extschema@.integration_runs, target text, ids text[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pgsync_itsm.ask(run, 'record', target, ids,
                            ARRAY['sys_updated_on', 'sys_updated_by', 'sys_mod_count'] || pgsync_itsm.read_fields(run.connection_id, target));
END
$$;
COMMENT ON FUNCTION pgsync_itsm.read_ask_records(@extschema@.integration_runs, text, text[]) IS 'Asks for records by their ids, with what a reading of changes brings';

CREATE FUNCTION pgsync_itsm.sweep_take(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    size CONSTANT integer := 1000;
    p record;
    unknown text[];
BEGIN
    FOR p IN SELECT l.id, l.target, n.*, l.error_class IS NOT NULL AND n.total IS NULL AS refused
               FROM pgsync_itsm.lookups AS l
              CROSS JOIN LATERAL (SELECT count(x.external_id) AS rows, max(x.external_id COLLATE "C") AS last, max(x.label::bigint) FILTER (WHERE x.external_id IS NULL) AS total
                                    FROM pgsync_itsm.lookup_rows AS x WHERE x.run_id = run.id AND x.kind = 'page' AND x.target = l.target) AS n
              WHERE l.run_id = run.id AND l.kind = 'page' AND l.state = 'done' LOOP
        UPDATE @extschema@.integration_external_records AS r SET last_seen = now()
          FROM pgsync_itsm.lookup_rows AS x
         WHERE x.run_id = run.id AND x.kind = 'page' AND x.target = p.target AND x.external_id IS NOT NULL
           AND r.connection_id = run.connection_id AND r.external_id = x.external_id
           AND r.updated_there_at IS NOT DISTINCT FROM pgsync_itsm.stamp_at(x.attrs ->> 'sys_updated_on');
        unknown := ARRAY(SELECT x.external_id FROM pgsync_itsm.lookup_rows AS x
                          WHERE x.run_id = run.id AND x.kind = 'page' AND x.target = p.target AND x.external_id IS NOT NULL
                            AND NOT EXISTS (SELECT FROM @extschema@.integration_external_records AS r
                                             WHERE r.connection_id = run.connection_id AND r.external_id = x.external_id
                                               AND r.updated_there_at IS NOT DISTINCT FROM pgsync_itsm.stamp_at(x.attrs ->> 'sys_updated_on')));
        PERFORM pgsync_itsm.read_ask_records(run, p.target, unknown);
        UPDATE @extschema@.integration_watermarks AS w
           SET sweep_hidden = w.sweep_hidden OR p.total IS NULL OR p.rows <> least(p.total, size),
               sweep_id = CASE WHEN p.total IS NULL OR p.total <= size AND p.rows < size OR p.rows = 0 THEN NULL ELSE p.last END
         WHERE w.connection_id = run.connection_id AND w.external_table = p.target;
    END LOOP;
    DELETE FROM pgsync_itsm.lookup_rows AS x WHERE x.run_id = run.id AND x.kind = 'page';
    DELETE FROM pgsync_itsm.lookups AS l WHERE l.run_id = run.id AND l.kind = 'page' AND l.state = 'done';
END
$$;
COMMENT ON FUNCTION pgsync_itsm.sweep_take(@extschema@.integration_runs) IS
'Takes pages of ids: what is known was seen, what is not, or has another stamp, is asked for; the sweep goes on behind them';

CREATE FUNCTION pgsync_itsm.read_take_records(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pgsync_itsm.read_store(run, 'record');
    DELETE FROM pgsync_itsm.lookup_rows AS x WHERE x.run_id = run.id AND x.kind = 'record';
    DELETE FROM pgsync_itsm.lookups AS l WHERE l.run_id = run.id AND l.kind = 'record' AND l.state = 'done';
END
$$;
COMMENT ON FUNCTION pgsync_itsm.read_take_records(@extschema@.integration_runs) IS 'Takes records that were asked for by their ids';

-- What a sweep did not meet is asked for by its id before it counts as gone: a count that was wrong, or a page that was
-- cut short, looks like a table with fewer rows.  Very many of them are no deletions, but a platform that has a problem.
CREATE FUNCTION pgsync_itsm.sweep_confirm(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    w record;
    missing text[];
BEGIN
    FOR w IN SELECT x.* FROM @extschema@.integration_watermarks AS x
              WHERE x.connection_id = run.connection_id AND x.sweep_run_id = run.id AND x.sweep_id IS NULL ORDER BY x.external_table LOOP
        missing := CASE WHEN w.sweep_hidden THEN '{}' ELSE ARRAY(
            SELECT r.external_id FROM @extschema@.integration_external_records AS r
             WHERE r.connection_id = run.connection_id AND r.target = w.external_table AND r.last_seen < w.sweep_from) END;
        IF cardinality(missing) > 100
           AND cardinality(missing) * 5 > (SELECT count(*) FROM @extschema@.integration_external_records AS r WHERE r.connection_id = run.connection_id AND r.target = w.external_table) THEN
            UPDATE @extschema@.integration_watermarks AS x SET sweep_hidden = true,
                   note = format('%s records were not met by a sweep, more than a fifth of all: nothing is concluded from that', cardinality(missing))
             WHERE x.connection_id = run.connection_id AND x.external_table = w.external_table;
        ELSE
            PERFORM pgsync_itsm.read_ask_records(run, w.external_table, missing);
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.sweep_confirm(@extschema@.integration_runs) IS 'Asks by their ids for the records that complete sweeps did not meet';

CREATE FUNCTION pgsync_itsm.sweep_end(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- gone is what was asked for by its id, by a question that was answered in full, and is not in the answer
    PERFORM pgsync_itsm.read_gone(run, 'sweep', ARRAY(
        SELECT k.key FROM pgsync_itsm.lookups AS l, unnest(l.keys) AS k(key)
         WHERE l.run_id = run.id AND l.kind = 'record' AND l.state = 'done' AND l.error_class IS NULL AND l.error_message IS NULL
           AND NOT EXISTS (SELECT FROM pgsync_itsm.lookup_rows AS x WHERE x.run_id = run.id AND x.kind = 'record' AND x.external_id = k.key)
           AND EXISTS (SELECT FROM @extschema@.integration_external_records AS r JOIN @extschema@.integration_watermarks AS w
                           ON w.connection_id = r.connection_id AND w.external_table = r.target AND w.sweep_run_id = run.id AND NOT w.sweep_hidden
                        WHERE r.connection_id = run.connection_id AND r.external_id = k.key AND r.last_seen < w.sweep_from)));
    PERFORM pgsync_itsm.read_take_records(run);
    UPDATE @extschema@.integration_watermarks AS w
       SET swept_at = now(), swept_whole = NOT w.sweep_hidden, sweep_run_id = NULL, sweep_id = NULL
     WHERE w.connection_id = run.connection_id AND w.sweep_run_id = run.id;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.sweep_end(@extschema@.integration_runs) IS 'Ends the sweeps: what was asked for by its id and is not there, is gone';

-- Relationships around what is ours -----------------------------------------------------------------

-- All of them when a sweep is due, else those of records that have become ours since.
CREATE FUNCTION pgsync_itsm.relations_ask(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    w @extschema@.integration_watermarks;
    due boolean;
    ids text[];
BEGIN
    SELECT * INTO w FROM @extschema@.integration_watermarks AS x WHERE x.connection_id = run.connection_id AND x.external_table = 'cmdb_rel_ci' AND x.state = 'done';
    IF NOT FOUND THEN
        RETURN;
    END IF;
    due := w.swept_at IS NULL OR w.swept_at < now() - pgsync_itsm.setting(run.connection_id, 'sweep_every')::interval;
    IF due THEN
        UPDATE @extschema@.integration_watermarks AS x SET sweep_run_id = run.id, sweep_id = NULL, sweep_hidden = false, sweep_from = now()
         WHERE x.connection_id = run.connection_id AND x.external_table = 'cmdb_rel_ci';
    END IF;
    ids := ARRAY(
        SELECT m.external_id FROM @extschema@.integration_sync_map AS m
         WHERE m.connection_id = run.connection_id AND m.parent_id IS NULL AND (m.external_table LIKE 'cmdb\_ci%' OR m.external_table = 'service_offering')
           AND m.state NOT IN ('gone', 'left') AND m.external_id IS NOT NULL AND (due OR m.created_at >= w.swept_at));
    PERFORM pgsync_itsm.ask(run, 'relation', '', ids, ARRAY['sys_updated_on', 'sys_updated_by'], chunk => 20);
    UPDATE @extschema@.integration_watermarks AS x SET sweep_id = CASE WHEN ids <> '{}' THEN 'asked' END
     WHERE x.connection_id = run.connection_id AND x.external_table = 'cmdb_rel_ci' AND x.sweep_run_id = run.id;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.relations_ask(@extschema@.integration_runs) IS 'Asks for the relationships of records of ours';

CREATE FUNCTION pgsync_itsm.relations_take(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- A crash empties the work space: what was asked, and is neither open nor answered, is asked again.
    IF NOT EXISTS (SELECT FROM pgsync_itsm.lookups AS l WHERE l.run_id = run.id AND l.kind = 'relation') THEN
        IF EXISTS (SELECT FROM @extschema@.integration_watermarks AS w
                    WHERE w.connection_id = run.connection_id AND w.external_table = 'cmdb_rel_ci' AND w.sweep_run_id = run.id AND w.sweep_id = 'asked') THEN
            PERFORM pgsync_itsm.relations_ask(run);
        END IF;
        RETURN;
    END IF;
    UPDATE @extschema@.integration_watermarks AS w SET sweep_hidden = true
     WHERE w.connection_id = run.connection_id AND w.external_table = 'cmdb_rel_ci' AND w.sweep_run_id = run.id
       AND EXISTS (SELECT FROM pgsync_itsm.lookups AS l WHERE l.run_id = run.id AND l.kind = 'relation' AND (l.error_class IS NOT NULL OR l.error_message IS NOT NULL));
    PERFORM pgsync_itsm.read_store(run, 'relation');
    DELETE FROM pgsync_itsm.lookup_rows AS x WHERE x.run_id = run.id AND x.kind = 'relation';
    UPDATE @extschema@.integration_watermarks AS w SET sweep_id = NULL
     WHERE w.connection_id = run.connection_id AND w.external_table = 'cmdb_rel_ci' AND w.sweep_run_id = run.id;
    DELETE FROM pgsync_itsm.lookups AS l WHERE l.run_id = run.id AND l.kind = 'relation' AND l.state = 'done';
END
$$;
COMMENT ON FUNCTION pgsync_itsm.relations_take(@extschema@.integration_runs) IS 'Takes relationships of records of ours into the mirror';

-- A run ---------------------------------------------------------------------------------------------

CREATE FUNCTION pgsync_itsm.read_summary(run @extschema@.integration_runs) RETURNS text
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT concat_ws('; ',
               format('%s rows of %s tables read, %s new or changed', coalesce(sum(w.rows), 0), count(*) FILTER (WHERE w.state = 'done'), coalesce(sum(w.changed), 0)),
               (SELECT format('%s records of ours concerned, %s of them gone there', count(*), count(*) FILTER (WHERE b.body IS NULL))
                  FROM @extschema@.integration_inbox AS b WHERE b.run_id = read_summary.run.id HAVING count(*) > 0),
               'not to be read: ' || string_agg(w.external_table, ', ' ORDER BY w.external_table) FILTER (WHERE w.state = 'refused'),
               'not shown whole: ' || string_agg(w.external_table, ', ' ORDER BY w.external_table) FILTER (WHERE w.state = 'done' AND NOT w.complete))
      FROM @extschema@.integration_watermarks AS w WHERE w.connection_id = read_summary.run.connection_id;
END;
COMMENT ON FUNCTION pgsync_itsm.read_summary(@extschema@.integration_runs) IS 'What a reading brought, in words';

CREATE FUNCTION pgsync_itsm.read_phase(run @extschema@.integration_runs) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    CASE run.phase
        WHEN 'queued' THEN
            PERFORM pgsync_itsm.clear_plan(run.id);
            PERFORM pgsync_itsm.read_begin(run);
            PERFORM pgsync_itsm.read_ask(run);
            RETURN 'changes';
        WHEN 'changes' THEN
            PERFORM pgsync_itsm.read_take(run);
            IF pgsync_itsm.read_ask(run) THEN
                RETURN 'changes';
            END IF;
            PERFORM pgsync_itsm.sweep_begin(run);
            PERFORM pgsync_itsm.relations_ask(run);
            RETURN 'sweep';
        WHEN 'sweep' THEN
            PERFORM pgsync_itsm.relations_take(run);
            PERFORM pgsync_itsm.read_take_records(run);
            PERFORM pgsync_itsm.sweep_take(run);
            PERFORM pgsync_itsm.sweep_ask(run);
            IF EXISTS (SELECT FROM pgsync_itsm.lookups AS l WHERE l.run_id = run.id) THEN
                RETURN 'sweep';
            END IF;
            PERFORM pgsync_itsm.sweep_confirm(run);
            RETURN 'confirm';
        WHEN 'confirm' THEN
            PERFORM pgsync_itsm.sweep_end(run);
            UPDATE @extschema@.integration_runs AS r SET summary = pgsync_itsm.read_summary(run),
                   in_scope = (SELECT sum(w.rows) FROM @extschema@.integration_watermarks AS w WHERE w.connection_id = run.connection_id)
             WHERE r.id = run.id;
            RETURN 'ours';
        ELSE
            RETURN pgsync_itsm.merge_phase(run);
    END CASE;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.read_phase(@extschema@.integration_runs) IS 'Does one phase of a subscribe run and returns the next; NULL at the end';

CREATE FUNCTION @extschema@.itsm_subscribe(namespace_id uuid, connection_id uuid DEFAULT NULL) RETURNS SETOF bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    RETURN QUERY SELECT pgsync_itsm.new_runs(namespace_id, 'subscribe', NULL, connection_id, NULL, false);
END
$$;
COMMENT ON FUNCTION @extschema@.itsm_subscribe(uuid, uuid) IS
'Reads what changed on the platform since the last time into integration_external_records, and what of it concerns records of ours into integration_inbox; integration_watermarks says how far each table was read';

-- The mirror by kind --------------------------------------------------------------------------------

CREATE VIEW @extschema@.integration_external_cis WITH (security_invoker = true) AS
SELECT r.connection_id, r.namespace_id, r.external_table AS class, r.external_id, r.name, r.attrs ->> 'number' AS number, r.attrs ->> 'correlation_id' AS correlation_id,
       r.attrs ->> 'operational_status' AS operational_status, r.attrs ->> 'install_status' AS install_status, r.attrs ->> 'discovery_source' AS discovery_source,
       m.entity_type, m.entity_id, r.attrs, r.first_seen, r.last_seen, r.last_changed, r.updated_there_at, r.updated_there_by
  FROM @extschema@.integration_external_records AS r
  LEFT JOIN @extschema@.integration_sync_map AS m ON m.connection_id = r.connection_id AND m.external_id = r.external_id AND m.parent_id IS NULL
 WHERE r.external_table LIKE 'cmdb\_ci%' AND r.target NOT IN ('cmdb_ci_server', 'cmdb_ci_computer') OR r.external_table = 'service_offering';
COMMENT ON VIEW @extschema@.integration_external_cis IS 'Applications and services that were read there, with the record here that is theirs';

CREATE VIEW @extschema@.integration_external_servers WITH (security_invoker = true) AS
SELECT r.connection_id, r.namespace_id, r.external_table AS class, r.external_id, r.name, r.attrs ->> 'fqdn' AS fqdn, r.attrs ->> 'ip_address' AS ip_address,
       r.attrs ->> 'os' AS os, r.attrs ->> 'os_version' AS os_version, r.attrs ->> 'serial_number' AS serial_number,
       r.attrs ->> 'operational_status' AS operational_status, r.attrs ->> 'virtual' = 'true' AS virtual,
       r.attrs, r.first_seen, r.last_seen, r.last_changed, r.updated_there_at, r.updated_there_by
  FROM @extschema@.integration_external_records AS r
 WHERE r.target IN ('cmdb_ci_server', 'cmdb_ci_computer');
COMMENT ON VIEW @extschema@.integration_external_servers IS 'Servers and computers that were read there';

CREATE VIEW @extschema@.integration_external_users WITH (security_invoker = true) AS
SELECT r.connection_id, r.namespace_id, r.external_id, r.attrs ->> 'user_name' AS user_name, r.name, r.attrs ->> 'email' AS email,
       r.attrs ->> 'title' AS title, r.attrs ->> 'phone' AS phone, r.attrs ->> 'active' = 'true' AS active,
       m.entity_id AS contact_id, r.attrs, r.first_seen, r.last_seen, r.last_changed, r.updated_there_at, r.updated_there_by
  FROM @extschema@.integration_external_records AS r
  LEFT JOIN @extschema@.integration_sync_map AS m ON m.connection_id = r.connection_id AND m.external_id = r.external_id AND m.parent_id IS NULL
 WHERE r.external_table = 'sys_user';
COMMENT ON VIEW @extschema@.integration_external_users IS 'Users that were read there, with the contact here that is theirs';

CREATE VIEW @extschema@.integration_external_relations WITH (security_invoker = true) AS
SELECT r.connection_id, r.namespace_id, r.external_id, r.attrs ->> 'type' AS type_id, r.attrs ->> 'parent' AS parent_id, p.name AS parent_name, p.external_table AS parent_class,
       r.attrs ->> 'child' AS child_id, c.name AS child_name, c.external_table AS child_class,
       r.first_seen, r.last_seen, r.last_changed, r.updated_there_at, r.updated_there_by
  FROM @extschema@.integration_external_records AS r
  LEFT JOIN @extschema@.integration_external_records AS p ON p.connection_id = r.connection_id AND p.external_id = r.attrs ->> 'parent'
  LEFT JOIN @extschema@.integration_external_records AS c ON c.connection_id = r.connection_id AND c.external_id = r.attrs ->> 'child'
 WHERE r.target = 'cmdb_rel_ci';
COMMENT ON VIEW @extschema@.integration_external_relations IS 'Relationships around records of ours that were read there';
