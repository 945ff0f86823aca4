-- What a kept plan will cost, in lines as those of EXPLAIN; after the run, what it did cost beside it.

CREATE FUNCTION pgsync_itsm.explain_seconds(calls bigint, call_ms numeric, in_flight integer, hour_limit bigint, hour_left bigint, resets_at timestamptz)
RETURNS numeric
LANGUAGE sql STABLE
RETURN ceil(calls * coalesce(call_ms, 300) / 1000 / greatest(least(in_flight, calls), 1))
       -- what does not fit into this hour waits for its end, and for further ones
       + CASE WHEN hour_limit > 0 AND calls > hour_left
              THEN coalesce(ceil(extract(epoch FROM greatest(resets_at - now(), interval '0'))), 3600)
                   + 3600 * floor((calls - hour_left)::numeric / hour_limit) ELSE 0 END;
COMMENT ON FUNCTION pgsync_itsm.explain_seconds(bigint, numeric, integer, bigint, bigint, timestamptz) IS
'How long so many requests take, by what one took so far and by the hourly limit';

CREATE FUNCTION pgsync_itsm.explain_part(part jsonb) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN format('(%s%scalls=%s%s bytes=%s)', (part ->> 'api') || ': ', 'items=' || (part ->> 'items') || ' ', part ->> 'calls',
              CASE WHEN (part ->> 'subrequests')::bigint > 0 THEN ' inside=' || (part ->> 'subrequests') END, part ->> 'bytes');
COMMENT ON FUNCTION pgsync_itsm.explain_part(jsonb) IS 'Figures of one part of an estimate, in the manner of EXPLAIN';

CREATE FUNCTION pgsync_itsm.explain_json(r @extschema@.integration_runs) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    e jsonb := r.expected;
    ended boolean := r.status IN ('done', 'failed', 'cancelled');
BEGIN
    RETURN jsonb_strip_nulls(jsonb_build_object('run_id', r.id, 'kind', r.kind, 'status', r.status)
           || CASE WHEN e IS NULL THEN '{}' ELSE
              jsonb_build_object('calls', e -> 'calls', 'inside', e -> 'subrequests', 'bytes', e -> 'bytes', 'look_again', e -> 'look_again',
                  'writes', e -> 'writes', 'read_back', e -> 'read_back',
                  'seconds', pgsync_itsm.explain_seconds((e ->> 'calls')::bigint, (e ->> 'call_ms')::numeric, (e ->> 'in_flight')::integer,
                                                         (e ->> 'hour_limit')::bigint, (e ->> 'hour_left')::bigint, (e ->> 'resets_at')::timestamptz),
                  'in_flight', e -> 'in_flight', 'call_ms', e -> 'call_ms', 'hour_limit', e -> 'hour_limit', 'hour_left', e -> 'hour_left',
                  'hour_percent', round(100 * (e ->> 'calls')::numeric / nullif((e ->> 'hour_limit')::numeric, 0), 1)) END
           || CASE WHEN NOT ended THEN '{}' ELSE
              jsonb_build_object('actual_calls', r.requests - r.side_requests - coalesce((e #>> '{before,requests}')::bigint - (e #>> '{before,side_requests}')::bigint, 0),
                  'actual_inside', r.subrequests - coalesce((e #>> '{before,subrequests}')::bigint, 0),
                  'actual_bytes', r.bytes_sent - coalesce((e #>> '{before,bytes_sent}')::bigint, 0),
                  'actual_seconds', round(extract(epoch FROM r.finished_at - r.started_at), 1),
                  'actual_steps', (SELECT jsonb_agg(jsonb_build_object('step', s.step, 'title', s.title, 'items', s.total, 'done', s.done, 'failed', s.failed,
                                                                       'skipped', s.skipped) ORDER BY s.ord)
                                     FROM @extschema@.integration_run_steps AS s WHERE s.run_id = r.id)) END);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.explain_json(@extschema@.integration_runs) IS 'The estimate of a run, and what it did in the end';

CREATE FUNCTION pgsync_itsm.explain_steps(run_id bigint, steps jsonb) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    RETURN (SELECT string_agg(concat_ws(' ', s.step, s.title), ', ' ORDER BY n.ord)
              FROM jsonb_array_elements_text(steps) WITH ORDINALITY AS n(step, ord)
              JOIN @extschema@.integration_run_steps AS s ON s.run_id = run_id AND s.step = n.step);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.explain_steps(bigint, jsonb) IS 'Numbers and titles of steps';

CREATE FUNCTION pgsync_itsm.explain_text(r @extschema@.integration_runs) RETURNS SETOF text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    j jsonb := pgsync_itsm.explain_json(r);
    c text := (SELECT format('%s "%s"', x.platform, x.name) FROM @extschema@.integration_connections AS x WHERE x.id = r.connection_id);
BEGIN
    RETURN NEXT concat_ws('  ', format('%s run %s to %s', initcap(CASE r.kind WHEN 'preview' THEN 'publish' ELSE r.kind END), r.id, coalesce(c, 'a connection that is gone')),
                          CASE WHEN j ? 'calls' THEN format('(items=%s calls=%s bytes=%s)', r.to_create + r.to_update + r.to_delete, j ->> 'calls', j ->> 'bytes') END,
                          CASE WHEN j ? 'actual_calls' THEN format('(actual calls=%s bytes=%s seconds=%s)', j ->> 'actual_calls', j ->> 'actual_bytes', j ->> 'actual_seconds') END);
    IF j ? 'calls' THEN
        RETURN NEXT format('  Expected time: %s s, %s calls in flight%s', j ->> 'seconds', j ->> 'in_flight', ', ' || (j ->> 'call_ms') || ' ms a call so far');
        RETURN NEXT CASE WHEN j ? 'hour_limit' THEN format('  Hourly limit: %s calls, %s of our share left when it was planned, %s%% of the limit are needed',
                                                           j ->> 'hour_limit', j ->> 'hour_left', j ->> 'hour_percent')
                         ELSE '  Hourly limit: none known' END;
        RETURN NEXT '  ->  Look at both sides again  ' || pgsync_itsm.explain_part(j -> 'look_again');
        RETURN QUERY SELECT format('  ->  %s  %s', coalesce(pgsync_itsm.explain_steps(r.id, w -> 'steps'), w ->> 'steps'), pgsync_itsm.explain_part(w))
                       FROM jsonb_array_elements(j -> 'writes') AS w;
        RETURN NEXT '  ->  Read back what was written  ' || pgsync_itsm.explain_part(j -> 'read_back');
    ELSE
        RETURN NEXT CASE r.kind WHEN 'publish' THEN '  Not estimated: what is not kept for approval goes out at once'
                                ELSE format('  Not estimated: a run of kind %s', r.kind) END;
    END IF;
    RETURN QUERY SELECT format('  Step %s %s  (actual done=%s failed=%s skipped=%s of %s)', a ->> 'step', a ->> 'title', a ->> 'done', a ->> 'failed', a ->> 'skipped', a ->> 'items')
                   FROM jsonb_array_elements(j -> 'actual_steps') AS a;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.explain_text(@extschema@.integration_runs) IS 'The same in lines';

CREATE FUNCTION @extschema@.itsm_explain(run_id bigint, format text DEFAULT 'text') RETURNS SETOF text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    r @extschema@.integration_runs := pgsync_itsm.own_run(run_id);
BEGIN
    IF format IS NULL OR lower(format) NOT IN ('text', 'json') THEN
        RAISE EXCEPTION 'unrecognized format "%"', coalesce(format, 'NULL')
            USING ERRCODE = 'invalid_parameter_value', HINT = pg_catalog.format('SELECT * FROM itsm_explain(%s, ''json'');', r.id);
    END IF;
    IF r.status IN ('queued', 'planning') AND r.expected IS NULL THEN
        RAISE EXCEPTION 'run % has no plan yet: it is %', r.id, r.status
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = pg_catalog.format('CALL itsm_wait(%s);', r.id);
    END IF;
    IF lower(format) = 'json' THEN
        RETURN NEXT jsonb_pretty(pgsync_itsm.explain_json(r));
    ELSE
        RETURN QUERY SELECT pgsync_itsm.explain_text(r);
    END IF;
END
$$;
COMMENT ON FUNCTION @extschema@.itsm_explain(bigint, text) IS
'What applying a kept plan takes: steps, items, requests, bytes, expected time, share of the hourly limit; after the run, what it took. format: text or json';
