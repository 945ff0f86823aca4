-- The queue of changes: triggers append to it in the user's transaction, the worker collects from it into runs.
--
-- Rows are never updated, and those that were seen are taken: the order of ids is not the order of commits.  No
-- function here looks at a user's table.

CREATE FUNCTION pgsync_itsm.queue_change() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'trigger_queue_change';
COMMENT ON FUNCTION pgsync_itsm.queue_change() IS
'Trigger that notes the keys of changed rows and appends them to integration_queue before commit. Arguments: @ and the namespace column, if any; key columns (a/b: two as one key, *: the whole entity type; *a/b: that, if a or b is NULL), |, columns whose change counts (none: all; after a minus: not for the key *)';

CREATE FUNCTION pgsync_itsm.queue_relations() RETURNS oid[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN ARRAY['@extschema@.integration_queue'::regclass::oid, '@extschema@.integration_connections'::regclass::oid,
             '@extschema@.integration_connections_on_change'::regclass::oid,
             '@extschema@.integration_connections_namespace_id_platform_name_key'::regclass::oid];
COMMENT ON FUNCTION pgsync_itsm.queue_relations() IS
'What the trigger function writes and reads: the queue; the connections, the index of those that follow changes and that of all, by namespace. An inactive one counts, so that activating it leaves no gap';

-- Watches -----------------------------------------------------------------------------------------

CREATE FUNCTION pgsync_itsm.is_own_key(relation regclass, key_column text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN EXISTS (SELECT FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
                WHERE i.indrelid = relation AND i.indisprimary AND i.indnkeyatts = 1 AND a.attname = key_column);
COMMENT ON FUNCTION pgsync_itsm.is_own_key(regclass, text) IS
'Is this column the primary key: then a deleted row is a deleted record, and not just a link less';

CREATE FUNCTION pgsync_itsm.store_watch(relation regclass, entity_type text, key_column text, match_by text, columns text[], origin text)
RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    INSERT INTO @extschema@.integration_watches AS w (relation, entity_type, key_column, match_by, owns_key, columns, origin)
    VALUES (store_watch.relation::text, store_watch.entity_type, store_watch.key_column, store_watch.match_by,
            store_watch.match_by = 'key' AND pgsync_itsm.is_own_key(store_watch.relation, store_watch.key_column),
            store_watch.columns, store_watch.origin)
    ON CONFLICT (relation, entity_type, key_column, match_by)
    DO UPDATE SET owns_key = excluded.owns_key, columns = excluded.columns,
                  origin = CASE WHEN w.origin = 'user' THEN 'user' ELSE excluded.origin END;
END;
COMMENT ON FUNCTION pgsync_itsm.store_watch(regclass, text, text, text, text[], text) IS 'Stores one watch, or changes it';

CREATE FUNCTION pgsync_itsm.trigger_arguments(relation regclass) RETURNS text[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT CASE WHEN bool_or(w.origin = 'getinsync')
                     AND EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = trigger_arguments.relation
                                    AND a.attname = 'namespace_id' AND NOT a.attisdropped)
                THEN '{@namespace_id}'::text[] ELSE '{}' END
           || array_agg(DISTINCT w.key_column)
           || CASE WHEN bool_or(w.columns IS NULL) THEN '{}'
                   -- a column that is of no concern to the watches of * does not have a whole entity type planned
                   ELSE '{|}' || ARRAY(SELECT CASE WHEN bool_or(w.key_column = '*') AND NOT bool_or(o.key_column = '*') THEN '-' ELSE '' END || c.name
                                         FROM @extschema@.integration_watches AS o, unnest(o.columns) AS c(name)
                                        WHERE o.relation = trigger_arguments.relation::text GROUP BY c.name ORDER BY c.name) END
      FROM @extschema@.integration_watches AS w
     WHERE w.relation = trigger_arguments.relation::text
    HAVING count(*) > 0;
END;
COMMENT ON FUNCTION pgsync_itsm.trigger_arguments(regclass) IS
'Arguments of the trigger that serves all watches of a table; NULL: it has none';

CREATE FUNCTION pgsync_itsm.has_trigger(relation regclass, name text, arguments text[]) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN EXISTS (SELECT FROM pg_trigger AS t
                WHERE t.tgrelid = relation AND t.tgname = name AND NOT t.tgisinternal AND t.tgenabled = 'A'
                  AND (arguments IS NULL
                       OR encode(t.tgargs, 'escape')
                          = (SELECT coalesce(string_agg(encode(convert_to(a.arg, getdatabaseencoding()), 'escape') || '\000', '' ORDER BY a.n), '')
                               FROM unnest(arguments) WITH ORDINALITY AS a(arg, n))));
COMMENT ON FUNCTION pgsync_itsm.has_trigger(regclass, text, text[]) IS
'Has the table this trigger, enabled always and with these arguments (NULL: any)';

CREATE FUNCTION pgsync_itsm.make_trigger(relation regclass, name text, event text, arguments text[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF arguments IS NOT NULL AND pgsync_itsm.has_trigger(relation, name, arguments) THEN
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = relation AND t.tgname = name AND NOT t.tgisinternal) THEN
        EXECUTE format('DROP TRIGGER %I ON %s', name, relation);
    END IF;
    IF arguments IS NOT NULL THEN
        EXECUTE format('CREATE TRIGGER %I AFTER %s EXECUTE FUNCTION pgsync_itsm.queue_change(%s)', name, format(event, relation),
                       (SELECT string_agg(quote_literal(a.arg), ', ' ORDER BY a.n) FROM unnest(arguments) WITH ORDINALITY AS a(arg, n)));
        EXECUTE format('ALTER TRIGGER %I ON %s DEPENDS ON EXTENSION pgsync_itsm', name, relation);
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', relation, name);
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.make_trigger(regclass, text, text, text[]) IS
'Makes a trigger that depends on the extension and fires always; NULL arguments: drops it';

CREATE FUNCTION pgsync_itsm.make_triggers(relation regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    arguments text[] := pgsync_itsm.trigger_arguments(relation);
BEGIN
    PERFORM pgsync_itsm.make_trigger(relation, 'pgsync_itsm_change', 'INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW', arguments);
    PERFORM pgsync_itsm.make_trigger(relation, 'pgsync_itsm_truncate', 'TRUNCATE ON %s FOR EACH STATEMENT',
                                     CASE WHEN arguments IS NOT NULL THEN '{}'::text[] END);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.make_triggers(regclass) IS
'Gives a table the two triggers that its watches need, or takes them away';

CREATE FUNCTION pgsync_itsm.check_watch(relation regclass, entity_type text, key_column text, match_by text, columns text[]) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    missing text;
BEGIN
    PERFORM pgsync_itsm.check_entity_type(entity_type);
    IF relation IS NULL OR NOT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = relation AND c.relkind IN ('r', 'p')) THEN
        RAISE EXCEPTION '"%" is not a table', coalesce(relation::text, 'NULL') USING ERRCODE = 'wrong_object_type',
            HINT = 'Watch the tables that a view reads.';
    END IF;
    IF match_by IS NULL OR match_by NOT IN ('key', 'parent') THEN
        RAISE EXCEPTION 'invalid match_by "%"', coalesce(match_by, 'NULL') USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Allowed are: key (the column holds the record''s key), parent (the key of its parent, or of either end of a relationship).';
    END IF;
    SELECT string_agg(c.name, ', ') INTO missing
      FROM unnest(CASE WHEN key_column = '*' THEN '{}' ELSE string_to_array(ltrim(key_column, '*'), '/') END || columns) AS c(name)
     WHERE NOT EXISTS (SELECT FROM pg_attribute AS a
                        WHERE a.attrelid = relation AND a.attname = c.name AND a.attnum > 0 AND NOT a.attisdropped);
    IF missing IS NOT NULL OR key_column IS NULL THEN
        RAISE EXCEPTION 'table % has no column: %', relation, coalesce(missing, 'NULL') USING ERRCODE = 'undefined_column',
            HINT = 'The key column is one column, two as in a/b, or * for the whole entity type.';
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.check_watch(regclass, text, text, text, text[]) IS 'Raises a clear error for a watch that cannot work';

CREATE FUNCTION @extschema@.itsm_watch(relation regclass, entity_type text, key_column name, match_by text DEFAULT 'key',
                                       columns name[] DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pgsync_itsm.check_watch(relation, entity_type, key_column::text, match_by, columns::text[]);
    PERFORM pgsync_itsm.store_watch(relation, entity_type, key_column::text, match_by, columns::text[], 'user');
    PERFORM pgsync_itsm.make_triggers(relation);
    PERFORM pgsync_itsm.plan_in_full(NULL);
END
$$;
COMMENT ON FUNCTION @extschema@.itsm_watch(regclass, text, name, text, name[]) IS
'Has changes of a table publish what they concern: the key column holds keys of the entity type (match_by parent: of its parents; a/b: two columns as one key; *: any change concerns all of it; *a/b: so if a or b is NULL). columns: only their change counts';

CREATE FUNCTION @extschema@.itsm_unwatch(relation regclass, entity_type text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM @extschema@.integration_watches AS w
     WHERE w.relation = itsm_unwatch.relation::text
       AND (itsm_unwatch.entity_type IS NULL OR w.entity_type = itsm_unwatch.entity_type);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'table % is not watched', relation USING ERRCODE = 'undefined_object',
            HINT = 'SELECT relation, entity_type, key_column FROM integration_watches;';
    END IF;
    PERFORM pgsync_itsm.make_triggers(relation);
END
$$;
COMMENT ON FUNCTION @extschema@.itsm_unwatch(regclass, text) IS 'Ends the watches of a table, for one entity type or all';

-- Collecting --------------------------------------------------------------------------------------

CREATE FUNCTION pgsync_itsm.debounce() RETURNS interval
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN coalesce(nullif(current_setting('pgsync_itsm.debounce', true), ''), '2s')::interval;
COMMENT ON FUNCTION pgsync_itsm.debounce() IS 'How long changes are gathered before they are planned';

-- The first is the oldest, or nearly so: ids are given out at the end of transactions.
CREATE FUNCTION pgsync_itsm.queue_due() RETURNS timestamptz
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (SELECT q.at FROM @extschema@.integration_queue AS q ORDER BY q.id LIMIT 1) + pgsync_itsm.debounce();
END
$$;
COMMENT ON FUNCTION pgsync_itsm.queue_due() IS 'When collect() has something to do; NULL: the queue is empty';

CREATE FUNCTION pgsync_itsm.watches_of(relation oid) RETURNS SETOF @extschema@.integration_watches
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- a partition's changes are those of the table that is watched
    RETURN QUERY
        SELECT w.* FROM @extschema@.integration_watches AS w
         WHERE to_regclass(w.relation) = watches_of.relation
            OR to_regclass(w.relation) IN (SELECT a.relid FROM pg_partition_ancestors(watches_of.relation::regclass) AS a(relid));
END
$$;
COMMENT ON FUNCTION pgsync_itsm.watches_of(oid) IS 'The watches that changes of a table belong to';

CREATE FUNCTION pgsync_itsm.open_change_run(connection_id uuid, namespace_id uuid, confirm boolean) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    run bigint;
BEGIN
    SELECT r.id INTO run
      FROM @extschema@.integration_runs AS r
     WHERE r.connection_id = open_change_run.connection_id AND r.status = 'queued' AND r.phase = 'queued' AND r.partial AND r.origin = 'on_change'
       AND r.kind = 'publish' AND r.applications IS NULL AND r.confirm = open_change_run.confirm AND NOT r.cancel_requested
     ORDER BY r.id LIMIT 1
       FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        INSERT INTO @extschema@.integration_runs (namespace_id, connection_id, kind, origin, status, partial, confirm)
        VALUES (open_change_run.namespace_id, open_change_run.connection_id, 'publish', 'on_change', 'queued', true,
                open_change_run.confirm)
        RETURNING id INTO run;
    END IF;
    RETURN run;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.open_change_run(uuid, uuid, boolean) IS
'The connection''s queued run of changes, which takes more keys until its plan begins; made if there is none';

CREATE TYPE pgsync_itsm.change_key AS (entity_type text, match_by text, key text, deleted boolean, namespace_id uuid);
COMMENT ON TYPE pgsync_itsm.change_key IS 'A record that changes concern: by its own key or its parent''s, gone or not, of which namespace if known';

CREATE FUNCTION pgsync_itsm.take_changes(OUT changes pgsync_itsm.change_key[], OUT everything boolean)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    piece CONSTANT integer := 10000;
    bytes CONSTANT integer := 2000000;
BEGIN
    -- By their places: however long the queue is, only what is taken is looked at.  However many keys wait in it, no more are
    -- taken at once than can be held: a queue that nobody has collected from for a week is taken in parts.
    WITH sizes AS (
        SELECT o.id, sum(o.size) OVER (ORDER BY o.id ROWS UNBOUNDED PRECEDING) - o.size AS before
          FROM (SELECT x.id, pg_column_size(x.keys) AS size FROM @extschema@.integration_queue AS x ORDER BY x.id LIMIT piece) AS o
    ), taken AS (
        DELETE FROM @extschema@.integration_queue AS q
         WHERE q.ctid = ANY (ARRAY(SELECT o.ctid FROM @extschema@.integration_queue AS o
                                    WHERE o.id <= (SELECT max(s.id) FROM sizes AS s WHERE s.before < bytes)
                                    ORDER BY o.id LIMIT piece FOR UPDATE SKIP LOCKED))
        RETURNING q.relation, q.op, q.key_column, q.keys, q.namespace_id),
    relations AS MATERIALIZED (
        SELECT r.relation, w.entity_type, w.match_by, w.key_column, w.owns_key
          FROM (SELECT DISTINCT t.relation FROM taken AS t) AS r
          LEFT JOIN LATERAL pgsync_itsm.watches_of(r.relation) AS w ON true),
    keyed AS (
        SELECT DISTINCT r.entity_type, r.match_by, k.key, t.op = 'd' AND r.owns_key AS deleted, t.namespace_id
          FROM taken AS t
          JOIN relations AS r ON r.relation = t.relation AND r.key_column = t.key_column
         CROSS JOIN LATERAL unnest(t.keys) AS k(key)
         WHERE t.op <> 't')
    SELECT (SELECT array_agg((k.entity_type, k.match_by, k.key, k.deleted, k.namespace_id)::pgsync_itsm.change_key) FROM keyed AS k
             WHERE k.key <> '*' OR NOT pgsync_itsm.is_relationship(k.entity_type)),
           -- truncated, or a table that is no longer known by the name that it was watched under
           coalesce((SELECT bool_or(t.op = 't' OR NOT EXISTS (SELECT FROM relations AS r
                                                               WHERE r.relation = t.relation AND r.key_column = t.key_column))
                       FROM taken AS t), false)
           -- which relationships are gone is only seen where all of them are looked at
           OR EXISTS (SELECT FROM keyed AS k WHERE k.key = '*' AND pgsync_itsm.is_relationship(k.entity_type))
      INTO changes, everything;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.take_changes() IS
'Takes what is in the queue and says which records it concerns; everything: that cannot be said of all of it';

-- A record may have moved to another namespace before it was deleted: whose it was is for the map to say.
CREATE FUNCTION pgsync_itsm.is_mapped(connection_id uuid, change pgsync_itsm.change_key) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN EXISTS (SELECT FROM @extschema@.integration_sync_map AS m
                    WHERE m.connection_id = is_mapped.connection_id AND m.entity_type = change.entity_type
                      AND m.entity_id = pgsync_itsm.entity_id(change.entity_type, change.key));
END
$$;
COMMENT ON FUNCTION pgsync_itsm.is_mapped(uuid, pgsync_itsm.change_key) IS 'Has a connection published what a change is about';

CREATE FUNCTION pgsync_itsm.collect() RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    taken record;
    c record;
    runs integer := 0;
BEGIN
    IF coalesce(pgsync_itsm.queue_due() > clock_timestamp(), true) THEN
        RETURN 0;
    END IF;
    SELECT * INTO taken FROM pgsync_itsm.take_changes();
    -- for every connection; a run is for those that follow changes
    PERFORM pgsync_itsm.note_deletions(taken.changes);
    FOR c IN
        SELECT i.id, i.namespace_id, false AS confirm
          FROM @extschema@.integration_connections AS i
         WHERE i.is_active AND i.sync_schedule = 'on_change'
    LOOP
        IF taken.everything THEN
            PERFORM pgsync_itsm.plan_in_full_soon(c.id);
        END IF;
        IF EXISTS (SELECT FROM unnest(taken.changes) AS k
                    WHERE k.namespace_id IS NULL OR k.namespace_id = c.namespace_id OR k.deleted AND pgsync_itsm.is_mapped(c.id, k)) THEN
            INSERT INTO pgsync_itsm.run_keys AS r (run_id, entity_type, match_by, key, deleted)
            SELECT o.run, k.entity_type, k.match_by, k.key, bool_or(k.deleted)
              FROM pgsync_itsm.open_change_run(c.id, c.namespace_id, c.confirm) AS o(run), unnest(taken.changes) AS k
             WHERE k.namespace_id IS NULL OR k.namespace_id = c.namespace_id OR k.deleted AND pgsync_itsm.is_mapped(c.id, k)
             GROUP BY o.run, k.entity_type, k.match_by, k.key
            ON CONFLICT (run_id, entity_type, match_by, key) DO UPDATE SET deleted = r.deleted OR excluded.deleted;
            runs := runs + 1;
        END IF;
    END LOOP;
    RETURN runs;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.collect() IS
'Moves due changes from the queue into one run of changes for each active connection that follows them; returns how many runs were given keys';
