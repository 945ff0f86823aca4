-- Deciding what is the same here and there.  Nothing is sent by a decision: the next plan goes by it.

CREATE FUNCTION @extschema@.itsm_match(namespace_id uuid, connection_id uuid DEFAULT NULL) RETURNS SETOF bigint
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pgsync_itsm.new_runs(itsm_match.namespace_id, 'match', NULL, itsm_match.connection_id, NULL, false);
END;
COMMENT ON FUNCTION @extschema@.itsm_match(uuid, uuid) IS
'Reads what the platform has, in the background, and proposes which of it is which record here: integration_matches. Writes nothing there';

CREATE FUNCTION pgsync_itsm.match_ready(connection_id uuid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    open bigint;
BEGIN
    PERFORM pgsync_itsm.match_lock(connection_id);
    SELECT min(r.id) INTO open FROM @extschema@.integration_runs AS r
     WHERE r.connection_id = match_ready.connection_id AND r.kind = 'match' AND r.status IN ('queued', 'planning');
    IF open IS NOT NULL THEN
        RAISE EXCEPTION 'match run % has not finished', open
            USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = 'What it proposes will take the place of what nobody has decided on.',
                  HINT = format('CALL itsm_wait(%s); or SELECT itsm_cancel(%s);', open, open);
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.match_ready(uuid) IS 'Lets decide on the matches of a connection, or says which run is about to replace them';

CREATE FUNCTION pgsync_itsm.seen_match(match_id bigint) RETURNS @extschema@.integration_matches
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    m @extschema@.integration_matches;
BEGIN
    SELECT * INTO m FROM @extschema@.integration_matches AS x WHERE x.id = match_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'match % does not exist', coalesce(match_id::text, 'NULL')
            USING ERRCODE = 'undefined_object',
                  HINT = 'SELECT id, entity_name, external_name, score, reason FROM integration_matches WHERE decision = ''proposed'' ORDER BY score DESC;';
    END IF;
    RETURN m;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.seen_match(bigint) IS 'A match''s row, or the same error whether it is not there or not visible';

CREATE FUNCTION pgsync_itsm.locked_match(match_id bigint) RETURNS @extschema@.integration_matches
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pgsync_itsm.match_ready(x.connection_id) FROM @extschema@.integration_matches AS x WHERE x.id = match_id;
    PERFORM FROM @extschema@.integration_matches AS x WHERE x.id = match_id FOR UPDATE;
    RETURN pgsync_itsm.seen_match(match_id);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.locked_match(bigint) IS 'A match''s row, locked, when it may be decided on';

-- Who decides is written down where everything else is.
CREATE FUNCTION pgsync_itsm.match_decide(ids bigint[], decision text, closers bigint[], caller name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO @extschema@.integration_sync_log (connection_id, namespace_id, run_id, operation, entity_type, entity_id, external_id, status, request_payload)
    SELECT m.connection_id, m.namespace_id, m.run_id, 'read', m.entity_type, m.entity_id, m.external_id, 'success',
           json_build_object('match', m.id, 'decision', match_decide.decision, 'before', m.decision, 'by', match_decide.caller, 'score', m.score, 'reason', m.reason,
                             'name', m.entity_name, 'external_name', m.external_name, 'closed_by', k.closer)
      FROM unnest(ids, closers) AS k(id, closer)
      JOIN @extschema@.integration_matches AS m ON m.id = k.id
     ORDER BY m.id;
    UPDATE @extschema@.integration_matches AS m
       SET decision = match_decide.decision, closed_by = k.closer,
           decided_by = CASE WHEN match_decide.decision <> 'proposed' THEN match_decide.caller END,
           decided_at = CASE WHEN match_decide.decision <> 'proposed' THEN now() END
      FROM unnest(ids, closers) AS k(id, closer)
     WHERE m.id = k.id;
    UPDATE @extschema@.integration_connections AS c SET full_plan_after = pg_current_snapshot()
     WHERE c.id IN (SELECT m.connection_id FROM @extschema@.integration_matches AS m WHERE m.id = ANY (ids));
END
$$;
COMMENT ON FUNCTION pgsync_itsm.match_decide(bigint[], text, bigint[], name) IS 'Writes down a decision, and in the log who took it; closers: the matches that closed these';

-- What is taken already, in words; NULL: nothing.
CREATE FUNCTION pgsync_itsm.match_taken(m @extschema@.integration_matches) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN coalesce(
        (SELECT format('"%s" is %s there already', left(m.entity_name, 80), s.external_id) FROM @extschema@.integration_sync_map AS s
          WHERE s.connection_id = m.connection_id AND s.entity_id = m.entity_id AND s.entity_type = m.entity_type),
        (SELECT format('%s there is "%s" here already', m.external_id, left(s.published_name, 80)) FROM @extschema@.integration_sync_map AS s
          WHERE s.external_id = m.external_id AND s.parent_id IS NULL AND s.connection_id = m.connection_id LIMIT 1));
END
$$;
COMMENT ON FUNCTION pgsync_itsm.match_taken(@extschema@.integration_matches) IS 'Why a match cannot be accepted any more: one of its sides is in the map';

-- What is on its way to the platform may be there in a moment.
CREATE FUNCTION pgsync_itsm.match_sent_by(m @extschema@.integration_matches) RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (SELECT r.id FROM @extschema@.integration_runs AS r
              JOIN @extschema@.integration_run_items AS i ON i.run_id = r.id AND i.entity_id = m.entity_id AND i.entity_type = m.entity_type
             WHERE r.connection_id = m.connection_id AND r.status = 'running' AND i.state = 'pending' AND i.action IN ('CREATE', 'UPDATE', 'CLEAR') LIMIT 1);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.match_sent_by(@extschema@.integration_matches) IS 'The run that is about to write the record here; NULL: none';

CREATE FUNCTION pgsync_itsm.match_not_sent(m @extschema@.integration_matches) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    run_id bigint := pgsync_itsm.match_sent_by(m);
BEGIN
    IF run_id IS NOT NULL THEN
        RAISE EXCEPTION 'match % cannot be decided now: run % is sending "%"', m.id, run_id, left(m.entity_name, 80)
            USING ERRCODE = 'object_in_use', HINT = format('CALL itsm_wait(%s); or SELECT itsm_cancel(%s);', run_id, run_id);
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.match_not_sent(@extschema@.integration_matches) IS 'Refuses a decision about a record that a run is sending';

-- What competes with accepted pairs: other candidates of these records, other records with these candidates.
CREATE FUNCTION pgsync_itsm.match_close(ids bigint[], caller name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    others bigint[];
    closers bigint[];
BEGIN
    DELETE FROM @extschema@.integration_matches AS o USING @extschema@.integration_matches AS a
     WHERE a.id = ANY (ids) AND o.connection_id = a.connection_id AND o.entity_id = a.entity_id AND o.entity_type = a.entity_type AND o.external_id IS NULL;
    SELECT array_agg(c.id ORDER BY c.id), array_agg(c.closer ORDER BY c.id) INTO others, closers
      FROM (SELECT e.id, min(e.closer) AS closer
              FROM (SELECT o.id, a.id AS closer FROM @extschema@.integration_matches AS a
                      JOIN @extschema@.integration_matches AS o
                        ON o.connection_id = a.connection_id AND o.entity_id = a.entity_id AND o.entity_type = a.entity_type AND o.decision IN ('proposed', 'create')
                     WHERE a.id = ANY (ids)
                    UNION ALL
                    SELECT o.id, a.id FROM @extschema@.integration_matches AS a
                      JOIN @extschema@.integration_matches AS o ON o.connection_id = a.connection_id AND o.external_id = a.external_id AND o.decision = 'proposed'
                     WHERE a.id = ANY (ids)) AS e
             GROUP BY e.id) AS c;
    IF others IS NOT NULL THEN
        PERFORM pgsync_itsm.match_decide(others, 'rejected', closers, caller);
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.match_close(bigint[], name) IS 'Closes the proposals that compete with accepted ones';

CREATE FUNCTION pgsync_itsm.match_accept(ids bigint[], caller name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    n bigint;
BEGIN
    INSERT INTO @extschema@.integration_sync_map
        (connection_id, namespace_id, entity_type, entity_id, native_key, external_id, external_table, external_number, external_url, published_name,
         sync_direction, created_by_us)
    SELECT m.connection_id, m.namespace_id, m.entity_type, m.entity_id, m.native_key, m.external_id, m.external_table, nullif(x.attrs ->> 'number', ''),
           pgsync_itsm.external_url(c.platform, c.instance_url, m.external_table, m.external_id), rtrim(m.entity_name), 'subscribed', false
      FROM @extschema@.integration_matches AS m
      JOIN @extschema@.integration_connections AS c ON c.id = m.connection_id
      LEFT JOIN @extschema@.integration_external_records AS x ON x.connection_id = c.id AND x.external_id = m.external_id
     WHERE m.id = ANY (ids)
     ORDER BY m.id;
    GET DIAGNOSTICS n = ROW_COUNT;
    IF n < cardinality(ids) THEN
        RAISE EXCEPTION 'the connection of match % is gone', ids[1] USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    PERFORM pgsync_itsm.match_decide(ids, 'accepted', NULL, caller);
    PERFORM pgsync_itsm.match_close(ids, caller);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.match_accept(bigint[], name) IS 'Puts pairs into the map as subscribed, and closes what competes with them';

CREATE FUNCTION pgsync_itsm.accept_match(match_id bigint) RETURNS void
LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'gate_match';
COMMENT ON FUNCTION pgsync_itsm.accept_match(bigint) IS 'Gate: accepts a match that the caller sees';

CREATE FUNCTION pgsync_itsm.accept_match_granted(match_id bigint, caller name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    m @extschema@.integration_matches := pgsync_itsm.locked_match(match_id);
    taken text;
BEGIN
    IF m.external_id IS NULL THEN
        RAISE EXCEPTION 'match % has no counterpart there', m.id
            USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = format('"%s" is to be created.', left(m.entity_name, 80));
    END IF;
    IF m.decision = 'accepted' AND EXISTS (SELECT FROM @extschema@.integration_sync_map AS s
                WHERE s.connection_id = m.connection_id AND s.entity_id = m.entity_id AND s.entity_type = m.entity_type AND s.external_id = m.external_id) THEN
        RAISE NOTICE 'match % is accepted already', m.id;
        RETURN;
    END IF;
    PERFORM pgsync_itsm.match_not_sent(m);
    taken := pgsync_itsm.match_taken(m);
    IF taken IS NOT NULL THEN
        RAISE EXCEPTION 'match % cannot be accepted: one of its sides is taken', m.id
            USING ERRCODE = 'unique_violation', DETAIL = taken || '.',
                  HINT = format('SELECT id, entity_name, external_name FROM integration_matches WHERE decision = ''accepted'' AND (entity_id = %L OR external_id = %L);',
                                m.entity_id, m.external_id);
    END IF;
    PERFORM pgsync_itsm.match_accept(ARRAY[m.id], caller);
    PERFORM pgsync_itsm.wake();
    RAISE NOTICE '"%" is "%" there from now on; next: SELECT itsm_preview(%);', left(m.entity_name, 80), left(m.external_name, 80), quote_literal(m.namespace_id);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.accept_match_granted(bigint, name) IS 'Behind accept_match()';

CREATE FUNCTION @extschema@.itsm_accept_match(match_id bigint) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pgsync_itsm.accept_match(match_id);
END
$$;
COMMENT ON FUNCTION @extschema@.itsm_accept_match(bigint) IS
'A record here is the one there that was proposed: it is referred to, and written by the authority of its fields; itsm_reject_match() takes that back';

CREATE FUNCTION pgsync_itsm.match_unmap(m @extschema@.integration_matches) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    open bigint;
BEGIN
    IF EXISTS (SELECT FROM @extschema@.integration_sync_map AS s
                WHERE s.connection_id = m.connection_id AND (s.parent_id = m.entity_id OR s.child_id = m.entity_id))
       OR EXISTS (SELECT FROM @extschema@.integration_sync_map AS s
                   WHERE s.connection_id = m.connection_id AND s.entity_type = m.entity_type AND s.entity_id = m.entity_id AND s.last_sent_hash IS NOT NULL) THEN
        RAISE EXCEPTION 'match % cannot be taken back: it has been published by', m.id
            USING ERRCODE = 'object_in_use', DETAIL = format('"%s" was written to there, or relationships point at it.', left(m.entity_name, 80)),
                  HINT = format('Roll back what did that first: SELECT id, kind, created_at FROM integration_runs WHERE connection_id = %L ORDER BY id DESC LIMIT 10;', m.connection_id);
    END IF;
    -- relationships that wait to be sent will point at it
    SELECT i.run_id INTO open FROM @extschema@.integration_runs AS r
      JOIN @extschema@.integration_run_items AS i ON i.run_id = r.id AND i.state = 'pending' AND m.entity_id IN (i.parent_id, i.child_id)
     WHERE r.connection_id = m.connection_id AND r.status = 'running' LIMIT 1;
    IF open IS NOT NULL THEN
        RAISE EXCEPTION 'match % cannot be taken back now', m.id
            USING ERRCODE = 'object_in_use', DETAIL = format('Run %s is publishing by it.', open), HINT = format('CALL itsm_wait(%s);', open);
    END IF;
    DELETE FROM @extschema@.integration_sync_map AS s
     WHERE s.connection_id = m.connection_id AND s.entity_type = m.entity_type AND s.entity_id = m.entity_id
       AND s.external_id = m.external_id AND s.sync_direction = 'subscribed';
END
$$;
COMMENT ON FUNCTION pgsync_itsm.match_unmap(@extschema@.integration_matches) IS 'Takes an accepted pair out of the map, unless something was published by it';

-- A decision that is taken back takes back what followed from it, but for what was decided otherwise since.
CREATE FUNCTION pgsync_itsm.match_reopen(m @extschema@.integration_matches, caller name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    closed bigint[] := ARRAY(
        SELECT o.id FROM @extschema@.integration_matches AS o
         WHERE o.connection_id = m.connection_id AND o.closed_by = m.id
           AND (o.entity_id = m.entity_id AND o.entity_type = m.entity_type OR o.external_id = m.external_id)
           AND NOT EXISTS (SELECT FROM @extschema@.integration_sync_map AS s
                            WHERE s.connection_id = o.connection_id AND s.entity_id = o.entity_id AND s.entity_type = o.entity_type)
           AND NOT EXISTS (SELECT FROM @extschema@.integration_sync_map AS s
                            WHERE s.external_id = o.external_id AND s.parent_id IS NULL AND s.connection_id = o.connection_id)
         ORDER BY o.id);
BEGIN
    IF closed <> '{}' THEN
        PERFORM pgsync_itsm.match_decide(closed, 'proposed', NULL, caller);
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.match_reopen(@extschema@.integration_matches, name) IS 'Proposes again what was closed by a decision that is taken back';

CREATE FUNCTION pgsync_itsm.reject_match(match_id bigint, create_new boolean) RETURNS void
LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'gate_match';
COMMENT ON FUNCTION pgsync_itsm.reject_match(bigint, boolean) IS 'Gate: rejects a match that the caller sees';

CREATE FUNCTION pgsync_itsm.reject_match_granted(match_id bigint, create_new boolean, caller name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    m @extschema@.integration_matches := pgsync_itsm.locked_match(match_id);
    others bigint[];
BEGIN
    IF m.external_id IS NULL AND create_new IS NOT TRUE THEN
        RAISE EXCEPTION 'match % has no counterpart there that could be rejected', m.id
            USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = format('"%s" is to be created.', left(m.entity_name, 80)),
                  HINT = format('To have it created whatever is found later: SELECT itsm_reject_match(%s, create_new => true);', m.id);
    END IF;
    IF m.decision = 'accepted' THEN
        PERFORM pgsync_itsm.match_not_sent(m);
        PERFORM pgsync_itsm.match_unmap(m);
    END IF;
    PERFORM pgsync_itsm.match_decide(ARRAY[m.id], CASE WHEN create_new THEN 'create' ELSE 'rejected' END, NULL, caller);
    IF m.decision IN ('accepted', 'create') THEN
        PERFORM pgsync_itsm.match_reopen(m, caller);
    END IF;
    IF create_new THEN
        others := ARRAY(SELECT x.id FROM @extschema@.integration_matches AS x
                         WHERE x.connection_id = m.connection_id AND x.entity_id = m.entity_id AND x.entity_type = m.entity_type
                           AND x.id <> m.id AND x.decision = 'proposed' ORDER BY x.id);
        IF others <> '{}' THEN
            PERFORM pgsync_itsm.match_decide(others, 'rejected', array_fill(m.id, ARRAY[cardinality(others)]), caller);
        END IF;
        IF pgsync_itsm.is_identified(m.entity_type) AND pgsync_itsm.name_key(m.entity_name) = pgsync_itsm.name_key(m.external_name) THEN
            RAISE NOTICE '"%" is there under the very same name, by which the platform identifies it: it stays held until one of them is renamed', left(m.entity_name, 80);
        END IF;
    END IF;
    PERFORM pgsync_itsm.wake();
END
$$;
COMMENT ON FUNCTION pgsync_itsm.reject_match_granted(bigint, boolean, name) IS 'Behind reject_match()';

CREATE FUNCTION @extschema@.itsm_reject_match(match_id bigint, create_new boolean DEFAULT false) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pgsync_itsm.reject_match(match_id, create_new);
END
$$;
COMMENT ON FUNCTION @extschema@.itsm_reject_match(bigint, boolean) IS
'These two are not the same, and are not proposed again; an accepted match is taken back. create_new: none of what is there is it, the record is created';

-- What needs a look, such as one of several of a name, or what belongs to something else there, is left to one.
CREATE FUNCTION pgsync_itsm.accept_matches(connection_id uuid, min_score real, entity_type text) RETURNS bigint
LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'gate_seen_connection';
COMMENT ON FUNCTION pgsync_itsm.accept_matches(uuid, real, text) IS
'Gate: accepts the proposals of a connection that the caller sees which need no look; returns how many';

CREATE FUNCTION pgsync_itsm.accept_matches_granted(connection_id uuid, min_score real, entity_type text, caller name) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    wanted bigint[];
    chosen bigint[];
    n bigint := 0;
BEGIN
    PERFORM pgsync_itsm.match_ready(accept_matches_granted.connection_id);
    wanted := ARRAY(SELECT x.id FROM @extschema@.integration_matches AS x
                     WHERE x.connection_id = accept_matches_granted.connection_id AND x.decision = 'proposed' AND x.external_id IS NOT NULL
                       AND x.score >= min_score
                       AND (accept_matches_granted.entity_type IS NULL OR x.entity_type = accept_matches_granted.entity_type)
                     ORDER BY x.id FOR UPDATE);
    -- one to one, the best first; what that closes is no longer among those that are left
    LOOP
        chosen := ARRAY(
            SELECT b.id
              FROM (SELECT x.id,
                           row_number() OVER (PARTITION BY x.entity_type, x.entity_id ORDER BY x.score DESC, x.external_id, x.id) AS here,
                           row_number() OVER (PARTITION BY x.external_id ORDER BY x.score DESC, x.entity_type, x.entity_id, x.id) AS there
                      FROM @extschema@.integration_matches AS x
                     WHERE x.id = ANY (wanted) AND x.decision = 'proposed' AND x.duplicates = 1 AND x.reason NOT LIKE '%(correlation id)%'
                       AND pgsync_itsm.match_taken(x) IS NULL AND pgsync_itsm.match_sent_by(x) IS NULL) AS b
             WHERE b.here = 1 AND b.there = 1);
        EXIT WHEN chosen = '{}';
        PERFORM pgsync_itsm.match_accept(chosen, caller);
        n := n + cardinality(chosen);
    END LOOP;
    IF n > 0 THEN
        PERFORM pgsync_itsm.wake();
    END IF;
    RETURN n;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.accept_matches_granted(uuid, real, text, name) IS 'Behind accept_matches()';

CREATE FUNCTION @extschema@.itsm_accept_matches(min_score real DEFAULT 0.9, namespace_id uuid DEFAULT NULL, connection_id uuid DEFAULT NULL, entity_type text DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    conn uuid;
    n bigint := 0;
    left_out bigint := 0;
BEGIN
    IF min_score IS NULL OR min_score NOT BETWEEN 0 AND 1 THEN
        RAISE EXCEPTION 'min_score must be between 0 and 1' USING ERRCODE = 'invalid_parameter_value', HINT = 'SELECT itsm_accept_matches(0.9);';
    END IF;
    FOR conn IN SELECT DISTINCT x.connection_id FROM @extschema@.integration_matches AS x
                 WHERE x.decision = 'proposed' AND x.external_id IS NOT NULL AND x.score >= min_score
                   AND (namespace_id IS NULL OR x.namespace_id = itsm_accept_matches.namespace_id)
                   AND (connection_id IS NULL OR x.connection_id = itsm_accept_matches.connection_id)
                   AND (entity_type IS NULL OR x.entity_type = itsm_accept_matches.entity_type)
                 ORDER BY 1 LOOP
        n := n + pgsync_itsm.accept_matches(conn, min_score, entity_type);
        left_out := left_out + (SELECT count(*) FROM @extschema@.integration_matches AS x
                                 WHERE x.connection_id = conn AND x.decision = 'proposed' AND x.external_id IS NOT NULL AND x.score >= min_score
                                   AND (entity_type IS NULL OR x.entity_type = itsm_accept_matches.entity_type));
    END LOOP;
    RAISE NOTICE '% accepted%', n, CASE WHEN left_out > 0 THEN format(', %s left for a look: SELECT id, entity_name, external_name, reason FROM integration_matches WHERE decision = ''proposed'';', left_out) ELSE '' END;
    RETURN n;
END
$$;
COMMENT ON FUNCTION @extschema@.itsm_accept_matches(real, uuid, uuid, text) IS
'Accepts all proposals of at least this score, but for those that are several times there or belong to something else; returns how many';
