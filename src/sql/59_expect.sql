-- What applying a kept plan will take.  The requests are those that the adapter makes of the same items in the same order as
-- the worker claims them, if every answer is a good one; nothing is sent, and nothing but their number and size is kept.

-- Items that an imagined request has taken already.
CREATE UNLOGGED TABLE pgsync_itsm.expected_sent (
    item_id bigint PRIMARY KEY,
    run_id  bigint NOT NULL,
    done_at integer NOT NULL
);
CREATE INDEX expected_sent_run ON pgsync_itsm.expected_sent (run_id, done_at);
COMMENT ON TABLE pgsync_itsm.expected_sent IS 'Work space of an estimate: items by the imagined time at which their request would be answered';

CREATE FUNCTION pgsync_itsm.expect_lookups(run @extschema@.integration_runs, platform text, settings json, OUT calls bigint, OUT subrequests bigint, OUT bytes bigint)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    most integer := (SELECT m.max_lookups FROM pgsync_itsm.adapter_limits(platform, settings, 'application', 'CREATE') AS m);
    behind bigint := 0;
    ids bigint[];
    wanted json;
    m record;
BEGIN
    calls := 0; subrequests := 0; bytes := 0;
    LOOP
        SELECT array_agg(l.id ORDER BY l.id), json_agg(json_build_object('kind', l.kind, 'target', l.target, 'keys', l.keys, 'fields', l.fields) ORDER BY l.id)
          INTO ids, wanted
          FROM (SELECT x.* FROM pgsync_itsm.lookups AS x WHERE x.run_id = run.id AND x.id > behind ORDER BY x.id LIMIT most) AS l;
        EXIT WHEN ids IS NULL;
        SELECT * INTO m FROM pgsync_itsm.adapter_measure_lookup(platform, settings, wanted);
        calls := calls + 1; subrequests := subrequests + m.subrequests; bytes := bytes + m.bytes;
        behind := ids[m.nused];
    END LOOP;
    DELETE FROM pgsync_itsm.lookups AS l WHERE l.run_id = run.id;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.expect_lookups(@extschema@.integration_runs, text, json) IS 'How many requests the questions of a run would be, which are forgotten after that';

-- An imagined run goes through its items in the order of their ids, a request's worth at a time: the run is no condition that
-- an index could be looked up by, since all of a run's items would be fetched and sorted for each request.
CREATE FUNCTION pgsync_itsm.expect_open(run_id bigint, behind bigint, high bigint) RETURNS bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off
RETURN (SELECT i.id FROM @extschema@.integration_run_items AS i
         WHERE i.run_id + 0 = expect_open.run_id AND i.id > expect_open.behind AND i.id <= expect_open.high
           AND i.state = 'planned' AND i.action IN ('CREATE', 'UPDATE', 'CLEAR', 'DELETE')
           AND (SELECT true FROM pgsync_itsm.expected_sent AS s WHERE s.item_id = i.id) IS NULL
         ORDER BY i.id LIMIT 1);
COMMENT ON FUNCTION pgsync_itsm.expect_open(bigint, bigint, bigint) IS 'The first item behind a given one that no imagined request has taken';

-- As barrier(): what waits, or is on the imagined wire, is not through yet.
CREATE FUNCTION pgsync_itsm.expect_barrier(run_id bigint, bundled boolean, now_at integer, low bigint, high bigint) RETURNS integer
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off
AS $$
#variable_conflict use_variable
DECLARE
    first integer;
    free integer := 1000;
BEGIN
    IF EXISTS (SELECT FROM @extschema@.integration_run_steps AS s WHERE s.run_id = run_id AND s.ord > 800) THEN
        free := (SELECT CASE WHEN min(i.ord) < 800 THEN 800 ELSE min(i.ord) + 1 END
                   FROM @extschema@.integration_run_items AS i LEFT JOIN pgsync_itsm.expected_sent AS s ON s.item_id = i.id
                  WHERE i.run_id = run_id AND i.state = 'planned' AND i.action IN ('CREATE', 'UPDATE', 'CLEAR', 'DELETE')
                    AND coalesce(s.done_at > now_at, true));
    END IF;
    -- in the order of sending these are the first
    SELECT i.ord INTO first FROM @extschema@.integration_run_items AS i
     WHERE i.id = least(pgsync_itsm.expect_open(run_id, low, high),
                        (SELECT min(f.item_id) FROM (SELECT s.item_id FROM pgsync_itsm.expected_sent AS s
                                                      WHERE s.run_id = run_id AND s.done_at > now_at OFFSET 0) AS f));
    IF first <= 20 THEN
        RETURN 21;
    END IF;
    IF bundled AND first < 70 THEN
        RETURN 70;
    END IF;
    RETURN coalesce(free, 1000);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.expect_barrier(bigint, boolean, integer, bigint, bigint) IS 'Items of this order and above would wait';

-- As claim(): a relationship needs both its ends, there already or in this request.
CREATE FUNCTION pgsync_itsm.expect_window(run @extschema@.integration_runs, kinds text[], doubtful boolean, ends_inside boolean, barrier integer,
                                          max_records integer, max_items integer, now_at integer, low bigint, high bigint)
RETURNS TABLE (item_id bigint, step text, item json)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_nestloop = off SET enable_mergejoin = off
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH counted AS MATERIALIZED (
        SELECT a.*, count(*) FILTER (WHERE a.parent_id IS NULL) OVER (ORDER BY a.id) AS records FROM (
        SELECT i.* FROM @extschema@.integration_run_items AS i
         WHERE i.run_id + 0 = run.id AND i.id > low AND i.id <= high
           AND i.state = 'planned' AND i.ord < barrier AND i.entity_type || ' ' || i.action = ANY (kinds)
           AND i.in_doubt = doubtful
           AND (SELECT true FROM pgsync_itsm.expected_sent AS s WHERE s.item_id = i.id) IS NULL
           AND (i.action <> 'CLEAR' OR NOT EXISTS (SELECT FROM @extschema@.integration_run_items AS o WHERE o.run_id = i.run_id AND o.entity_type = i.entity_type
                    AND o.entity_id = i.entity_id AND o.action <> i.action AND o.state = 'planned'
                    AND NOT EXISTS (SELECT FROM pgsync_itsm.expected_sent AS s WHERE s.item_id = o.id AND s.done_at <= $8)))
         ORDER BY i.id
         LIMIT max_items) AS a
    ), inside AS MATERIALIZED (
        SELECT c.entity_type, c.entity_id, c.native_key FROM counted AS c WHERE ends_inside AND c.parent_id IS NULL AND c.records <= max_records
    ), ends AS MATERIALIZED (
        SELECT DISTINCT e.entity_type, e.entity_id FROM counted AS c
         CROSS JOIN LATERAL (VALUES (c.parent_type, c.parent_id), (c.child_type, c.child_id)) AS e(entity_type, entity_id)
         WHERE c.parent_id IS NOT NULL AND c.records <= max_records
    ), there AS MATERIALIZED (
        SELECT e.entity_type, e.entity_id, coalesce(m.external_id, CASE WHEN d.id IS NOT NULL THEN md5(d.native_key) END) AS external_id,
               coalesce(m.external_table, d.external_table) AS external_table
          FROM ends AS e
          LEFT JOIN LATERAL (SELECT x.external_id, x.external_table FROM @extschema@.integration_sync_map AS x
                              WHERE x.connection_id = run.connection_id AND x.entity_type = e.entity_type AND x.entity_id = e.entity_id LIMIT 1) AS m ON true
          LEFT JOIN LATERAL (SELECT o.id, o.native_key, o.external_table FROM @extschema@.integration_run_items AS o
                              WHERE o.run_id = run.id AND o.entity_type = e.entity_type AND o.entity_id = e.entity_id AND o.action IN ('CREATE', 'MATCH')
                                AND (o.action = 'MATCH' OR (SELECT s.done_at <= $8 FROM pgsync_itsm.expected_sent AS s WHERE s.item_id = o.id)) LIMIT 1) AS d ON true
    )
    SELECT c.id, c.step,
           json_build_object('item_id', c.id, 'entity_type', c.entity_type, 'action', c.action, 'native_key', c.native_key, 'external_id', c.external_id,
               'external_table', c.external_table, 'payload', CASE WHEN c.parent_id IS NULL THEN c.payload END,
               'parent_external_id', p.external_id, 'parent_table', p.external_table, 'child_external_id', e.external_id, 'child_table', e.external_table,
               'parent_native_key', pi.native_key, 'child_native_key', ci.native_key, 'rel_type', c.rel_type, 'rel_type_id', c.rel_type_id,
               'bundle', coalesce(c.bundle, 0), 'in_doubt', c.in_doubt)
      FROM counted AS c
      LEFT JOIN there AS p ON p.entity_type = c.parent_type AND p.entity_id = c.parent_id
      LEFT JOIN there AS e ON e.entity_type = c.child_type AND e.entity_id = c.child_id
      LEFT JOIN inside AS pi ON pi.entity_type = c.parent_type AND pi.entity_id = c.parent_id
      LEFT JOIN inside AS ci ON ci.entity_type = c.child_type AND ci.entity_id = c.child_id
     WHERE c.records <= max_records
       AND (c.parent_id IS NULL OR c.action = 'DELETE'
            OR (p.external_id IS NOT NULL OR pi.native_key IS NOT NULL) AND (e.external_id IS NOT NULL OR ci.native_key IS NOT NULL))
     ORDER BY c.id;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.expect_window(@extschema@.integration_runs, text[], boolean, boolean, integer, integer, integer, integer, bigint, bigint) IS
'Items that one claim of an imagined run would take, as the adapter wants them';

CREATE FUNCTION pgsync_itsm.expect_next(run @extschema@.integration_runs, barrier integer, now_at integer, behind bigint, high bigint)
RETURNS TABLE (entity_type text, action text, in_doubt boolean)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off
BEGIN ATOMIC
    SELECT i.entity_type, i.action, i.in_doubt
      FROM @extschema@.integration_run_items AS i
     WHERE i.run_id + 0 = (expect_next.run).id AND i.id > expect_next.behind AND i.id <= expect_next.high
       AND i.state = 'planned' AND i.action IN ('CREATE', 'UPDATE', 'CLEAR', 'DELETE')
       AND i.ord < expect_next.barrier
       AND (SELECT true FROM pgsync_itsm.expected_sent AS s WHERE s.item_id = i.id) IS NULL
       AND (i.parent_id IS NULL OR i.action = 'DELETE'
            OR NOT EXISTS (SELECT FROM (VALUES (i.parent_type, i.parent_id), (i.child_type, i.child_id)) AS e(entity_type, entity_id)
                            WHERE NOT EXISTS (SELECT FROM @extschema@.integration_sync_map AS m
                                               WHERE m.connection_id = (expect_next.run).connection_id AND m.entity_type = e.entity_type AND m.entity_id = e.entity_id)
                              AND NOT EXISTS (SELECT FROM @extschema@.integration_run_items AS o
                                               WHERE o.run_id = (expect_next.run).id AND o.entity_type = e.entity_type AND o.entity_id = e.entity_id
                                                 AND (o.action = 'MATCH' OR o.action = 'CREATE'
                                                      AND EXISTS (SELECT FROM pgsync_itsm.expected_sent AS s WHERE s.item_id = o.id AND s.done_at <= expect_next.now_at)))))
       AND (i.action <> 'CLEAR' OR NOT EXISTS (SELECT FROM @extschema@.integration_run_items AS o
                WHERE o.run_id = i.run_id AND o.entity_type = i.entity_type AND o.entity_id = i.entity_id AND o.action <> i.action AND o.state = 'planned'
                  AND NOT EXISTS (SELECT FROM pgsync_itsm.expected_sent AS s WHERE s.item_id = o.id AND s.done_at <= expect_next.now_at)))
     ORDER BY i.id LIMIT 1;
END;
COMMENT ON FUNCTION pgsync_itsm.expect_next(@extschema@.integration_runs, integer, integer, bigint, bigint) IS
'Which kind of item an imagined run would send next';

-- One request of an imagined moment; NULL: there is none.
CREATE FUNCTION pgsync_itsm.expect_request(run @extschema@.integration_runs, platform text, settings json, bundled boolean, now_at integer,
                                           low bigint, high bigint, INOUT behind bigint,
                                           OUT stage integer, OUT api text, OUT steps text[], OUT items bigint, OUT subrequests bigint, OUT bytes bigint, OUT done_at integer)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    n record;
    lane record;
    kinds text[];
    taken bigint[];
    m record;
    wanted json;
BEGIN
    stage := pgsync_itsm.expect_barrier(run.id, bundled, now_at, low, high);
    SELECT * INTO n FROM pgsync_itsm.expect_next(run, stage, now_at, behind, high);
    IF NOT FOUND AND behind > low THEN
        SELECT * INTO n FROM pgsync_itsm.expect_next(run, stage, now_at, low, high);
    END IF;
    IF n.entity_type IS NULL THEN
        RETURN;
    END IF;
    SELECT * INTO lane FROM pgsync_itsm.adapter_limits(platform, settings, n.entity_type, n.action, n.in_doubt);
    kinds := ARRAY(SELECT k.with_entity_type || ' ' || k.with_action FROM pgsync_itsm.adapter_lane(platform, settings, n.entity_type, n.action, n.in_doubt) AS k);
    SELECT array_agg(w.item_id ORDER BY w.item_id), json_agg(w.item ORDER BY w.item_id) INTO taken, wanted
      FROM pgsync_itsm.expect_window(run, kinds, n.in_doubt, lane.ends_inside, stage, lane.max_records, lane.max_items, now_at, low, high) AS w;
    SELECT * INTO m FROM pgsync_itsm.adapter_measure(platform, settings, wanted);
    taken := taken[1:m.nused];
    -- hundreds of CIs take longer than a batch of single writes, which may have an answer meanwhile
    done_at := now_at + CASE WHEN lane.ends_inside THEN 2 ELSE 1 END;
    INSERT INTO pgsync_itsm.expected_sent (item_id, run_id, done_at) SELECT t, run.id, done_at FROM unnest(taken) AS t;
    behind := taken[m.nused];
    api := m.api; items := m.nused; subrequests := m.subrequests; bytes := m.bytes;
    steps := ARRAY(SELECT i.step FROM @extschema@.integration_run_items AS i WHERE i.id = ANY (taken) GROUP BY i.step ORDER BY min(i.ord));
END
$$;
COMMENT ON FUNCTION pgsync_itsm.expect_request(@extschema@.integration_runs, text, json, boolean, integer, bigint, bigint, bigint) IS
'The next request of an imagined run: by which API, what of, how large';

CREATE FUNCTION pgsync_itsm.expect_bulk(run @extschema@.integration_runs, platform text, settings json) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    slots integer := least(pgsync_itsm.setting(run.connection_id, 'max_concurrency')::integer, 64);
    now_at integer := 0;
    flying integer[] := '{}';
    low bigint;
    high bigint;
    behind bigint;
    q record;
    asked jsonb[] := '{}';
BEGIN
    SELECT min(i.id) - 1, max(i.id) INTO low, high FROM (SELECT x.id FROM @extschema@.integration_run_items AS x WHERE x.run_id = run.id OFFSET 0) AS i;
    low := coalesce(low, 0);
    behind := low;
    LOOP
        WHILE cardinality(flying) < slots LOOP
            q := pgsync_itsm.expect_request(run, platform, settings, true, now_at, low, high, behind);
            EXIT WHEN q.items IS NULL;
            behind := q.behind;
            flying := flying || q.done_at;
            asked := asked || jsonb_build_object('stage', q.stage, 'api', q.api, 'steps', q.steps, 'items', q.items, 'subrequests', q.subrequests, 'bytes', q.bytes);
        END LOOP;
        EXIT WHEN flying = '{}';
        now_at := (SELECT min(f) FROM unnest(flying) AS f);
        flying := ARRAY(SELECT f FROM unnest(flying) AS f WHERE f > now_at);
        low := coalesce(pgsync_itsm.expect_open(run.id, low, high) - 1, high);
    END LOOP;
    DELETE FROM pgsync_itsm.expected_sent AS s WHERE s.run_id = run.id;
    RETURN (SELECT jsonb_agg(to_jsonb(g) - 'first' ORDER BY g.first)
              FROM (SELECT min(a.n) AS first, a.r -> 'steps' AS steps, a.r ->> 'api' AS api, count(*) AS calls, sum((a.r ->> 'items')::bigint) AS items,
                           sum((a.r ->> 'subrequests')::bigint) AS subrequests, sum((a.r ->> 'bytes')::bigint) AS bytes
                      FROM unnest(asked) WITH ORDINALITY AS a(r, n)
                     GROUP BY a.r ->> 'stage', a.r ->> 'api', a.r -> 'steps') AS g);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.expect_bulk(@extschema@.integration_runs, text, json) IS 'The writing requests of an imagined run, by API and steps, in the order of sending';

-- Where a request is one item there is nothing to imagine.
CREATE FUNCTION pgsync_itsm.expect_singles(run @extschema@.integration_runs) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (SELECT jsonb_agg(to_jsonb(g) - 'ord' ORDER BY g.ord)
              FROM (SELECT min(i.ord) AS ord, jsonb_build_array(i.step) AS steps, CASE WHEN pgsync_itsm.is_identified(i.entity_type) AND i.action <> 'CLEAR' THEN 'instance' ELSE 'table' END AS api,
                           count(*) AS calls, count(*) AS items, 0 AS subrequests, sum(coalesce(octet_length(i.payload::text), 0) + 150) AS bytes
                      FROM @extschema@.integration_run_items AS i
                     WHERE i.run_id = run.id AND i.state = 'planned' AND i.action IN ('CREATE', 'UPDATE', 'CLEAR', 'DELETE')
                     GROUP BY i.step, 3) AS g);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.expect_singles(@extschema@.integration_runs) IS 'The writing requests of a run under write_api instance';

-- A record is a POST; the relationships of one parent are read and written together, and looked at again unless it is known how
-- they are written.
CREATE FUNCTION pgsync_itsm.expect_halo(run @extschema@.integration_runs) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    calls CONSTANT integer := CASE pgsync_itsm.setting(run.connection_id, 'relation_writes') WHEN 'auto' THEN 3 ELSE 2 END;
BEGIN
    RETURN (SELECT jsonb_agg(to_jsonb(g) - 'ord' ORDER BY g.ord)
              FROM (SELECT min(r.ord) AS ord, jsonb_agg(DISTINCT r.step) AS steps, CASE WHEN r.is_link THEN 'relation' ELSE 'api' END AS api,
                           CASE WHEN r.is_link THEN calls * count(DISTINCT (r.parent_id, r.action)) ELSE count(*) END AS calls, count(*) AS items, 0 AS subrequests,
                           sum(coalesce(octet_length(r.payload::text), 60) + 150) AS bytes
                      FROM (SELECT i.*, i.parent_id IS NOT NULL AS is_link,
                                   CASE WHEN i.parent_id IS NULL OR i.entity_type = 'covers' THEN i.step ELSE 'relation' END AS part
                              FROM @extschema@.integration_run_items AS i
                             WHERE i.run_id = run.id AND i.state = 'planned' AND i.action IN ('CREATE', 'UPDATE', 'CLEAR', 'DELETE')) AS r
                     GROUP BY r.is_link, r.part) AS g);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.expect_halo(@extschema@.integration_runs) IS 'The writing requests of a run on HaloITSM';

CREATE FUNCTION pgsync_itsm.ask_read_back(run @extschema@.integration_runs, planned boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    g record;
BEGIN
    -- the answer to a POST there is the record as it was stored, and was compared already
    IF pgsync_itsm.is_halo(run.connection_id) THEN
        RETURN;
    END IF;
    FOR g IN SELECT i.entity_type, i.external_table, array_agg(DISTINCT coalesce(i.external_id, md5(i.native_key))) AS ids
               FROM @extschema@.integration_run_items AS i
              WHERE i.run_id = run.id AND i.action IN ('CREATE', 'UPDATE') AND i.parent_id IS NULL
                AND CASE WHEN planned THEN i.state = 'planned' ELSE i.state IN ('done', 'unchanged') AND i.outcome IN ('done', 'unchanged') AND i.external_id IS NOT NULL END
              GROUP BY i.entity_type, i.external_table
    LOOP
        PERFORM pgsync_itsm.ask(run, 'record', g.external_table, g.ids, pgsync_itsm.wanted_fields(run.connection_id, g.entity_type));
    END LOOP;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.ask_read_back(@extschema@.integration_runs, boolean) IS
'Asks for the records that a run wrote; planned: for as many as it would write';

CREATE FUNCTION pgsync_itsm.hour_left(connection_id uuid, OUT hour_limit bigint, OUT hour_left bigint, OUT resets_at timestamptz)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    SELECT u.hour_limit, greatest(u.hour_limit * s.share / 100 - CASE WHEN u.resets > now() THEN u.used ELSE 0 END, 0), CASE WHEN u.resets > now() THEN u.resets END
      INTO hour_limit, hour_left, resets_at
      FROM pgsync_itsm.connection_pace AS p
     CROSS JOIN LATERAL unnest(p.used, p.limits, p.resets, p.rules) AS u(used, hour_limit, resets, rule)
     CROSS JOIN (SELECT pgsync_itsm.setting(connection_id, 'max_share')::bigint AS share) AS s
     -- a rolling window is none of an hour
     WHERE p.connection_id = connection_id AND u.hour_limit >= 0 AND u.rule <> 'rate_limit'
     ORDER BY 2 LIMIT 1;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.hour_left(uuid) IS 'The tightest hourly limit that is known of a connection, and what is left of our share of it';

CREATE FUNCTION pgsync_itsm.plan_expect(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    platform text := (SELECT c.platform FROM @extschema@.integration_connections AS c WHERE c.id = run.connection_id);
    settings json := pgsync_itsm.effective_settings(run.connection_id);
    again record;
    writes jsonb;
    back record;
    h record := pgsync_itsm.hour_left(run.connection_id);
BEGIN
    PERFORM pgsync_itsm.recheck_ask(run);
    again := pgsync_itsm.expect_lookups(run, platform, settings);
    IF platform = 'haloitsm' THEN
        writes := coalesce(pgsync_itsm.expect_halo(run), '[]');
    ELSIF settings ->> 'write_api' = 'ire' THEN
        writes := coalesce(pgsync_itsm.expect_bulk(run, platform, settings), '[]');
    ELSE
        writes := coalesce(pgsync_itsm.expect_singles(run), '[]');
    END IF;
    IF settings ->> 'verify' = 'true' THEN
        PERFORM pgsync_itsm.ask_read_back(run, true);
    END IF;
    back := pgsync_itsm.expect_lookups(run, platform, settings);
    PERFORM pgsync_itsm.clear_plan(run.id);
    UPDATE @extschema@.integration_runs AS r
       SET expected = jsonb_build_object(
               'calls', again.calls + back.calls + w.calls, 'subrequests', again.subrequests + back.subrequests + w.subrequests,
               'bytes', again.bytes + back.bytes + w.bytes,
               'look_again', to_jsonb(again), 'writes', writes, 'read_back', to_jsonb(back),
               'hour_limit', h.hour_limit, 'hour_left', h.hour_left, 'resets_at', h.resets_at,
               'in_flight', pgsync_itsm.setting(run.connection_id, 'max_concurrency')::integer,
               -- what a request took, here and in the runs before
               'call_ms', (SELECT round(sum(o.request_ms)::numeric / nullif(sum(o.requests), 0))
                             FROM (SELECT x.request_ms, x.requests FROM @extschema@.integration_runs AS x
                                    WHERE x.connection_id = run.connection_id AND x.requests > 0 ORDER BY x.id DESC LIMIT 20) AS o),
               'before', jsonb_build_object('requests', r.requests, 'side_requests', r.side_requests, 'bytes_sent', r.bytes_sent, 'subrequests', r.subrequests))
      FROM (SELECT coalesce(sum((e ->> 'calls')::bigint), 0) AS calls, coalesce(sum((e ->> 'subrequests')::bigint), 0) AS subrequests,
                   coalesce(sum((e ->> 'bytes')::bigint), 0) AS bytes
              FROM jsonb_array_elements(writes) AS e) AS w
     WHERE r.id = run.id;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_expect(@extschema@.integration_runs) IS 'Writes down what applying a plan that is kept will take';
