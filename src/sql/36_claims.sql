-- Claims: which items are on their way.

CREATE FUNCTION pgsync_itsm.on_wire(run_id bigint) RETURNS SETOF bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT unnest(c.item_ids) FROM pgsync_itsm.claims AS c WHERE c.run_id = on_wire.run_id;
END;
COMMENT ON FUNCTION pgsync_itsm.on_wire(bigint) IS 'Items of a run that are claimed: sent, or about to be';

CREATE FUNCTION pgsync_itsm.has_unclaimed(run_id bigint) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- More open than claimed: no need to look at them.
    RETURN (SELECT sum(s.total - s.done - s.failed - s.skipped) FROM @extschema@.integration_run_steps AS s WHERE s.run_id = has_unclaimed.run_id)
           > (SELECT coalesce(sum(cardinality(c.item_ids)), 0) FROM pgsync_itsm.claims AS c WHERE c.run_id = has_unclaimed.run_id)
        OR EXISTS (SELECT FROM @extschema@.integration_run_items AS i WHERE i.run_id = has_unclaimed.run_id AND i.state = 'pending'
                      AND i.id NOT IN (SELECT pgsync_itsm.on_wire(has_unclaimed.run_id)));
END
$$;
COMMENT ON FUNCTION pgsync_itsm.has_unclaimed(bigint) IS 'Has a run items that wait, and are not claimed';

-- For platforms where a relationship is a part of its parent, which is read, changed and written: two at a time would undo
-- one another.
CREATE FUNCTION pgsync_itsm.parent_is_free(item @extschema@.integration_run_items) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (item.action = 'DELETE'
            OR EXISTS (SELECT FROM @extschema@.integration_sync_map AS p WHERE p.connection_id = item.connection_id AND p.entity_type = item.parent_type AND p.entity_id = item.parent_id)
           AND EXISTS (SELECT FROM @extschema@.integration_sync_map AS c WHERE c.connection_id = item.connection_id AND c.entity_type = item.child_type AND c.entity_id = item.child_id))
       AND NOT EXISTS (SELECT FROM pgsync_itsm.claims AS c, unnest(c.item_ids) AS u(item_id)
                         JOIN @extschema@.integration_run_items AS o ON o.id = u.item_id
                        WHERE c.run_id = item.run_id AND o.parent_id = item.parent_id);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.parent_is_free(@extschema@.integration_run_items) IS
'Are both ends of a relationship known there, and is nothing else on the wire that writes to its parent';

-- A user's transaction may hold the row of a run or of a connection for as long as it likes.  The worker serves others, too:
-- it waits for nobody, leaves alone what is held, and comes back to it.
CREATE FUNCTION pgsync_itsm.is_free(connection_id uuid, run_id bigint DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM FROM @extschema@.integration_connections AS c WHERE c.id = is_free.connection_id FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND AND EXISTS (SELECT FROM @extschema@.integration_connections AS c WHERE c.id = is_free.connection_id) THEN
        RETURN false;
    END IF;
    PERFORM FROM @extschema@.integration_runs AS r WHERE r.id = is_free.run_id FOR NO KEY UPDATE SKIP LOCKED;
    RETURN FOUND OR NOT EXISTS (SELECT FROM @extschema@.integration_runs AS r WHERE r.id = is_free.run_id);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.is_free(uuid, bigint) IS
'Takes the rows of a connection and a run for this transaction; false, at once, if another one holds either. What does not exist is free';

-- What was sent may have taken effect, and nobody will hear of it.  Interrupted: nobody listens any more; what was on the
-- wire through as many deaths as it has attempts is not tried again.  Cancelled: its run is over.  Paused: all of it was
-- refused, or will be, so that no attempt is counted.
CREATE FUNCTION pgsync_itsm.end_claims(why text, claim_ids bigint[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    given_up bigint[];
BEGIN
    WITH dead AS (
        UPDATE @extschema@.integration_run_items AS i
           SET state = 'dead', error_class = 'INTERRUPTED', reason = 'the worker ended before an answer was seen, each time; see the server log'
          FROM pgsync_itsm.claims AS c, unnest(c.item_ids) AS u(item_id)
         WHERE why = 'interrupted' AND c.id = ANY (claim_ids) AND i.id = u.item_id AND i.state = 'pending'
           AND i.attempts + 1 >= pgsync_itsm.setting(c.connection_id, 'max_attempts')::integer
        RETURNING i.run_id)
    SELECT array_agg(DISTINCT d.run_id) INTO given_up FROM dead AS d;
    WITH ended AS (
        DELETE FROM pgsync_itsm.claims AS c WHERE c.id = ANY (claim_ids) RETURNING c.repeatable, c.item_ids)
    UPDATE @extschema@.integration_run_items AS i
       SET attempts = CASE why WHEN 'paused' THEN i.attempts ELSE i.attempts + 1 END,
           in_doubt = i.action = 'CREATE' AND (i.in_doubt OR NOT e.repeatable), unheard = true, updated_at = now()
      FROM ended AS e, unnest(e.item_ids) AS u(item_id) WHERE i.id = u.item_id;
    PERFORM pgsync_itsm.settle_blocked(r.id), pgsync_itsm.settle_steps(r.id) FROM unnest(given_up) AS r(id);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.end_claims(text, bigint[]) IS
'Ends claims that get no answer (interrupted, cancelled, paused): their items wait again, in doubt where repeating them is not safe';
