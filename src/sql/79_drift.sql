-- Where the two sides differ, as far as can be said without asking the platform: by what was read of it last, what was
-- agreed, and what is here now.
--
-- What is here is said in the platform's terms, by what is known of its choices and records.  What cannot be said so, for
-- nothing is known of it, is not said to have been changed.

CREATE TYPE pgsync_itsm.drift_row AS (connection_id uuid, entity_type text, entity_id uuid, label text, field text, kind text, base text, ours text, theirs text);
COMMENT ON TYPE pgsync_itsm.drift_row IS 'What itsm_drift() says: a field, or a record, that is not the same on both sides';

CREATE FUNCTION pgsync_itsm.drift_reads(connection_id uuid, entity_type text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN coalesce((SELECT pg_has_role(r.oid, 'MEMBER') FROM @extschema@.integration_connections AS c JOIN pg_roles AS r ON r.rolname = c.owner
                  WHERE c.id = drift_reads.connection_id), false)
       AND pgsync_itsm.source_exists(connection_id, entity_type);
COMMENT ON FUNCTION pgsync_itsm.drift_reads(uuid, text) IS 'May the caller have this source read, and is there one';

-- As plan_fields() and plan_field_rules() have it.
CREATE FUNCTION pgsync_itsm.drift_fields(connection_id uuid, entity_type text, classes text[])
RETURNS TABLE (class text, field text, kind text, authority text, max_length integer)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT k.class, f.field, f.kind, f.authority, CASE f.kind WHEN 'text' THEN nullif((r.attrs ->> 'max_length')::integer, 0) END
      FROM unnest(classes) AS k(class)
     CROSS JOIN LATERAL pgsync_itsm.merge_fields(drift_fields.connection_id, drift_fields.entity_type, k.class) AS f
      LEFT JOIN @extschema@.integration_references AS r
        ON r.connection_id = drift_fields.connection_id AND r.kind = 'column' AND r.target = k.class AND r.key = f.field
     -- a column that is known not to be there is not sent
     WHERE r.external_id IS NOT NULL
        OR NOT EXISTS (SELECT FROM @extschema@.integration_references AS c
                        WHERE c.connection_id = drift_fields.connection_id AND c.kind = 'column' AND c.target = k.class AND c.external_id IS NOT NULL);
END;
COMMENT ON FUNCTION pgsync_itsm.drift_fields(uuid, text, text[]) IS 'Fields that are compared, by class there';

CREATE FUNCTION pgsync_itsm.drift_ours(connection_id uuid, entity_type text) RETURNS TABLE (entity_id uuid, class text, payload jsonb)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    IF NOT pgsync_itsm.drift_reads($1, $2) THEN
        RETURN;
    END IF;
    RETURN QUERY
    WITH here AS MATERIALIZED (
        SELECT pgsync_itsm.entity_id($2, s.key) AS entity_id, coalesce(s.class, '') AS class, s.payload FROM pgsync_itsm.read_source($1, $2) AS s WHERE s.key IS NOT NULL
    ), fields AS MATERIALIZED (
        SELECT f.* FROM pgsync_itsm.drift_fields($1, $2, ARRAY(SELECT DISTINCT h.class FROM here AS h)) AS f
    ), said AS MATERIALIZED (
        SELECT h.entity_id, f.class, f.field, f.kind, CASE WHEN length(e.value) > f.max_length THEN left(e.value, f.max_length) ELSE coalesce(e.value, '') END AS value
          FROM here AS h CROSS JOIN LATERAL json_each_text(h.payload) AS e(field, value) JOIN fields AS f ON f.class = h.class AND f.field = e.field
    ), companies AS MATERIALIZED (
        SELECT lower(m.published_name) AS name, min(m.external_id) AS id FROM @extschema@.integration_sync_map AS m
         WHERE m.connection_id = $1 AND m.entity_type = 'company' AND m.state <> 'gone' GROUP BY 1 HAVING count(*) = 1
    ), answers AS MATERIALIZED (
        -- as plan_answers() has it, from what has been looked up before
        SELECT d.class, d.field, d.value,
               CASE WHEN d.value = '' THEN '' WHEN d.kind = 'choice' THEN pgsync_itsm.choice_value($1, d.class, d.field, d.value)
                    WHEN d.kind = 'company' THEN coalesce(r.external_id, c.id)
                    WHEN d.kind IN ('user', 'group', 'contract_model') AND r.matches <> 1 THEN NULL ELSE r.external_id END AS answer
          FROM (SELECT DISTINCT s.class, s.field, s.kind, s.value FROM said AS s WHERE s.kind NOT IN ('text', 'date', 'reference')) AS d
          LEFT JOIN @extschema@.integration_references AS r
            ON r.connection_id = $1 AND r.kind = CASE WHEN d.kind LIKE 'life_cycle%' THEN 'life_cycle' ELSE d.kind END
           AND r.target = CASE WHEN d.kind LIKE 'life_cycle%' THEN d.kind ELSE '' END AND r.key = lower(d.value)
          LEFT JOIN companies AS c ON d.kind = 'company' AND c.name = lower(d.value)
    )
    SELECT h.entity_id, h.class, coalesce(p.payload, '{}')
      FROM here AS h
      LEFT JOIN (SELECT s.entity_id, jsonb_object_agg(s.field, CASE WHEN s.kind IN ('text', 'date', 'reference') THEN s.value ELSE a.answer END) AS payload
                   FROM said AS s LEFT JOIN answers AS a ON a.class = s.class AND a.field = s.field AND a.value = s.value GROUP BY s.entity_id) AS p USING (entity_id);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.drift_ours(uuid, text) IS
'What is here now of one entity type, read with the rights of the connection''s owner, in the platform''s terms; a null is not known there. No rows for who may not read it';

-- What was agreed is what a conflict says, else what both sides held after the last publish, else what was read before the
-- change that waits in the inbox.  A mirror that is older than the last publish does not know what that wrote.
CREATE FUNCTION pgsync_itsm.drift_values(connection_id uuid, entity_type text) RETURNS SETOF pgsync_itsm.drift_row
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH ours AS MATERIALIZED (
        SELECT o.* FROM pgsync_itsm.drift_ours($1, $2) AS o
    ), sides AS MATERIALIZED (
        SELECT m.entity_id, m.published_name, coalesce(m.external_table, '') AS class, m.last_agreed::jsonb AS agreed, m.not_taken, x.attrs::jsonb AS attrs, o.payload,
               x.last_seen < m.last_synced_at AS is_old, b.before::jsonb AS before
          FROM @extschema@.integration_sync_map AS m
          LEFT JOIN @extschema@.integration_external_records AS x ON x.connection_id = m.connection_id AND x.external_id = m.external_id
          LEFT JOIN ours AS o ON o.entity_id = m.entity_id
          LEFT JOIN LATERAL (SELECT i.before FROM @extschema@.integration_inbox AS i
                              WHERE i.connection_id = m.connection_id AND i.external_id = m.external_id AND i.state IN ('new', 'error') AND i.entity_type = m.entity_type
                              ORDER BY i.id DESC LIMIT 1) AS b ON true
         WHERE m.connection_id = $1 AND m.entity_type = $2 AND m.parent_id IS NULL AND m.state = 'linked' AND m.last_agreed IS NOT NULL
    ), fields AS MATERIALIZED (
        SELECT f.* FROM pgsync_itsm.drift_fields($1, $2, ARRAY(SELECT DISTINCT s.class FROM sides AS s)) AS f
    ), known AS (
        SELECT s.entity_id, s.published_name, f.field, f.authority, c.id IS NOT NULL AS asked, s.not_taken ->> f.field AS not_taken,
               pgsync_itsm.plain_value(coalesce(c.base, s.agreed ->> f.field)) AS agreed, pgsync_itsm.plain_value(s.before ->> f.field) AS before,
               pgsync_itsm.plain_value(coalesce(s.payload ->> f.field, c.ours)) AS ours,
               pgsync_itsm.plain_value(coalesce(CASE WHEN s.is_old THEN s.agreed ->> f.field END, s.attrs ->> f.field, c.theirs)) AS theirs
          FROM sides AS s JOIN fields AS f ON f.class = s.class
          LEFT JOIN @extschema@.integration_conflicts AS c
            ON c.connection_id = $1 AND c.entity_type = $2 AND c.entity_id = s.entity_id AND c.field = f.field AND c.state = 'open'
    ), based AS (
        -- What was empty here when the record was sent is agreed by nobody.  What is here now was filled in since, unless it is
        -- the platform's to say, or was not taken there.
        SELECT k.*, k.theirs <> coalesce(k.agreed, k.before) AS there,
               k.ours <> CASE WHEN k.agreed IS NOT NULL THEN k.agreed
                              WHEN NOT (k.authority IN ('theirs', 'if_empty') AND k.theirs <> '' OR k.not_taken IS NOT NULL) THEN '' END AS here
          FROM known AS k
    )
    SELECT $1, $2, d.entity_id, d.published_name, d.field,
           CASE WHEN d.asked OR d.there AND d.here THEN 'both' WHEN d.there THEN 'changed there' ELSE 'changed here' END, coalesce(d.agreed, d.before, ''), d.ours, d.theirs
      FROM based AS d
     WHERE (d.there OR d.here OR d.asked) AND d.ours IS DISTINCT FROM d.theirs;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.drift_values(uuid, text) IS 'Fields of one entity type that are not on both sides as they were agreed';

-- What is gone there counts as missing if it is here still, as far as the caller may know.
CREATE FUNCTION pgsync_itsm.drift_missing(connection_id uuid, entity_type text) RETURNS SETOF pgsync_itsm.drift_row
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    gone uuid[] := ARRAY(
        SELECT m.entity_id FROM @extschema@.integration_sync_map AS m
         WHERE m.connection_id = $1 AND m.entity_type = $2
           AND (m.state = 'gone'
                OR EXISTS (SELECT FROM @extschema@.integration_inbox AS b
                            WHERE b.connection_id = m.connection_id AND b.external_id = m.external_id AND b.entity_id = m.entity_id AND b.state = 'new' AND b.body IS NULL)));
BEGIN
    IF gone <> '{}' AND pgsync_itsm.drift_reads($1, $2) THEN
        gone := ARRAY(SELECT pgsync_itsm.entity_id($2, s.key) FROM pgsync_itsm.read_source($1, $2) AS s WHERE s.key IS NOT NULL INTERSECT SELECT g FROM unnest(gone) AS g);
    END IF;
    RETURN QUERY
        SELECT m.connection_id, m.entity_type, m.entity_id, coalesce(m.published_name, m.native_key), NULL::text, 'missing there', NULL::text, NULL::text, NULL::text
          FROM @extschema@.integration_sync_map AS m
         WHERE m.connection_id = $1 AND m.entity_type = $2 AND m.entity_id = ANY (gone);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.drift_missing(uuid, text) IS 'Records and relationships of one type that are here and gone there';

CREATE FUNCTION pgsync_itsm.drift_foreign(connection_id uuid) RETURNS SETOF pgsync_itsm.drift_row
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT x.connection_id, t.entity_type, NULL::uuid, x.name, NULL::text, 'foreign', NULL::text, NULL::text, x.external_id
      FROM @extschema@.integration_external_records AS x
      JOIN (SELECT k.target, min(k.entity_type) AS entity_type FROM pgsync_itsm.mirror_tables(drift_foreign.connection_id) AS k
             WHERE k.entity_type IN ('application', 'deployment_profile', 'it_service') GROUP BY k.target) AS t ON t.target = x.target
     WHERE x.connection_id = drift_foreign.connection_id
       AND NOT EXISTS (SELECT FROM @extschema@.integration_sync_map AS m WHERE m.connection_id = x.connection_id AND m.external_id = x.external_id AND m.parent_id IS NULL);
END;
COMMENT ON FUNCTION pgsync_itsm.drift_foreign(uuid) IS 'Applications and services there that are of no record of this connection';

CREATE FUNCTION pgsync_itsm.drift_rows(namespace_id uuid, connection_id uuid) RETURNS SETOF pgsync_itsm.drift_row
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    c record;
    t text;
BEGIN
    PERFORM pgsync_itsm.check_sees_namespace($1);
    IF $2 IS NOT NULL AND (pgsync_itsm.seen_connection($2)).namespace_id IS DISTINCT FROM $1 THEN
        RAISE EXCEPTION 'connection % is not one of namespace %', $2, $1
            USING ERRCODE = 'undefined_object', HINT = format('SELECT id, platform, name FROM integration_connections WHERE namespace_id = %L;', $1);
    END IF;
    FOR c IN SELECT x.id, x.owner FROM @extschema@.integration_connections AS x WHERE x.namespace_id = $1 AND ($2 IS NULL OR x.id = $2) ORDER BY x.name, x.id LOOP
        IF NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = c.owner AND pg_has_role(r.oid, 'MEMBER')) THEN
            RAISE NOTICE 'connection %: what was changed here is not said, for you are no member of "%"', c.id, c.owner;
        END IF;
        FOR t IN SELECT DISTINCT m.entity_type FROM @extschema@.integration_sync_map AS m WHERE m.connection_id = c.id ORDER BY 1 LOOP
            RETURN QUERY SELECT d.* FROM pgsync_itsm.drift_missing(c.id, t) AS d ORDER BY d.label, d.entity_id;
            CONTINUE WHEN pgsync_itsm.is_relationship(t);
            RETURN QUERY SELECT d.* FROM pgsync_itsm.drift_values(c.id, t) AS d ORDER BY d.label, d.entity_id, d.field;
        END LOOP;
        RETURN QUERY SELECT d.* FROM pgsync_itsm.drift_foreign(c.id) AS d ORDER BY d.entity_type, d.label, d.theirs;
    END LOOP;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.drift_rows(uuid, uuid) IS 'Behind itsm_drift()';

CREATE FUNCTION @extschema@.itsm_drift(namespace_id uuid, connection_id uuid DEFAULT NULL)
RETURNS TABLE (connection_id uuid, entity_type text, entity_id uuid, label text, field text, kind text, base text, ours text, theirs text)
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT d.connection_id, d.entity_type, d.entity_id, d.label, d.field, d.kind, d.base, d.ours, d.theirs FROM pgsync_itsm.drift_rows($1, $2) AS d;
END;
COMMENT ON FUNCTION @extschema@.itsm_drift(uuid, uuid) IS
'Where the two sides differ, by what was read there last and what is here now: changed there, changed here, both, missing there, foreign (an application or service there, of no record of the connection; theirs is its id). Values as the platform has them. What is here is read with the rights of the connection''s owner, for its members';
