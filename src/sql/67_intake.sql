-- Intakes: what the platform knows and the user's database does not (servers, computers) is taken over into a table of the
-- user's choice, and linked to records of ours by the relationships there.
--
-- Rows are added and updated, never deleted.  What belongs together is remembered in integration_intake_map, apart from the
-- map of what is published.  Composed here; intake_read() and intake_write() (source.c) execute it, as the connection's owner.

CREATE FUNCTION pgsync_itsm.intake_kinds() RETURNS TABLE (kind text, target text, match_field text, step text, ord integer, by_setting boolean)
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    VALUES ('server', 'cmdb_ci_server', 'name', 'in servers', 20, true), ('computer', 'cmdb_ci_computer', 'name', 'in servers', 20, true),
           ('contact', 'sys_user', 'email', 'in contacts', 5, false), ('group', 'sys_user_group', 'name', 'in groups', 6, false);
END;
COMMENT ON FUNCTION pgsync_itsm.intake_kinds() IS 'What can be taken over: the table there, the field that a row here is found by, and whether the setting "intake" turns it on; contacts are only made if they are needed, groups never';

CREATE FUNCTION pgsync_itsm.intake_of(connection_id uuid, kind text) RETURNS @extschema@.integration_intakes
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT i.* FROM @extschema@.integration_intakes AS i
     WHERE i.kind = intake_of.kind AND (i.connection_id = intake_of.connection_id OR i.connection_id IS NULL)
     ORDER BY i.connection_id IS NULL LIMIT 1;
END;
COMMENT ON FUNCTION pgsync_itsm.intake_of(uuid, text) IS 'The intake of a kind that applies to a connection';

CREATE FUNCTION pgsync_itsm.intakes_on(connection_id uuid) RETURNS TABLE (kind text, target text, step text, ord integer, by_setting boolean, relation text, name_column text, gone jsonb, links jsonb)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT k.kind, k.target, k.step, k.ord, k.by_setting, i.relation, c.col, i.gone, i.links
      FROM pgsync_itsm.intake_kinds() AS k
     CROSS JOIN LATERAL pgsync_itsm.intake_of(intakes_on.connection_id, k.kind) AS i
      JOIN LATERAL pgsync_itsm.writer_columns(i.columns) AS c ON c.field = k.match_field
     WHERE k.kind = 'contact' OR k.kind IN (SELECT btrim(s) FROM string_to_table(pgsync_itsm.setting(intakes_on.connection_id, 'intake'), ',') AS s);
END;
COMMENT ON FUNCTION pgsync_itsm.intakes_on(uuid) IS 'What the setting "intake" of a connection turns on, and contacts, as far as there is a table for it';

CREATE FUNCTION pgsync_itsm.lives_there(attrs json) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(attrs ->> 'duplicate_of', '') = '' AND coalesce(attrs ->> 'install_status', '') <> '7';
COMMENT ON FUNCTION pgsync_itsm.lives_there(json) IS 'Is a CI neither retired nor marked as the duplicate of another';

CREATE FUNCTION pgsync_itsm.intake_hash(attrs json) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN md5((attrs::jsonb - ARRAY['sys_updated_on', 'sys_updated_by', 'sys_mod_count', 'last_discovered'])::text);
COMMENT ON FUNCTION pgsync_itsm.intake_hash(json) IS 'What was read of a record there, in short, without what changes by being looked at';

-- Statements ------------------------------------------------------------------------------------------

-- Questions ($1, $2: lists; $3: namespace) give three columns.  Statements ($1: key, $2: values, $3: what the columns have to
-- hold, both JSON by column; $4: namespace) give the key of the row.
CREATE FUNCTION pgsync_itsm.compose_intake(i @extschema@.integration_intakes, what text, cols text[]) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    rel CONSTANT text := to_regclass(i.relation)::text;
    key_type CONSTANT text := pgsync_itsm.column_type(i.relation, i.key_column);
    match_col CONSTANT text := (SELECT c.col FROM pgsync_itsm.writer_columns(i.columns) AS c JOIN pgsync_itsm.intake_kinds() AS k ON k.kind = i.kind AND k.match_field = c.field);
    inside text := '';
    missing text;
BEGIN
    IF i.id IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT string_agg(format('"%s"', c.col), ', ') INTO missing
      FROM (SELECT i.key_column AS col UNION SELECT w.col FROM pgsync_itsm.writer_columns(i.columns) AS w UNION SELECT i.namespace_column UNION SELECT i.gone ->> 'column') AS c
     WHERE c.col IS NOT NULL AND pgsync_itsm.column_type(i.relation, c.col) IS NULL;
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'the intake of kind "%" names %, column %, which is not there', i.kind, i.relation, missing
            USING ERRCODE = 'undefined_column', HINT = 'SELECT itsm_set_intake(...); tells where it is now.';
    END IF;
    IF i.namespace_column IS NOT NULL THEN
        inside := format(' AND t.%I = $%s::text::%s', i.namespace_column, CASE WHEN what IN ('rows', 'values') THEN 3 ELSE 4 END, pgsync_itsm.column_type(i.relation, i.namespace_column));
    END IF;
    CASE what
        WHEN 'values' THEN
            RETURN format(E'SELECT r.id, NULL::text, json_build_object(%s) FROM (SELECT u.id, u.record::json AS record FROM unnest($1, $2) AS u(id, record)) AS r',
                (SELECT string_agg(format(E'%L, (SELECT (%s\n)::%s::text FROM (SELECT nullif(r.record ->> %L, '''') AS value, r.record AS record) AS v)',
                                          c.col, coalesce(c.expression, 'value'), pgsync_itsm.column_type(i.relation, c.col), c.field), ', ' ORDER BY c.field)
                   FROM pgsync_itsm.writer_columns(i.columns) AS c));
        WHEN 'rows' THEN
            RETURN format('SELECT t.%1$I::text, lower(btrim(t.%2$I::text)), json_build_object(%3$s) FROM %4$s AS t WHERE (lower(btrim(t.%2$I::text)) = ANY ($1) OR t.%1$I = ANY ($2::%5$s[]))%6$s',
                i.key_column, match_col,
                (SELECT string_agg(DISTINCT format('%L, t.%I::text', c.col, c.col), ', ')
                   FROM (SELECT w.col FROM pgsync_itsm.writer_columns(i.columns) AS w UNION SELECT i.gone ->> 'column') AS c WHERE c.col IS NOT NULL),
                rel, key_type, inside);
        WHEN 'links' THEN
            RETURN format('SELECT t.%I::text, t.%I::text, NULL::json FROM %s AS t WHERE t.%I = ANY ($1::%s[])', i.links ->> 'entity_column', i.links ->> 'key_column',
                to_regclass(i.links ->> 'relation'), i.links ->> 'key_column', pgsync_itsm.column_type(i.links ->> 'relation', i.links ->> 'key_column'));
        WHEN 'insert' THEN
            RETURN format('INSERT INTO %s AS t (%s%s) SELECT %s%s RETURNING t.%I::text', rel,
                (SELECT string_agg(format('%I', c), ', ' ORDER BY n) FROM unnest(cols) WITH ORDINALITY AS u(c, n)),
                CASE WHEN i.namespace_column IS NOT NULL THEN format(', %I', i.namespace_column) ELSE '' END,
                (SELECT string_agg(format('($2::json ->> %L)::%s', c, pgsync_itsm.column_type(i.relation, c)), ', ' ORDER BY n) FROM unnest(cols) WITH ORDINALITY AS u(c, n)),
                CASE WHEN i.namespace_column IS NOT NULL THEN format(', $4::text::%s', pgsync_itsm.column_type(i.relation, i.namespace_column)) ELSE '' END, i.key_column);
        WHEN 'update' THEN
            RETURN format('UPDATE %s AS t SET %s WHERE t.%I = $1::%s%s%s RETURNING t.%I::text', rel,
                (SELECT string_agg(format('%I = ($2::json ->> %L)::%s', c, c, pgsync_itsm.column_type(i.relation, c)), ', ' ORDER BY n) FROM unnest(cols) WITH ORDINALITY AS u(c, n)),
                i.key_column, key_type, inside,
                (SELECT string_agg(format(' AND t.%I::text IS NOT DISTINCT FROM ($3::json ->> %L)', c, c), '' ORDER BY n) FROM unnest(cols) WITH ORDINALITY AS u(c, n)), i.key_column);
        WHEN 'link' THEN
            RETURN format('INSERT INTO %1$s AS t (%2$I, %3$I) SELECT v.e, v.k FROM (SELECT ($2::json ->> %2$L)::%4$s AS e, ($2::json ->> %3$L)::%5$s AS k) AS v'
                          ' WHERE NOT EXISTS (SELECT FROM %1$s AS x WHERE x.%2$I = v.e AND x.%3$I = v.k) RETURNING t.%3$I::text',
                to_regclass(i.links ->> 'relation'), i.links ->> 'entity_column', i.links ->> 'key_column',
                pgsync_itsm.column_type(i.links ->> 'relation', i.links ->> 'entity_column'), pgsync_itsm.column_type(i.links ->> 'relation', i.links ->> 'key_column'));
    END CASE;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.compose_intake(@extschema@.integration_intakes, text, text[]) IS
'What is asked or done of an intake: values (what the columns would hold), rows (here, by name or key), links; insert, update, link';

CREATE FUNCTION pgsync_itsm.intake_task(connection_id uuid, kind text, what text, cols text[])
RETURNS TABLE (query text, owner name, namespace_id uuid, setting_names text[], setting_values text[])
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT CASE WHEN intake_task.what LIKE 'role %'
                THEN pgsync_itsm.compose_role((pgsync_itsm.writer_of(c.id, intake_task.kind)).columns -> intake_task.cols[1], intake_task.what)
                ELSE pgsync_itsm.compose_intake(pgsync_itsm.intake_of(c.id, intake_task.kind), intake_task.what, intake_task.cols) END, c.owner, c.namespace_id,
           ARRAY(SELECT e.key FROM jsonb_each_text(c.session_settings) AS e ORDER BY e.key),
           ARRAY(SELECT e.value FROM jsonb_each_text(c.session_settings) AS e ORDER BY e.key)
      FROM @extschema@.integration_connections AS c WHERE c.id = intake_task.connection_id;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.intake_task(uuid, text, text, text[]) IS 'A statement of an intake in the form that source.c reads';

CREATE FUNCTION pgsync_itsm.intake_read(connection_id uuid, kind text, what text, list text[], more text[] DEFAULT '{}', cols text[] DEFAULT NULL)
RETURNS TABLE (key text, name text, columns json)
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'source_intake_read';
COMMENT ON FUNCTION pgsync_itsm.intake_read(uuid, text, text, text[], text[], text[]) IS 'Asks a question of compose_intake() as the connection''s owner; no rows if there is no intake of the kind';

CREATE FUNCTION pgsync_itsm.intake_write(connection_id uuid, kind text, what text, cols text[], keys text[], row_values text[], befores text[])
RETURNS TABLE (n integer, key text, reason text)
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'source_intake_write';
COMMENT ON FUNCTION pgsync_itsm.intake_write(uuid, text, text, text[], text[], text[], text[]) IS
'Executes a statement of compose_intake() for row after row as the connection''s owner, each by itself, for a second at the most: number, key of the row that was written, or why not; neither: there is none that it holds for';

-- Work space --------------------------------------------------------------------------------------------

CREATE UNLOGGED TABLE pgsync_itsm.intake_there (
    run_id         bigint NOT NULL,
    external_id    text NOT NULL,
    kind           text NOT NULL,
    external_table text,
    label          text,
    attrs          json,
    hash           text,
    columns        json,
    name_key       text,
    key            text,
    applied        json,
    state          text,
    note           text,
    gone           text,
    action         text,
    changes        json,
    olds           json,
    reason         text,
    PRIMARY KEY (run_id, external_id)
);
COMMENT ON TABLE pgsync_itsm.intake_there IS 'Work space: records there that are new, have changed or are gone, and what a run makes of them';

CREATE UNLOGGED TABLE pgsync_itsm.intake_here (
    run_id   bigint NOT NULL,
    relation text NOT NULL,
    key      text NOT NULL,
    name_key text,
    columns  json,
    PRIMARY KEY (run_id, relation, key)
);
COMMENT ON TABLE pgsync_itsm.intake_here IS 'Work space: rows of the user''s tables that may belong to these records';

CREATE UNLOGGED TABLE pgsync_itsm.intake_links (
    run_id     bigint NOT NULL,
    relation   text NOT NULL,
    entity_key text NOT NULL,
    key        text NOT NULL
);
COMMENT ON TABLE pgsync_itsm.intake_links IS 'Work space: links of the user''s between records of ours and rows that were taken over';

CREATE FUNCTION pgsync_itsm.intake_clear(run_id bigint) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM pgsync_itsm.intake_there AS t WHERE t.run_id = intake_clear.run_id;
    DELETE FROM pgsync_itsm.intake_here AS t WHERE t.run_id = intake_clear.run_id;
    DELETE FROM pgsync_itsm.intake_links AS t WHERE t.run_id = intake_clear.run_id;
    DELETE FROM pgsync_itsm.intake_refs AS t WHERE t.run_id = intake_clear.run_id;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.intake_clear(bigint) IS 'Empties the work space of intakes of a run';

-- Looking -------------------------------------------------------------------------------------------------

CREATE FUNCTION pgsync_itsm.relation_types_there(connection_id uuid) RETURNS text[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN ARRAY(SELECT DISTINCT t.value FROM pgsync_itsm.intakes_on(connection_id) AS k
              CROSS JOIN LATERAL jsonb_array_elements_text(coalesce(k.links -> 'types', '["Runs on::Runs"]')) AS t(value) WHERE k.links IS NOT NULL);
COMMENT ON FUNCTION pgsync_itsm.relation_types_there(uuid) IS 'Names of the relationship types there that link what is taken over to records of ours';

CREATE FUNCTION pgsync_itsm.intake_ask(run @extschema@.integration_runs) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pgsync_itsm.ask_cached(run, 'relation_type', '', pgsync_itsm.relation_types_there(run.connection_id));
    RETURN EXISTS (SELECT FROM pgsync_itsm.lookups AS l WHERE l.run_id = run.id);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.intake_ask(@extschema@.integration_runs) IS 'Asks for the relationship types that matter; false: nothing has to be asked';

-- New, changed, back: what the last run did not know.  Gone: what a mirror that is proven to be whole does not hold.
CREATE FUNCTION pgsync_itsm.intake_candidates(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET jit = off
AS $$
BEGIN
    INSERT INTO pgsync_itsm.intake_there (run_id, external_id, kind, external_table, label, attrs, hash, key, applied, state, note, gone)
    SELECT run.id, r.external_id, k.kind, r.external_table, left(r.name, 300), r.attrs, h.hash, m.key, m.applied, m.state, m.note,
           CASE WHEN NOT h.lives THEN 'retired there' END
      FROM pgsync_itsm.intakes_on(run.connection_id) AS k
      JOIN @extschema@.integration_external_records AS r ON r.connection_id = run.connection_id AND r.target = k.target
      LEFT JOIN @extschema@.integration_intake_map AS m ON m.connection_id = r.connection_id AND m.external_id = r.external_id
     CROSS JOIN LATERAL (SELECT pgsync_itsm.intake_hash(r.attrs) AS hash, pgsync_itsm.lives_there(r.attrs) AS lives) AS h
     WHERE k.by_setting AND btrim(r.name) <> ''
       AND CASE WHEN m.external_id IS NULL OR m.state IN ('waits', 'left') THEN h.lives
                WHEN m.state = 'gone' THEN h.lives ELSE NOT h.lives OR m.hash IS DISTINCT FROM h.hash OR m.note IS NOT NULL END;
    INSERT INTO pgsync_itsm.intake_there (run_id, external_id, kind, external_table, label, key, applied, state, note, gone)
    SELECT run.id, m.external_id, m.kind, m.external_table, m.name, m.key, m.applied, m.state, m.note, 'not there any more'
      FROM pgsync_itsm.intakes_on(run.connection_id) AS k
      JOIN @extschema@.integration_intake_map AS m ON m.connection_id = run.connection_id AND m.kind = k.kind AND m.state = 'linked'
      JOIN @extschema@.integration_watermarks AS w
        ON w.connection_id = run.connection_id AND w.external_table = k.target AND w.state = 'done' AND w.complete AND w.swept_whole
     WHERE k.by_setting
       AND NOT EXISTS (SELECT FROM @extschema@.integration_external_records AS r WHERE r.connection_id = m.connection_id AND r.external_id = m.external_id);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.intake_candidates(@extschema@.integration_runs) IS 'Puts what is new, has changed or is gone there into the work space';

-- One record whose values an expression stumbles over does not keep the others.
CREATE FUNCTION pgsync_itsm.intake_values(run @extschema@.integration_runs, kind text, ids text[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE pgsync_itsm.intake_there AS t SET columns = v.columns
      FROM pgsync_itsm.intake_read(run.connection_id, intake_values.kind, 'values', ids, ARRAY(
               SELECT x.attrs::text FROM unnest(ids) WITH ORDINALITY AS u(id, n) JOIN pgsync_itsm.intake_there AS x ON x.run_id = run.id AND x.external_id = u.id ORDER BY u.n)) AS v
     WHERE t.run_id = run.id AND t.external_id = v.key;
EXCEPTION WHEN query_canceled THEN
    RAISE;
WHEN others THEN
    IF cardinality(ids) = 1 THEN
        UPDATE pgsync_itsm.intake_there AS t SET action = 'ERROR', reason = left(format('%s (%s)', SQLERRM, SQLSTATE), 500) WHERE t.run_id = run.id AND t.external_id = ids[1];
    ELSE
        PERFORM pgsync_itsm.intake_values(run, kind, ids[1 : cardinality(ids) / 2]), pgsync_itsm.intake_values(run, kind, ids[cardinality(ids) / 2 + 1 :]);
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.intake_values(@extschema@.integration_runs, text, text[]) IS 'What the columns here would hold of these records; where that is an error, it is halved until it is found';

CREATE FUNCTION pgsync_itsm.intake_rows(run @extschema@.integration_runs, kind text, relation text, name_column text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pgsync_itsm.intake_values(run, intake_rows.kind, ARRAY(
        SELECT t.external_id FROM pgsync_itsm.intake_there AS t WHERE t.run_id = run.id AND t.kind = intake_rows.kind AND t.attrs IS NOT NULL ORDER BY 1));
    UPDATE pgsync_itsm.intake_there AS t
       SET name_key = lower(btrim(t.columns ->> name_column)),
           action = CASE WHEN t.gone IS NULL AND coalesce(btrim(t.columns ->> name_column), '') = '' THEN 'ERROR' END,
           reason = CASE WHEN t.gone IS NULL AND coalesce(btrim(t.columns ->> name_column), '') = '' THEN 'it comes to have no name here' END
     WHERE t.run_id = run.id AND t.kind = intake_rows.kind AND t.action IS NULL;
    INSERT INTO pgsync_itsm.intake_here (run_id, relation, key, name_key, columns)
    SELECT run.id, intake_rows.relation, r.key, r.name, r.columns
      FROM pgsync_itsm.intake_read(run.connection_id, intake_rows.kind, 'rows',
               ARRAY(SELECT DISTINCT t.name_key FROM pgsync_itsm.intake_there AS t WHERE t.run_id = run.id AND t.kind = intake_rows.kind AND t.name_key IS NOT NULL),
               ARRAY(SELECT DISTINCT t.key FROM pgsync_itsm.intake_there AS t WHERE t.run_id = run.id AND t.kind = intake_rows.kind AND t.key IS NOT NULL)) AS r
    ON CONFLICT DO NOTHING;
EXCEPTION WHEN query_canceled THEN
    RAISE;
WHEN others THEN
    UPDATE pgsync_itsm.intake_there AS t SET action = 'ERROR', reason = left(format('%s (%s)', SQLERRM, SQLSTATE), 500) WHERE t.run_id = run.id AND t.kind = intake_rows.kind;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.intake_rows(@extschema@.integration_runs, text, text, text) IS 'Reads the rows here that candidates of a kind may belong to; a table that cannot be read is an answer';

CREATE FUNCTION pgsync_itsm.intake_look(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pgsync_itsm.intake_clear(run.id);
    PERFORM pgsync_itsm.intake_candidates(run);
    IF EXISTS (SELECT FROM pgsync_itsm.intake_there AS t WHERE t.run_id = run.id) THEN
        PERFORM pgsync_itsm.intake_rows(run, k.kind, k.relation, k.name_column) FROM pgsync_itsm.intakes_on(run.connection_id) AS k WHERE k.by_setting;
        PERFORM pgsync_itsm.intake_decide(run);
    END IF;
    PERFORM pgsync_itsm.intake_look_links(run);
    PERFORM pgsync_itsm.contact_candidates(run);
    PERFORM pgsync_itsm.refs_look(run);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.intake_look(@extschema@.integration_runs) IS 'Looks what is to be taken over, and what of it is here';

-- Deciding ------------------------------------------------------------------------------------------------

-- Names that more than one has, there or here, lead to nobody.
CREATE FUNCTION pgsync_itsm.intake_match(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET jit = off
AS $$
BEGIN
    WITH kinds AS MATERIALIZED (
        SELECT k.* FROM pgsync_itsm.intakes_on(run.connection_id) AS k WHERE k.by_setting
    ), open AS MATERIALIZED (
        SELECT t.external_id, t.name_key, t.state, k.relation FROM pgsync_itsm.intake_there AS t JOIN kinds AS k ON k.kind = t.kind
         WHERE t.run_id = run.id AND t.action IS NULL AND t.gone IS NULL AND (t.key IS NULL OR t.state = 'left')
    ), there AS MATERIALIZED (
        SELECT k.relation, lower(btrim(r.name)) AS name_key, count(*) AS n
          FROM kinds AS k JOIN @extschema@.integration_external_records AS r ON r.connection_id = run.connection_id AND r.target = k.target AND pgsync_itsm.lives_there(r.attrs)
         GROUP BY 1, 2
    ), same AS MATERIALIZED (
        SELECT o.relation, o.name_key, count(*) AS n FROM open AS o GROUP BY 1, 2
    ), here AS MATERIALIZED (
        SELECT h.relation, h.name_key, count(*) AS n, min(h.key) AS key FROM pgsync_itsm.intake_here AS h WHERE h.run_id = run.id GROUP BY 1, 2
    )
    UPDATE pgsync_itsm.intake_there AS t
       SET key = CASE WHEN d.verdict IS NULL THEN d.key END, action = CASE WHEN d.verdict IS NOT NULL THEN 'MISMATCH' WHEN d.key IS NOT NULL THEN 'MATCH' WHEN t.state = 'left' THEN 'NONE' ELSE 'CREATE' END,
           reason = coalesce(d.verdict, CASE WHEN d.key IS NOT NULL THEN 'a row here has its name' WHEN t.state IS DISTINCT FROM 'left' THEN 'not here yet' END)
      FROM (SELECT o.external_id, h.key,
                   CASE WHEN greatest(s.n, a.n) > 1 THEN format('%s records there have this name', greatest(s.n, a.n))
                        WHEN h.n > 1 THEN format('%s rows here have this name', h.n)
                        WHEN h.n = 1 AND EXISTS (SELECT FROM @extschema@.integration_intake_map AS m
                                                  WHERE m.connection_id = run.connection_id AND m.key = h.key AND m.state = 'linked' AND m.external_id <> o.external_id
                                                    AND m.kind IN (SELECT x.kind FROM kinds AS x WHERE x.relation = o.relation)
                                                    AND NOT EXISTS (SELECT FROM pgsync_itsm.intake_there AS g WHERE g.run_id = run.id AND g.external_id = m.external_id AND g.gone IS NOT NULL))
                             THEN 'the row here that has its name belongs to another record there' END AS verdict
              FROM open AS o
              JOIN same AS s ON s.relation = o.relation AND s.name_key = o.name_key
              LEFT JOIN there AS a ON a.relation = o.relation AND a.name_key = o.name_key
              LEFT JOIN here AS h ON h.relation = o.relation AND h.name_key = o.name_key) AS d
     WHERE t.run_id = run.id AND t.external_id = d.external_id;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.intake_match(@extschema@.integration_runs) IS 'Finds the rows here that records belong to which are not known yet; what is ambiguous is left alone';

-- What was changed there since the last time is written, whatever it is here; what was not, is left as it is.
CREATE FUNCTION pgsync_itsm.intake_compare(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET jit = off
AS $$
BEGIN
    UPDATE pgsync_itsm.intake_there AS t SET action = 'SKIP', reason = 'its row here was deleted: it is not made again'
      FROM pgsync_itsm.intakes_on(run.connection_id) AS k
     WHERE t.run_id = run.id AND k.kind = t.kind AND t.action IS NULL AND t.key IS NOT NULL
       AND NOT EXISTS (SELECT FROM pgsync_itsm.intake_here AS h WHERE h.run_id = run.id AND h.relation = k.relation AND h.key = t.key);
    UPDATE pgsync_itsm.intake_there AS t
       SET changes = c.changes, olds = c.olds, action = CASE WHEN c.changes IS NOT NULL THEN 'UPDATE' ELSE coalesce(t.action, 'NONE') END,
           reason = CASE WHEN t.action IS NULL THEN 'changed there' ELSE t.reason END
      FROM (SELECT x.external_id, json_object_agg(v.col, v.value ORDER BY v.col) FILTER (WHERE w.wanted) AS changes,
                   json_object_agg(v.col, h.columns ->> v.col ORDER BY v.col) FILTER (WHERE w.wanted) AS olds
              FROM pgsync_itsm.intake_there AS x
              JOIN pgsync_itsm.intakes_on(run.connection_id) AS k ON k.kind = x.kind
              JOIN pgsync_itsm.intake_here AS h ON h.run_id = run.id AND h.relation = k.relation AND h.key = x.key
             CROSS JOIN LATERAL (SELECT e.key AS col, e.value FROM json_each_text(x.columns) AS e
                                  UNION ALL SELECT k.gone ->> 'column', k.gone ->> 'back'
                                   WHERE k.gone ? 'back' AND (x.state = 'gone' OR x.action = 'MATCH') AND h.columns ->> (k.gone ->> 'column') = k.gone ->> 'value') AS v(col, value)
             CROSS JOIN LATERAL (SELECT v.value IS DISTINCT FROM h.columns ->> v.col
                                        AND CASE WHEN v.col = k.gone ->> 'column' THEN true
                                                 WHEN x.applied IS NULL OR x.action = 'MATCH' THEN v.value IS NOT NULL AND v.col <> k.name_column
                                                 -- what was emptied there is emptied here only if nobody has filled in something else
                                                 WHEN v.value IS NULL THEN x.applied ->> v.col IS NOT DISTINCT FROM h.columns ->> v.col
                                                 ELSE v.value IS DISTINCT FROM x.applied ->> v.col END AS wanted) AS w
             WHERE x.run_id = run.id AND x.gone IS NULL AND (x.action IS NULL OR x.action = 'MATCH')
             GROUP BY x.external_id) AS c
     WHERE t.run_id = run.id AND t.external_id = c.external_id;
    -- a name that another has already is nobody's to give
    UPDATE pgsync_itsm.intake_there AS t SET action = 'MISMATCH', reason = format('renamed there to "%s", a name that another row here has', left(t.changes ->> k.name_column, 100))
      FROM pgsync_itsm.intakes_on(run.connection_id) AS k
     WHERE t.run_id = run.id AND k.kind = t.kind AND t.action = 'UPDATE' AND t.changes::jsonb ? k.name_column
       AND (EXISTS (SELECT FROM pgsync_itsm.intake_here AS h WHERE h.run_id = run.id AND h.relation = k.relation AND h.name_key = t.name_key AND h.key <> t.key)
            OR EXISTS (SELECT FROM pgsync_itsm.intake_there AS o WHERE o.run_id = run.id AND o.name_key = t.name_key AND o.external_id <> t.external_id AND o.gone IS NULL));
END
$$;
COMMENT ON FUNCTION pgsync_itsm.intake_compare(@extschema@.integration_runs) IS 'What of the columns here is to be written for records whose row is known';

CREATE FUNCTION pgsync_itsm.intake_decide(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET jit = off
AS $$
BEGIN
    UPDATE pgsync_itsm.intake_there AS t SET action = 'SKIP', reason = t.gone || ': its row here stays as it is'
     WHERE t.run_id = run.id AND t.gone IS NOT NULL AND t.action IS NULL;
    UPDATE pgsync_itsm.intake_there AS t
       SET action = 'UPDATE', reason = t.gone, changes = json_build_object(k.gone ->> 'column', k.gone ->> 'value'),
           olds = json_build_object(k.gone ->> 'column', h.columns ->> (k.gone ->> 'column'))
      FROM pgsync_itsm.intakes_on(run.connection_id) AS k
      JOIN pgsync_itsm.intake_here AS h ON h.run_id = run.id AND h.relation = k.relation
     WHERE t.run_id = run.id AND t.gone IS NOT NULL AND t.action = 'SKIP' AND k.kind = t.kind AND k.gone IS NOT NULL AND h.key = t.key
       AND h.columns ->> (k.gone ->> 'column') IS DISTINCT FROM k.gone ->> 'value';
    PERFORM pgsync_itsm.intake_match(run);
    -- made anew there, under another id: the row goes with it
    UPDATE pgsync_itsm.intake_there AS t SET action = 'SKIP', changes = NULL, olds = NULL, reason = t.gone || ': its row here belongs to another record of that name now'
      FROM pgsync_itsm.intake_there AS o
     WHERE t.run_id = run.id AND t.gone IS NOT NULL AND o.run_id = run.id AND o.action = 'MATCH' AND o.key = t.key;
    PERFORM pgsync_itsm.intake_compare(run);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.intake_decide(@extschema@.integration_runs) IS 'Decides what becomes of each record that is new, has changed or is gone there';

-- Links ---------------------------------------------------------------------------------------------------

-- Relationships between a CI of ours and one that is, or is about to be, taken over, whichever of them is the parent there.
CREATE FUNCTION pgsync_itsm.intake_relations(run @extschema@.integration_runs, types text[])
RETURNS TABLE (kind text, external_id text, key text, entity_type text, entity_id uuid, entity_key text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET jit = off
BEGIN ATOMIC
    WITH kinds AS MATERIALIZED (
        SELECT k.kind, k.links ->> 'entity_type' AS entity_type,
               ARRAY(SELECT f.external_id FROM @extschema@.integration_references AS f
                      WHERE f.connection_id = (intake_relations.run).connection_id AND f.kind = 'relation_type'
                        AND f.key IN (SELECT lower(t.value) FROM jsonb_array_elements_text(coalesce(k.links -> 'types', '["Runs on::Runs"]')) AS t(value))) AS type_ids
          FROM pgsync_itsm.intakes_on((intake_relations.run).connection_id) AS k WHERE k.links IS NOT NULL
    ), taken AS MATERIALIZED (
        SELECT x.kind, x.external_id, x.key FROM @extschema@.integration_intake_map AS x
         WHERE x.connection_id = (intake_relations.run).connection_id AND x.state = 'linked'
           AND NOT EXISTS (SELECT FROM pgsync_itsm.intake_there AS g WHERE g.run_id = (intake_relations.run).id AND g.external_id = x.external_id)
        UNION ALL
        SELECT t.kind, t.external_id, t.key FROM pgsync_itsm.intake_there AS t
         WHERE t.run_id = (intake_relations.run).id AND t.gone IS NULL AND t.action IN ('CREATE', 'MATCH', 'UPDATE', 'NONE') AND (t.key IS NOT NULL OR t.action = 'CREATE')
    ), ends AS MATERIALIZED (
        SELECT r.attrs ->> 'type' AS type_id, e.ours, e.theirs FROM @extschema@.integration_external_records AS r
         CROSS JOIN LATERAL (VALUES (r.attrs ->> 'parent', r.attrs ->> 'child'), (r.attrs ->> 'child', r.attrs ->> 'parent')) AS e(ours, theirs)
         WHERE r.connection_id = (intake_relations.run).connection_id AND r.target = 'cmdb_rel_ci' AND EXISTS (SELECT FROM kinds)
    )
    SELECT DISTINCT s.kind, s.external_id, s.key, m.entity_type, m.entity_id, substr(m.native_key, length(m.entity_type) + 2)
      FROM ends AS e
      JOIN taken AS s ON s.external_id = e.theirs
      JOIN @extschema@.integration_sync_map AS m
        ON m.external_id = e.ours AND m.connection_id = (intake_relations.run).connection_id AND m.parent_id IS NULL AND m.state = 'linked'
      JOIN kinds AS k ON k.kind = s.kind AND k.entity_type = m.entity_type
     WHERE types IS NULL OR e.type_id = ANY (k.type_ids);
END;
COMMENT ON FUNCTION pgsync_itsm.intake_relations(@extschema@.integration_runs, text[]) IS
'Pairs of a record of ours and a record that is taken over which are related there; types NULL: by whatever type';

CREATE FUNCTION pgsync_itsm.intake_look_links(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET jit = off
AS $$
DECLARE
    k record;
BEGIN
    FOR k IN SELECT r.kind, i.links ->> 'relation' AS relation, array_agg(DISTINCT r.key) AS keys
               FROM pgsync_itsm.intake_relations(run, NULL) AS r JOIN pgsync_itsm.intakes_on(run.connection_id) AS i ON i.kind = r.kind
              WHERE r.key IS NOT NULL GROUP BY 1, 2 LOOP
        BEGIN
            INSERT INTO pgsync_itsm.intake_links (run_id, relation, entity_key, key)
            SELECT run.id, k.relation, l.key, l.name FROM pgsync_itsm.intake_read(run.connection_id, k.kind, 'links', k.keys) AS l;
        EXCEPTION WHEN query_canceled THEN
            RAISE;
        WHEN others THEN
            -- what cannot be read cannot be written either, and says so then
            NULL;
        END;
    END LOOP;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.intake_look_links(@extschema@.integration_runs) IS 'Reads the links that are here already';

-- Items ---------------------------------------------------------------------------------------------------

CREATE FUNCTION pgsync_itsm.intake_planned(run @extschema@.integration_runs)
RETURNS TABLE (ord integer, step text, entity_type text, entity_id uuid, native_key text, label text, action text, state text, payload json, old_values json,
               external_id text, external_table text, reason text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET jit = off
BEGIN ATOMIC
    SELECT k.ord, k.step, t.kind, pgsync_itsm.entity_id(t.kind, t.external_id), t.kind || '/' || t.external_id, t.label, t.action,
           CASE WHEN t.action IN ('CREATE', 'UPDATE', 'MATCH') THEN 'planned' WHEN t.action = 'MISMATCH' THEN 'held' WHEN t.action = 'ERROR' THEN 'dead' ELSE 'skipped' END,
           CASE t.action WHEN 'CREATE' THEN (SELECT json_object_agg(e.key, e.value ORDER BY e.key) FROM json_each_text(t.columns) AS e WHERE e.value IS NOT NULL)
                         WHEN 'UPDATE' THEN t.changes END,
           CASE t.action WHEN 'UPDATE' THEN t.olds END, t.external_id, t.external_table, t.reason
      FROM pgsync_itsm.intake_there AS t JOIN pgsync_itsm.intakes_on((intake_planned.run).connection_id) AS k ON k.kind = t.kind
     WHERE t.run_id = (intake_planned.run).id AND t.action <> 'NONE'
       -- a contact is made for a role that is written here, and for nothing else
       AND (t.kind <> 'contact' OR t.action <> 'CREATE'
            OR EXISTS (SELECT FROM pgsync_itsm.merge_rows AS r WHERE r.run_id = (intake_planned.run).id AND r.decision = 'theirs' AND r.theirs = t.external_id))
       -- what was reported is not reported every quarter of an hour
       AND NOT ((intake_planned.run).origin = 'schedule' AND t.action IN ('MISMATCH', 'SKIP') AND t.note IS NOT DISTINCT FROM t.reason)
    UNION ALL
    SELECT 30, 'in links', r.kind || '_link', pgsync_itsm.entity_id(r.kind || '_link', r.entity_id || '/' || r.external_id), r.kind || '_link/' || r.entity_key || '/' || r.external_id,
           left(concat_ws(' → ', (SELECT m.published_name FROM @extschema@.integration_sync_map AS m
                                   WHERE m.connection_id = (intake_planned.run).connection_id AND m.entity_type = r.entity_type AND m.entity_id = r.entity_id),
                          coalesce((SELECT t.label FROM pgsync_itsm.intake_there AS t WHERE t.run_id = (intake_planned.run).id AND t.external_id = r.external_id),
                                   (SELECT x.name FROM @extschema@.integration_intake_map AS x WHERE x.connection_id = (intake_planned.run).connection_id AND x.external_id = r.external_id))), 300),
           'CREATE', 'planned', json_build_object(k.links ->> 'entity_column', r.entity_key, k.links ->> 'key_column', coalesce(r.key, '@' || r.kind || '/' || r.external_id)), NULL,
           r.external_id, k.links ->> 'relation', 'related there'
      FROM pgsync_itsm.intake_relations(intake_planned.run, '{}') AS r JOIN pgsync_itsm.intakes_on((intake_planned.run).connection_id) AS k ON k.kind = r.kind
     WHERE NOT EXISTS (SELECT FROM pgsync_itsm.intake_links AS l WHERE l.run_id = (intake_planned.run).id AND l.relation = k.links ->> 'relation' AND l.entity_key = r.entity_key AND l.key = r.key)
       -- one that was made and somebody has taken away is not made again
       AND NOT EXISTS (SELECT FROM @extschema@.integration_intake_map AS x
                        WHERE x.connection_id = (intake_planned.run).connection_id AND x.external_id = r.external_id AND x.links ->> r.entity_key = 'linked')
    UNION ALL
    SELECT 30, 'in links', x.kind || '_link', pgsync_itsm.entity_id(x.kind || '_link', x.kind || '/' || e.key || '/' || x.external_id), x.kind || '_link/' || e.key || '/' || x.external_id,
           left(x.name, 300), 'SKIP', 'skipped', json_build_object(k.links ->> 'entity_column', e.key, k.links ->> 'key_column', x.key), NULL, x.external_id, k.links ->> 'relation',
           'not related there any more: its row here stays as it is'
      FROM @extschema@.integration_intake_map AS x
      JOIN pgsync_itsm.intakes_on((intake_planned.run).connection_id) AS k ON k.kind = x.kind AND k.links IS NOT NULL
     CROSS JOIN LATERAL jsonb_each_text(x.links) AS e
      JOIN @extschema@.integration_watermarks AS w ON w.connection_id = x.connection_id AND w.external_table = 'cmdb_rel_ci' AND w.state = 'done' AND w.complete AND w.swept_whole
     WHERE x.connection_id = (intake_planned.run).connection_id AND x.state = 'linked' AND x.links <> '{}' AND e.value = 'linked'
       AND NOT EXISTS (SELECT FROM pgsync_itsm.intake_there AS t WHERE t.run_id = (intake_planned.run).id AND t.external_id = x.external_id AND t.gone IS NOT NULL)
       AND NOT EXISTS (SELECT FROM pgsync_itsm.intake_relations(intake_planned.run, '{}') AS r WHERE r.external_id = x.external_id AND r.entity_key = e.key);
END;
COMMENT ON FUNCTION pgsync_itsm.intake_planned(@extschema@.integration_runs) IS 'What a run would do here with what is taken over, as items';

CREATE FUNCTION pgsync_itsm.intake_counts(run_id bigint) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    UPDATE @extschema@.integration_runs AS r
       SET to_create = c.creates, to_update = c.updates, matched = c.matches, held = c.held, skipped = c.skipped,
           summary = concat_ws('; ', r.summary, nullif(concat_ws(', ',
               CASE WHEN c.rows > 0 THEN format(CASE c.rows WHEN 1 THEN '%s row' ELSE '%s rows' END || ' to be added here', c.rows) END, CASE WHEN c.changed > 0 THEN format('%s to be changed', c.changed) END,
               CASE WHEN c.matches > 0 THEN format('%s found here', c.matches) END, CASE WHEN c.links > 0 THEN format(CASE c.links WHEN 1 THEN '%s link' ELSE '%s links' END || ' to be added', c.links) END,
               CASE WHEN c.waits > 0 THEN format('%s left alone', c.waits) END), ''))
      FROM (SELECT count(*) FILTER (WHERE i.state = 'planned' AND i.action = 'CREATE') AS creates, count(*) FILTER (WHERE i.state = 'planned' AND i.action = 'UPDATE') AS updates,
                   count(*) FILTER (WHERE i.state = 'planned' AND i.action = 'MATCH') AS matches, count(*) FILTER (WHERE i.state = 'held') AS held,
                   count(*) FILTER (WHERE i.state = 'skipped') AS skipped,
                   count(*) FILTER (WHERE i.state = 'planned' AND i.action = 'CREATE' AND i.step <> 'in links') AS rows,
                   count(*) FILTER (WHERE i.state = 'planned' AND i.action = 'UPDATE' AND i.step <> 'in') AS changed,
                   count(*) FILTER (WHERE i.state = 'planned' AND i.step = 'in links') AS links,
                   count(*) FILTER (WHERE i.state IN ('held', 'skipped', 'dead') AND i.step <> 'in') AS waits
              FROM @extschema@.integration_run_items AS i WHERE i.run_id = intake_counts.run_id) AS c
     WHERE r.id = intake_counts.run_id;
END;
COMMENT ON FUNCTION pgsync_itsm.intake_counts(bigint) IS 'Counts what a run would do, and says so in its summary';

CREATE FUNCTION pgsync_itsm.intake_items(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO @extschema@.integration_run_items
        (run_id, connection_id, namespace_id, ord, step, entity_type, entity_id, native_key, label, action, state, payload, old_values, external_id, external_table, reason, outcome, error_class)
    SELECT run.id, run.connection_id, run.namespace_id, p.ord, p.step, p.entity_type, p.entity_id, p.native_key, p.label, p.action, p.state, p.payload, p.old_values,
           p.external_id, p.external_table, p.reason, CASE p.state WHEN 'dead' THEN 'dead' END, CASE p.state WHEN 'dead' THEN 'NOT_WRITTEN' END
      FROM pgsync_itsm.intake_planned(run) AS p WHERE run.purpose IS DISTINCT FROM 'decision' OR p.step = 'in contacts' ORDER BY p.ord, p.label, p.entity_id
    ON CONFLICT DO NOTHING;
    PERFORM pgsync_itsm.intake_counts(run.id);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.intake_items(@extschema@.integration_runs) IS 'Makes the items of what is taken over';

-- What needs no writing: it is as it was, ambiguous, gone, or was taken away here.
CREATE FUNCTION pgsync_itsm.intake_settle(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET jit = off
AS $$
BEGIN
    INSERT INTO @extschema@.integration_intake_map AS m (connection_id, namespace_id, external_id, external_table, kind, name, state, note)
    SELECT run.connection_id, run.namespace_id, t.external_id, t.external_table, t.kind, t.label,
           CASE WHEN t.gone IS NOT NULL THEN 'gone' WHEN t.action = 'SKIP' THEN 'left' ELSE 'waits' END, t.reason
      FROM pgsync_itsm.intake_there AS t WHERE t.run_id = run.id AND t.action IN ('MISMATCH', 'SKIP')
    ON CONFLICT (connection_id, external_id) DO UPDATE
       SET state = CASE WHEN excluded.state = 'waits' AND m.state = 'linked' THEN 'linked' ELSE excluded.state END, note = excluded.note, updated_at = now();
    UPDATE @extschema@.integration_intake_map AS m
       SET applied = t.columns, hash = t.hash, name = t.label, external_table = t.external_table, kind = t.kind, state = 'linked', note = NULL, updated_at = now()
      FROM pgsync_itsm.intake_there AS t
     WHERE t.run_id = run.id AND t.action = 'NONE' AND t.key IS NOT NULL AND m.connection_id = run.connection_id AND m.external_id = t.external_id;
    UPDATE @extschema@.integration_intake_map AS m SET links = m.links || l.gone
      FROM (SELECT i.external_id, jsonb_object_agg(i.payload ->> (k.links ->> 'entity_column'), 'gone') AS gone
              FROM @extschema@.integration_run_items AS i JOIN pgsync_itsm.intakes_on(run.connection_id) AS k ON i.entity_type = k.kind || '_link'
             WHERE i.run_id = run.id AND i.step = 'in links' AND i.action = 'SKIP' GROUP BY 1) AS l
     WHERE m.connection_id = run.connection_id AND m.external_id = l.external_id;
    -- what is here already is known to be
    UPDATE @extschema@.integration_intake_map AS m SET links = m.links || l.known
      FROM (SELECT r.external_id, jsonb_object_agg(r.entity_key, 'linked') AS known
              FROM pgsync_itsm.intake_relations(run, '{}') AS r
              JOIN pgsync_itsm.intakes_on(run.connection_id) AS k ON k.kind = r.kind
              JOIN pgsync_itsm.intake_links AS h ON h.run_id = run.id AND h.relation = k.links ->> 'relation' AND h.entity_key = r.entity_key AND h.key = r.key
             GROUP BY 1) AS l
     WHERE m.connection_id = run.connection_id AND m.external_id = l.external_id AND NOT m.links @> l.known;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.intake_settle(@extschema@.integration_runs) IS 'Remembers of what is taken over what needs no writing here';

-- When a plan that was shown is applied, or a crash has interrupted it, what moved since is refused; what has come up since is
-- for the next run.
CREATE FUNCTION pgsync_itsm.intake_recheck(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE @extschema@.integration_run_items AS i SET state = 'refused', updated_at = now(), reason = 'changed since the plan'
     WHERE i.run_id = run.id AND i.state = 'planned' AND i.step LIKE 'in %'
       AND NOT EXISTS (SELECT FROM pgsync_itsm.intake_planned(run) AS p
                        WHERE p.entity_type = i.entity_type AND p.entity_id = i.entity_id AND p.action = i.action AND p.old_values::text IS NOT DISTINCT FROM i.old_values::text
                          -- the row that it is to be linked to may have been made since
                          AND (p.payload::text IS NOT DISTINCT FROM i.payload::text OR i.step = 'in links'));
END
$$;
COMMENT ON FUNCTION pgsync_itsm.intake_recheck(@extschema@.integration_runs) IS 'Refuses what was planned and has changed since, here or there';

-- Applying ------------------------------------------------------------------------------------------------

CREATE FUNCTION pgsync_itsm.try_intake(connection_id uuid, kind text, what text, cols text[], keys text[], row_values text[], befores text[])
RETURNS TABLE (n integer, key text, reason text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT w.n, w.key, w.reason FROM pgsync_itsm.intake_write(try_intake.connection_id, try_intake.kind, try_intake.what, cols, keys, row_values, befores) AS w;
EXCEPTION WHEN query_canceled THEN
    RAISE;
WHEN others THEN
    RETURN QUERY SELECT u.n::integer, NULL::text, left(format('%s (%s)', SQLERRM, SQLSTATE), 500) FROM generate_series(1, cardinality(keys)) AS u(n);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.try_intake(uuid, text, text, text[], text[], text[], text[]) IS 'intake_write(), where what concerns all of the rows is an answer of each';

CREATE FUNCTION pgsync_itsm.intake_log(run @extschema@.integration_runs, ids bigint[]) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    INSERT INTO @extschema@.integration_sync_log
        (connection_id, namespace_id, run_id, item_id, operation, entity_type, entity_id, status, external_id, error_class, error_message, response_payload)
    SELECT i.connection_id, i.namespace_id, i.run_id, i.id, 'read', i.entity_type, i.entity_id, CASE WHEN i.state = 'done' THEN 'success' ELSE 'error' END, i.external_id,
           CASE WHEN i.state <> 'done' THEN coalesce(i.error_class, 'NOT_WRITTEN') END, CASE WHEN i.state <> 'done' THEN i.reason END, i.payload
      FROM @extschema@.integration_run_items AS i WHERE i.id = ANY (intake_log.ids) ORDER BY i.id;
END;
COMMENT ON FUNCTION pgsync_itsm.intake_log(@extschema@.integration_runs, bigint[]) IS 'Notes in the log what became of items of a run';

-- Rows that are written alike, as many as a second takes, and what became of them: one transaction.
CREATE FUNCTION pgsync_itsm.intake_apply(run @extschema@.integration_runs, at_step text) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    i @extschema@.integration_run_items;
    k record;
    cols text[];
    ids bigint[];
    taken text[];
BEGIN
    SELECT * INTO i FROM @extschema@.integration_run_items AS x WHERE x.run_id = run.id AND x.state = 'planned' AND x.step = at_step ORDER BY x.id LIMIT 1;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    SELECT * INTO k FROM pgsync_itsm.intakes_on(run.connection_id) AS x WHERE x.kind = i.entity_type;
    cols := ARRAY(SELECT j FROM json_object_keys(i.payload) AS j ORDER BY 1);
    ids := ARRAY(SELECT x.id FROM @extschema@.integration_run_items AS x
                  WHERE x.run_id = run.id AND x.state = 'planned' AND x.step = at_step AND x.action = i.action AND x.entity_type = i.entity_type
                    AND ARRAY(SELECT j FROM json_object_keys(x.payload) AS j ORDER BY 1) = cols
                  ORDER BY x.id LIMIT 500);
    IF i.action = 'CREATE' THEN
        -- somebody may have made a row of that name while this was planned
        BEGIN
            taken := ARRAY(SELECT r.name FROM pgsync_itsm.intake_read(run.connection_id, i.entity_type, 'rows', ARRAY(
                         SELECT t.name_key FROM pgsync_itsm.intake_there AS t JOIN @extschema@.integration_run_items AS x ON x.external_id = t.external_id
                          WHERE t.run_id = run.id AND x.id = ANY (ids))) AS r);
        EXCEPTION WHEN query_canceled THEN
            RAISE;
        WHEN others THEN
            taken := '{}';
        END;
    END IF;
    WITH items AS MATERIALIZED (
        SELECT x.id, x.payload, x.old_values, t.key, t.name_key = ANY (taken) AS taken, row_number() OVER (ORDER BY x.id) AS n
          FROM @extschema@.integration_run_items AS x LEFT JOIN pgsync_itsm.intake_there AS t ON t.run_id = run.id AND t.external_id = x.external_id
         WHERE x.id = ANY (ids)
    ), sent AS MATERIALIZED (
        SELECT n.*, row_number() OVER (ORDER BY n.n) AS at FROM items AS n WHERE i.action <> 'MATCH' AND n.taken IS NOT TRUE
    ), written AS MATERIALIZED (
        SELECT w.* FROM (SELECT array_agg(coalesce(s.key, '') ORDER BY s.at) AS keys, array_agg(s.payload::text ORDER BY s.at) AS payloads, array_agg(coalesce(s.old_values::text, '{}') ORDER BY s.at) AS befores
                           FROM sent AS s HAVING count(*) > 0) AS a
         CROSS JOIN LATERAL pgsync_itsm.try_intake(run.connection_id, i.entity_type, CASE i.action WHEN 'CREATE' THEN 'insert' ELSE 'update' END, cols, a.keys, a.payloads, a.befores) AS w
    ), results AS MATERIALIZED (
        SELECT s.id, w.key, CASE WHEN w.key IS NULL THEN coalesce(left(w.reason, 500), 'it was changed here meanwhile') END AS reason, w.key IS NULL AND w.reason IS NULL AS moved
          FROM sent AS s JOIN written AS w ON w.n = s.at
        UNION ALL
        SELECT n.id, n.key, NULL, false FROM items AS n WHERE i.action = 'MATCH'
        UNION ALL
        SELECT n.id, NULL, 'a row of this name has come up here meanwhile', true FROM items AS n WHERE n.taken
    ), marked AS (
        UPDATE @extschema@.integration_run_items AS x
           SET state = CASE WHEN r.reason IS NULL THEN 'done' WHEN r.moved THEN 'refused' ELSE 'dead' END, outcome = CASE WHEN r.reason IS NULL THEN 'done' WHEN NOT r.moved THEN 'dead' END,
               error_class = CASE WHEN r.reason IS NOT NULL AND NOT r.moved THEN 'NOT_WRITTEN' END, reason = coalesce(r.reason, x.reason), updated_at = now()
          FROM results AS r WHERE x.id = r.id
        RETURNING x.id, x.external_id, x.action, x.state, r.key
    ), remembered AS (
        INSERT INTO @extschema@.integration_intake_map AS m (connection_id, namespace_id, external_id, external_table, kind, name, key, state, note, created_by_us, applied, hash)
        SELECT run.connection_id, run.namespace_id, t.external_id, t.external_table, t.kind, t.label, x.key, CASE WHEN t.gone IS NULL THEN 'linked' ELSE 'gone' END, t.gone,
               x.action = 'CREATE', coalesce(t.columns, t.applied), t.hash
          FROM marked AS x JOIN pgsync_itsm.intake_there AS t ON t.run_id = run.id AND t.external_id = x.external_id
         WHERE x.state = 'done'
        ON CONFLICT (connection_id, external_id) DO UPDATE
           SET external_table = excluded.external_table, kind = excluded.kind, name = excluded.name, key = excluded.key, state = excluded.state, note = excluded.note,
               created_by_us = m.created_by_us OR excluded.created_by_us, applied = excluded.applied, hash = excluded.hash, updated_at = now(),
               links = CASE WHEN m.key IS DISTINCT FROM excluded.key THEN '{}' ELSE m.links END
        RETURNING 1
    )
    SELECT array_agg(x.id) INTO ids FROM marked AS x;
    PERFORM pgsync_itsm.contacts_map(run, ids);
    PERFORM pgsync_itsm.intake_log(run, ids);
    RETURN true;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.intake_apply(@extschema@.integration_runs, text) IS 'Writes the next rows of a step of what is taken over into the user''s table; false if none is left';

CREATE FUNCTION pgsync_itsm.intake_apply_links(run @extschema@.integration_runs) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    i @extschema@.integration_run_items;
    k record;
    ids bigint[];
BEGIN
    SELECT * INTO i FROM @extschema@.integration_run_items AS x WHERE x.run_id = run.id AND x.state = 'planned' AND x.step = 'in links' ORDER BY x.id LIMIT 1;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    SELECT x.kind, x.links ->> 'entity_column' AS entity_column, x.links ->> 'key_column' AS key_column INTO k
      FROM pgsync_itsm.intakes_on(run.connection_id) AS x WHERE i.entity_type = x.kind || '_link';
    ids := ARRAY(SELECT x.id FROM @extschema@.integration_run_items AS x
                  WHERE x.run_id = run.id AND x.state = 'planned' AND x.step = 'in links' AND x.entity_type = i.entity_type ORDER BY x.id LIMIT 500);
    WITH items AS MATERIALIZED (
        SELECT x.id, x.external_id, x.payload ->> k.entity_column AS entity_key, m.key
          FROM @extschema@.integration_run_items AS x
          LEFT JOIN @extschema@.integration_intake_map AS m ON m.connection_id = run.connection_id AND m.external_id = x.external_id AND m.state = 'linked'
         WHERE x.id = ANY (ids)
    ), sent AS MATERIALIZED (
        SELECT n.*, row_number() OVER (ORDER BY n.id) AS at FROM items AS n WHERE n.key IS NOT NULL
    ), written AS MATERIALIZED (
        SELECT w.* FROM (SELECT array_agg(s.key ORDER BY s.at) AS keys, array_agg(json_build_object(k.entity_column, s.entity_key, k.key_column, s.key)::text ORDER BY s.at) AS payloads
                           FROM sent AS s HAVING count(*) > 0) AS a
         CROSS JOIN LATERAL pgsync_itsm.try_intake(run.connection_id, k.kind, 'link', '{}', a.keys, a.payloads, array_fill('{}'::text, ARRAY[cardinality(a.keys)])) AS w
    ), marked AS (
        UPDATE @extschema@.integration_run_items AS x
           SET state = r.state, outcome = r.outcome, error_class = CASE WHEN r.state = 'dead' THEN 'NOT_WRITTEN' END, reason = coalesce(left(r.reason, 500), x.reason), updated_at = now(),
               payload = CASE WHEN r.key IS NULL THEN x.payload ELSE json_build_object(k.entity_column, x.payload ->> k.entity_column, k.key_column, r.key) END
          FROM (SELECT s.id, CASE WHEN w.reason IS NOT NULL THEN 'dead' WHEN w.key IS NULL THEN 'unchanged' ELSE 'done' END AS state,
                       CASE WHEN w.reason IS NOT NULL THEN 'dead' WHEN w.key IS NULL THEN 'unchanged' ELSE 'done' END AS outcome, w.reason, s.key
                  FROM sent AS s JOIN written AS w ON w.n = s.at
                UNION ALL
                SELECT n.id, 'skipped', 'skipped', 'what it would be linked to was not taken over', NULL FROM items AS n WHERE n.key IS NULL) AS r
         WHERE x.id = r.id
        RETURNING x.id, x.external_id, x.state, x.payload ->> k.entity_column AS entity_key
    ), remembered AS (
        UPDATE @extschema@.integration_intake_map AS m SET links = m.links || l.known, updated_at = now()
          FROM (SELECT x.external_id, jsonb_object_agg(x.entity_key, 'linked') AS known FROM marked AS x WHERE x.state IN ('done', 'unchanged') GROUP BY 1) AS l
         WHERE m.connection_id = run.connection_id AND m.external_id = l.external_id
        RETURNING 1
    )
    SELECT array_agg(x.id) FILTER (WHERE x.state IN ('done', 'dead')) INTO ids FROM marked AS x;
    PERFORM pgsync_itsm.intake_log(run, ids);
    RETURN true;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.intake_apply_links(@extschema@.integration_runs) IS 'Links the next records of ours to rows that were taken over; false if none is left';

-- Setting one ---------------------------------------------------------------------------------------------

CREATE FUNCTION pgsync_itsm.check_intake(connection_id uuid, kind text, relation text, key_column text, columns jsonb, namespace_column text, gone jsonb, links jsonb) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c record;
    match_field text := (SELECT k.match_field FROM pgsync_itsm.intake_kinds() AS k WHERE k.kind = check_intake.kind);
BEGIN
    PERFORM pgsync_itsm.check_one_of('kind', kind, ARRAY(SELECT k.kind FROM pgsync_itsm.intake_kinds() AS k));
    IF columns IS NULL THEN
        RETURN;
    END IF;
    IF relation IS NULL OR NOT EXISTS (SELECT FROM pg_class AS r WHERE r.oid = to_regclass(relation) AND r.relkind IN ('r', 'p', 'v')) THEN
        RAISE EXCEPTION 'there is no table or view %', coalesce(relation, 'NULL')
            USING ERRCODE = 'undefined_table', HINT = 'Name it with its schema, as in public.servers.';
    ELSIF jsonb_typeof(columns) <> 'object' OR NOT EXISTS (SELECT FROM pgsync_itsm.writer_columns(columns) AS w WHERE w.field = match_field AND w.col IS NOT NULL) THEN
        RAISE EXCEPTION 'columns must be a JSON object that names the column of field "%"', match_field
            USING ERRCODE = 'invalid_parameter_value', DETAIL = 'Rows here are found by it.',
                  HINT = format('As in {"%s": "name", "os": {"column": "operating_system", "value": "concat_ws('' '', value, record ->> ''os_version'')"}}.', match_field);
    ELSIF EXISTS (SELECT FROM pgsync_itsm.writer_columns(columns) AS w GROUP BY w.col HAVING count(*) > 1) THEN
        RAISE EXCEPTION 'columns names a column twice' USING ERRCODE = 'duplicate_column', HINT = 'An expression sees all fields: record ->> ''os_version''.';
    ELSIF connection_id IS NULL AND namespace_column IS NULL THEN
        RAISE EXCEPTION 'an intake of all connections needs the column that holds the namespace' USING ERRCODE = 'invalid_parameter_value',
            HINT = 'namespace_column => ''namespace_id''; without one, give the connection.';
    ELSIF gone IS NOT NULL AND (jsonb_typeof(gone) <> 'object' OR NOT gone ? 'column' OR NOT gone ? 'value') THEN
        RAISE EXCEPTION 'gone must be a JSON object with column and value' USING ERRCODE = 'invalid_parameter_value',
            HINT = 'As in {"column": "is_active", "value": "false", "back": "true"}; NULL: rows stay as they are.';
    ELSIF links IS NOT NULL AND (jsonb_typeof(links) <> 'object' OR NOT links ?& ARRAY['relation', 'entity_type', 'entity_column', 'key_column']
                                 OR links ? 'types' AND jsonb_typeof(links -> 'types') <> 'array') THEN
        RAISE EXCEPTION 'links must be a JSON object with relation, entity_type, entity_column and key_column' USING ERRCODE = 'invalid_parameter_value',
            HINT = 'As in {"relation": "public.deployment_profile_servers", "entity_type": "deployment_profile", "entity_column": "deployment_profile_id", "key_column": "server_id", "types": ["Runs on::Runs"]}.';
    END IF;
    FOR c IN SELECT 'key_column' AS what, check_intake.relation AS rel, key_column AS col, NULL AS expression UNION ALL SELECT 'namespace_column', relation, namespace_column, NULL WHERE namespace_column IS NOT NULL
             UNION ALL SELECT 'gone', relation, gone ->> 'column', NULL WHERE gone IS NOT NULL
             UNION ALL SELECT 'links', links ->> 'relation', links ->> x.name, NULL FROM (VALUES ('entity_column'), ('key_column')) AS x(name) WHERE links IS NOT NULL
             UNION ALL SELECT format('the column for %I', w.field), relation, w.col, w.expression FROM pgsync_itsm.writer_columns(columns) AS w LOOP
        IF to_regclass(c.rel) IS NULL THEN
            RAISE EXCEPTION '%: there is no table or view %', c.what, coalesce(c.rel, 'NULL') USING ERRCODE = 'undefined_table', HINT = 'Name it with its schema.';
        ELSIF c.col IS NULL OR pgsync_itsm.column_type(c.rel, c.col) IS NULL THEN
            RAISE EXCEPTION '%: % has no column "%"', c.what, c.rel, coalesce(c.col, 'NULL') USING ERRCODE = 'undefined_column',
                HINT = format('It has: %s.', (SELECT string_agg(a.attname, ', ' ORDER BY a.attnum) FROM pg_attribute AS a WHERE a.attrelid = to_regclass(c.rel) AND a.attnum > 0 AND NOT a.attisdropped));
        END IF;
        IF c.expression IS NOT NULL THEN
            PERFORM pgsync_itsm.check_expression(c.expression);
        END IF;
    END LOOP;
    IF links IS NOT NULL THEN
        PERFORM pgsync_itsm.check_entity_type(links ->> 'entity_type');
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.check_intake(uuid, text, text, text, jsonb, text, jsonb, jsonb) IS 'Raises a clear error for an intake that could not work';

CREATE FUNCTION pgsync_itsm.store_intake(connection_id uuid, kind text, relation text, key_column text, columns jsonb, namespace_column text, gone jsonb, links jsonb) RETURNS void
LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'gate_own_connection';
COMMENT ON FUNCTION pgsync_itsm.store_intake(uuid, text, text, text, jsonb, text, jsonb, jsonb) IS
'Gate: the intake of a kind of the caller''s connection (NULL, superuser: of all); NULL columns remove it';

-- Another table has other rows: what is known of the old one is not true of it.
CREATE FUNCTION pgsync_itsm.intake_forget(connection_id uuid, kind text, relation text, key_column text) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    DELETE FROM @extschema@.integration_intake_map AS m
     WHERE m.kind = intake_forget.kind AND (m.connection_id = intake_forget.connection_id OR intake_forget.connection_id IS NULL)
       AND ((pgsync_itsm.intake_of(m.connection_id, m.kind)).relation, (pgsync_itsm.intake_of(m.connection_id, m.kind)).key_column)
           IS DISTINCT FROM (intake_forget.relation, intake_forget.key_column);
    UPDATE @extschema@.integration_intake_map AS m SET hash = NULL
     WHERE m.kind = intake_forget.kind AND (m.connection_id = intake_forget.connection_id OR intake_forget.connection_id IS NULL);
END;
COMMENT ON FUNCTION pgsync_itsm.intake_forget(uuid, text, text, text) IS 'Forgets which row is which record, where an intake is about to name another table or key; all is compared anew';

CREATE FUNCTION pgsync_itsm.store_intake_granted(connection_id uuid, kind text, relation text, key_column text, columns jsonb, namespace_column text, gone jsonb, links jsonb, caller name)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    full_name text := (SELECT format('%I.%I', n.nspname, r.relname) FROM pg_class AS r JOIN pg_namespace AS n ON n.oid = r.relnamespace WHERE r.oid = to_regclass(relation));
BEGIN
    PERFORM pgsync_itsm.check_intake(connection_id, kind, relation, key_column, columns, namespace_column, gone, links);
    IF columns IS NOT NULL THEN
        PERFORM pgsync_itsm.intake_forget(connection_id, kind, full_name, key_column);
    END IF;
    DELETE FROM @extschema@.integration_intakes AS i WHERE i.kind = kind AND i.connection_id IS NOT DISTINCT FROM connection_id;
    IF columns IS NOT NULL THEN
        INSERT INTO @extschema@.integration_intakes (namespace_id, connection_id, kind, relation, key_column, columns, namespace_column, gone, links)
        SELECT (SELECT c.namespace_id FROM @extschema@.integration_connections AS c WHERE c.id = connection_id), connection_id, kind, full_name, key_column, columns, namespace_column, gone,
               links || jsonb_build_object('relation', (SELECT format('%I.%I', n.nspname, r.relname) FROM pg_class AS r JOIN pg_namespace AS n ON n.oid = r.relnamespace
                                                         WHERE r.oid = to_regclass(links ->> 'relation')));
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.store_intake_granted(uuid, text, text, text, jsonb, text, jsonb, jsonb, name) IS 'Behind store_intake()';

CREATE FUNCTION @extschema@.itsm_set_intake(connection_id uuid, kind text, relation text, key_column text, columns jsonb,
                                            namespace_column text DEFAULT NULL, gone jsonb DEFAULT NULL, links jsonb DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pgsync_itsm.store_intake(connection_id, kind, relation, key_column, columns, namespace_column, gone, links);
    IF columns IS NOT NULL AND connection_id IS NOT NULL AND kind <> ALL (string_to_array(replace(coalesce(pgsync_itsm.setting(connection_id, 'intake'), ''), ' ', ''), ',')) THEN
        RAISE NOTICE 'nothing is taken over yet; next: SELECT itsm_set(%, ''intake'', %);', quote_literal(connection_id),
            quote_literal(concat_ws(',', pgsync_itsm.setting(connection_id, 'intake'), kind));
    END IF;
END
$$;
COMMENT ON FUNCTION @extschema@.itsm_set_intake(uuid, text, text, text, jsonb, text, jsonb, jsonb) IS
'Says into which table here servers or computers of the platform are taken over: key column (filled by its default), the column of each field ({"name": "name", "os": {"column": ..., "value": expression over value and record}}), the column of the namespace, what marks a row whose record is gone there ({"column": ..., "value": ..., "back": ...}) and the table of links to records of ours; NULL columns take that back. The setting "intake" turns it on; rows are added and updated with the rights of the connection''s owner, never deleted';

-- GetInSync -----------------------------------------------------------------------------------------------

CREATE FUNCTION pgsync_itsm.store_intakes(schema_name name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM @extschema@.integration_intakes AS i WHERE i.origin = 'getinsync' AND i.connection_id IS NULL;
    INSERT INTO @extschema@.integration_intakes (kind, relation, key_column, columns, namespace_column, gone, origin)
    SELECT v.kind, format('%I.%I', schema_name, v.tab), 'id',
           (SELECT jsonb_object_agg(e.key, e.value) FROM jsonb_each(v.columns) AS e
             WHERE pgsync_itsm.has_columns(schema_name, v.tab, (CASE jsonb_typeof(e.value) WHEN 'string' THEN e.value #>> '{}' ELSE e.value ->> 'column' END)::name)),
           'namespace_id', CASE WHEN pgsync_itsm.has_columns(schema_name, v.tab, 'is_active') THEN '{"column": "is_active", "value": "false"}'::jsonb END, 'getinsync'
      FROM (VALUES ('contact', 'contacts'::name, '{"email": "email", "name": {"column": "display_name", "value": "coalesce(value, record ->> ''email'')"}, "title": "job_title", "phone": "phone",
                                                  "_category": {"column": "contact_category", "value": "''internal''"}}'::jsonb),
                   ('group', 'teams', '{"name": "name"}')) AS v(kind, tab, columns)
     WHERE pgsync_itsm.has_columns(schema_name, v.tab, 'id', 'namespace_id', (v.columns ->> CASE v.kind WHEN 'contact' THEN 'email' ELSE 'name' END)::name)
       AND NOT EXISTS (SELECT FROM @extschema@.integration_intakes AS i WHERE i.connection_id IS NULL AND i.kind = v.kind);
    IF NOT pgsync_itsm.has_columns(schema_name, 'servers', 'id', 'namespace_id', 'name') THEN
        RETURN;
    END IF;
    INSERT INTO @extschema@.integration_intakes (kind, relation, key_column, columns, namespace_column, links, origin)
    SELECT k.kind, format('%I.servers', schema_name), 'id',
           jsonb_strip_nulls(jsonb_build_object('name', 'name', 'os', CASE WHEN pgsync_itsm.has_columns(schema_name, 'servers', 'operating_system')
               THEN '{"column": "operating_system", "value": "value || coalesce('' '' || nullif(record ->> ''os_version'', ''''), '''')"}'::jsonb END)), 'namespace_id',
           CASE WHEN pgsync_itsm.has_columns(schema_name, 'deployment_profile_servers', 'deployment_profile_id', 'server_id')
                THEN jsonb_build_object('relation', format('%I.deployment_profile_servers', schema_name), 'entity_type', 'deployment_profile',
                                        'entity_column', 'deployment_profile_id', 'key_column', 'server_id', 'types', '["Runs on::Runs"]'::jsonb) END, 'getinsync'
      FROM (VALUES ('server'), ('computer')) AS k(kind)
     WHERE NOT EXISTS (SELECT FROM @extschema@.integration_intakes AS i WHERE i.connection_id IS NULL AND i.kind = k.kind);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.store_intakes(name) IS 'Stores the intakes of an attached GetInSync schema, but for those that somebody has set';
