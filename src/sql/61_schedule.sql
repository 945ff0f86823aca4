-- Schedules: what a connection does by itself, and when.  Every function is told the time, so that a test can choose it.

-- Times of day -------------------------------------------------------------------------------------

CREATE FUNCTION pgsync_itsm.is_time_list(value text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN value ~ '^\s*([01]?[0-9]|2[0-3]):[0-5][0-9]\s*(,\s*([01]?[0-9]|2[0-3]):[0-5][0-9]\s*){0,23}$';
COMMENT ON FUNCTION pgsync_itsm.is_time_list(text) IS 'Is this one or several times of day, as in 02:00 or 06:00, 18:00';

-- One moment for each local date: a time that the clocks skip is the moment at which they are set, and one that they
-- show twice is one of the two, so that nothing is left out or done twice on the days when they change.
CREATE FUNCTION pgsync_itsm.slots(times text, zone text, at timestamptz) RETURNS SETOF timestamptz
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT ((slots.at AT TIME ZONE slots.zone)::date + d.n + btrim(t.time)::time) AT TIME ZONE slots.zone
      FROM generate_series(-2, 2) AS d(n), string_to_table(slots.times, ',') AS t(time);
END;
COMMENT ON FUNCTION pgsync_itsm.slots(text, text, timestamptz) IS 'The moments around a point in time at which clocks of a zone show these times of day';

CREATE FUNCTION pgsync_itsm.slot_before(times text, zone text, at timestamptz) RETURNS timestamptz
LANGUAGE sql STABLE
RETURN (SELECT max(s.slot) FROM pgsync_itsm.slots(times, zone, at) AS s(slot) WHERE s.slot <= at);
COMMENT ON FUNCTION pgsync_itsm.slot_before(text, text, timestamptz) IS 'The last of these times of day that has come';

CREATE FUNCTION pgsync_itsm.slot_after(times text, zone text, at timestamptz) RETURNS timestamptz
LANGUAGE sql STABLE
RETURN (SELECT min(s.slot) FROM pgsync_itsm.slots(times, zone, at) AS s(slot) WHERE s.slot > at);
COMMENT ON FUNCTION pgsync_itsm.slot_after(text, text, timestamptz) IS 'The next of these times of day';

-- Black-out windows --------------------------------------------------------------------------------

CREATE FUNCTION pgsync_itsm.day_list(days text) RETURNS integer[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    names CONSTANT text[] := '{mon,tue,wed,thu,fri,sat,sun}';
    part text;
    first integer;
    last integer;
    result integer[] := '{}';
BEGIN
    FOREACH part IN ARRAY regexp_split_to_array(lower(coalesce(nullif(btrim(days), ''), 'mon-sun')), '\s*,\s*') LOOP
        first := array_position(names, split_part(part, '-', 1));
        last := array_position(names, coalesce(nullif(split_part(part, '-', 2), ''), split_part(part, '-', 1)));
        IF first IS NULL OR last IS NULL OR part ~ '-.*-' THEN
            RETURN NULL;
        END IF;
        -- Sat-Mon goes over the end of the week
        result := result || ARRAY(SELECT (first - 1 + n) % 7 + 1 FROM generate_series(0, (last - first + 7) % 7) AS n);
    END LOOP;
    RETURN result;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.day_list(text) IS 'Days of the week as in Mon-Fri or Sat, Sun (1 is Monday); NULL: something else; empty: all of them';

CREATE FUNCTION pgsync_itsm.parse_blackout(value text)
RETURNS TABLE (part text, days integer[], opens text, closes text, first_day date, last_day date)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    m text[];
BEGIN
    FOREACH part IN ARRAY regexp_split_to_array(coalesce(value, ''), '\s*;\s*') LOOP
        part := btrim(part);
        CONTINUE WHEN part = '';
        days := NULL; opens := NULL; closes := NULL; first_day := NULL; last_day := NULL;
        m := regexp_match(part, '^([A-Za-z][A-Za-z, -]*?)?\s*((?:[01]?[0-9]|2[0-3]):[0-5][0-9])\s*-\s*((?:[01]?[0-9]|2[0-3]):[0-5][0-9]|24:00)$');
        IF m IS NOT NULL THEN
            days := pgsync_itsm.day_list(m[1]);
            opens := m[2];
            closes := m[3];
        ELSE
            m := regexp_match(part, '^(\d{4}-\d\d-\d\d)(?:\s*\.\.\s*(\d{4}-\d\d-\d\d))?$');
            IF m IS NOT NULL THEN
                BEGIN
                    first_day := m[1]::date;
                    last_day := coalesce(m[2], m[1])::date;
                EXCEPTION WHEN data_exception THEN
                    first_day := NULL;
                END;
                IF last_day < first_day THEN
                    first_day := NULL;
                END IF;
            END IF;
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.parse_blackout(text) IS
'Windows of a black-out: days of the week with times (to the next day if they end before they begin), or dates; neither days nor first_day: not understood';

CREATE FUNCTION pgsync_itsm.blackout_windows(value text, zone text, at timestamptz) RETURNS TABLE (opens timestamptz, closes timestamptz)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
        SELECT (d.day + p.opens::time) AT TIME ZONE zone,
               (d.day + p.closes::time + CASE WHEN p.closes::time <= p.opens::time THEN interval '1 day' ELSE interval '0' END) AT TIME ZONE zone
          FROM pgsync_itsm.parse_blackout(value) AS p
         CROSS JOIN LATERAL (SELECT (at AT TIME ZONE zone)::date + n AS day FROM generate_series(-2, 8) AS n) AS d
         WHERE extract(isodow FROM d.day)::integer = ANY (p.days)
        UNION ALL
        SELECT p.first_day::timestamp AT TIME ZONE zone, (p.last_day + 1)::timestamp AT TIME ZONE zone
          FROM pgsync_itsm.parse_blackout(value) AS p WHERE p.first_day IS NOT NULL;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.blackout_windows(text, text, timestamptz) IS 'Windows of a black-out around a point in time';

-- Windows that touch are one.
CREATE FUNCTION pgsync_itsm.blackout_end(value text, zone text, at timestamptz) RETURNS timestamptz
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    until timestamptz := at;
    further timestamptz;
BEGIN
    IF coalesce(value, '') = '' THEN
        RETURN NULL;
    END IF;
    LOOP
        SELECT max(w.closes) INTO further FROM pgsync_itsm.blackout_windows(value, zone, until) AS w WHERE w.opens <= until AND w.closes > until;
        -- every day around the clock has no end: a month is far enough for whoever looks again every hour
        EXIT WHEN further IS NULL OR until > at + interval '31 days';
        until := further;
    END LOOP;
    RETURN nullif(until, at);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.blackout_end(text, text, timestamptz) IS 'When the black-out that holds at this time is over; NULL: there is none';

CREATE FUNCTION pgsync_itsm.blackout_next(value text, zone text, at timestamptz) RETURNS timestamptz
LANGUAGE sql STABLE
RETURN (SELECT min(w.opens) FROM pgsync_itsm.blackout_windows(value, zone, at) AS w WHERE w.opens > at);
COMMENT ON FUNCTION pgsync_itsm.blackout_next(text, text, timestamptz) IS 'When the next black-out begins, if that is within a week or given by date';

-- A run that a person started goes on, unless the black-out is for these as well.
CREATE FUNCTION pgsync_itsm.is_quiet(blackout_until timestamptz, settings jsonb, origin text) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
RETURN coalesce(blackout_until > now(), false) AND (origin <> 'call' OR coalesce(settings ->> 'blackout_stops', 'automatic') = 'all');
COMMENT ON FUNCTION pgsync_itsm.is_quiet(timestamptz, jsonb, text) IS 'Does a black-out hold back a run of this origin now';

CREATE FUNCTION pgsync_itsm.check_schedule_setting(name text, value text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wrong text;
BEGIN
    IF value = '' THEN
        RETURN;
    ELSIF name IN ('daily_at', 'reconcile_at') AND NOT pgsync_itsm.is_time_list(value) THEN
        RAISE EXCEPTION 'invalid value "%" for connection setting "%"', value, name
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give one or several times of day, such as 02:00 or 06:00, 18:00.';
    ELSIF name = 'time_zone' AND NOT EXISTS (SELECT FROM pg_timezone_names AS z WHERE lower(z.name) = lower(value)) THEN
        RAISE EXCEPTION 'time zone "%" does not exist', value
            USING ERRCODE = 'invalid_parameter_value', HINT = 'SELECT name FROM pg_timezone_names ORDER BY name; such as America/Toronto.';
    ELSIF name IN ('reconcile_every', 'refresh_after') AND (NOT pgsync_itsm.is_interval(value) OR value::interval < interval '1 day') THEN
        RAISE EXCEPTION 'invalid value "%" for connection setting "%"', value, name
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a time of at least a day, such as 7 days; empty: off.';
    ELSIF name = 'blackout' THEN
        SELECT p.part INTO wrong FROM pgsync_itsm.parse_blackout(value) AS p WHERE p.days IS NULL AND p.first_day IS NULL LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'black-out window "%" is not understood', left(wrong, 80)
                USING ERRCODE = 'invalid_parameter_value',
                      HINT = 'Give windows such as Mon-Fri 08:00-18:00; Sat,Sun 22:00-06:00; 2026-12-20..2027-01-05';
        END IF;
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.check_schedule_setting(text, text) IS 'Raises a clear error if a setting of the schedule has no such value';

-- What is due --------------------------------------------------------------------------------------

-- What a connection's schedule says, in one row.
CREATE FUNCTION pgsync_itsm.schedule_of(c @extschema@.integration_connections, OUT zone text, OUT daily_at text, OUT reconcile_at text,
                                        OUT reconcile_every interval, OUT blackout text, OUT refresh_after interval, OUT read_every interval)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    zone := coalesce(pgsync_itsm.setting(c.id, 'time_zone'), 'UTC');
    blackout := pgsync_itsm.setting(c.id, 'blackout');
    IF c.sync_schedule = 'daily' THEN
        daily_at := pgsync_itsm.setting(c.id, 'daily_at');
    END IF;
    -- manual means that nothing happens by itself, unless somebody says when; a daily plan is as good a time as any
    IF c.settings ? 'reconcile_at' OR c.sync_schedule = 'on_change' THEN
        reconcile_at := pgsync_itsm.setting(c.id, 'reconcile_at');
    ELSE
        reconcile_at := daily_at;
    END IF;
    reconcile_every := pgsync_itsm.setting(c.id, 'reconcile_every')::interval;
    IF reconcile_every IS NULL THEN
        reconcile_at := NULL;
    END IF;
    IF c.sync_schedule <> 'manual' OR c.settings ? 'refresh_after' THEN
        refresh_after := pgsync_itsm.setting(c.id, 'refresh_after')::interval;
    END IF;
    IF c.sync_direction <> 'publish' AND (c.sync_schedule <> 'manual' OR c.settings ? 'read_every') THEN
        read_every := pgsync_itsm.setting(c.id, 'read_every')::interval;
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.schedule_of(@extschema@.integration_connections) IS 'What a connection does by itself: times of day, zone, intervals, black-out; NULL: not at all';

-- Two hours less than the interval: on a day when clocks change, the time of day comes earlier.
CREATE FUNCTION pgsync_itsm.reconcile_due(last timestamptz, every interval) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN last + every - interval '2 hours';
COMMENT ON FUNCTION pgsync_itsm.reconcile_due(timestamptz, interval) IS 'From when on the next reconciliation may be';

CREATE FUNCTION pgsync_itsm.next_scheduled(c @extschema@.integration_connections, at timestamptz) RETURNS timestamptz
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s record := pgsync_itsm.schedule_of(c);
    upcoming timestamptz;
BEGIN
    IF NOT c.is_active OR c.first_publish_at IS NULL OR c.sync_direction = 'subscribe' THEN
        RETURN NULL;
    END IF;
    upcoming := least(pgsync_itsm.slot_after(s.daily_at, s.zone, at),
                  pgsync_itsm.slot_after(s.reconcile_at, s.zone,
                                         greatest(at, pgsync_itsm.reconcile_due(c.reconciled_at, s.reconcile_every) - interval '1 second')));
    RETURN coalesce(pgsync_itsm.blackout_end(s.blackout, s.zone, upcoming), upcoming);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.next_scheduled(@extschema@.integration_connections, timestamptz) IS 'When the schedule of a connection starts its next run; NULL: it does not';

-- One that waits for a person is not doubled night after night; when it is too old to be applied, it makes room.
CREATE FUNCTION pgsync_itsm.schedule_waits(connection_id uuid) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r record;
    oldest CONSTANT interval := coalesce(pgsync_itsm.setting(connection_id, 'plan_max_age')::interval, '7 days');
BEGIN
    FOR r IN SELECT x.id, x.status, x.planned_at FROM @extschema@.integration_runs AS x
              WHERE x.connection_id = schedule_waits.connection_id AND x.kind = 'publish' AND x.origin = 'schedule' AND NOT x.partial
                AND x.status IN ('queued', 'planning', 'running', 'needs_approval') LOOP
        IF r.status <> 'needs_approval' OR r.planned_at > now() - oldest THEN
            RETURN true;
        END IF;
        UPDATE @extschema@.integration_runs AS x SET error_message = 'nobody approved it in time: superseded by a newer plan' WHERE x.id = r.id;
        PERFORM pgsync_itsm.finish_run(r.id, 'cancelled');
    END LOOP;
    RETURN false;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.schedule_waits(uuid) IS 'Is a scheduled plan of this connection still open, or waiting for approval';

CREATE FUNCTION pgsync_itsm.is_busy(connection_id uuid) RETURNS boolean
LANGUAGE sql STABLE
RETURN EXISTS (SELECT FROM @extschema@.integration_runs AS r WHERE r.connection_id = is_busy.connection_id AND r.status IN ('queued', 'planning', 'running'));
COMMENT ON FUNCTION pgsync_itsm.is_busy(uuid) IS 'Has a connection a run that goes on, or will';

-- Refreshing is for spare budget: only when nothing else is to be done, and less than half of every known limit is used.
CREATE FUNCTION pgsync_itsm.has_spare_budget(connection_id uuid, at timestamptz) RETURNS boolean
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT NOT pgsync_itsm.is_busy(has_spare_budget.connection_id)
       AND NOT EXISTS (SELECT FROM pgsync_itsm.connection_pace AS p, unnest(p.used, p.limits, p.resets) AS u(used, most, resets_at)
                        WHERE p.connection_id = has_spare_budget.connection_id
                          AND (p.state IN ('open', 'half_open') OR p.until > has_spare_budget.at
                               OR u.most >= 0 AND u.resets_at > has_spare_budget.at AND u.used * 2 >= u.most));
END;
COMMENT ON FUNCTION pgsync_itsm.has_spare_budget(uuid, timestamptz) IS 'Is a connection idle, and far from its limits';

-- The platform calls a CI stale that its source has not confirmed for long.  Looked at at most once a day each: what
-- cannot be confirmed must not keep the others waiting.
CREATE FUNCTION pgsync_itsm.refresh_some(c @extschema@.integration_connections, after interval, at timestamptz) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    most CONSTANT integer := CASE pgsync_itsm.setting(c.id, 'write_api') WHEN 'instance' THEN 100 ELSE 1000 END;
    run bigint;
BEGIN
    IF after IS NULL OR NOT pgsync_itsm.has_spare_budget(c.id, at)
       OR NOT EXISTS (SELECT FROM pgsync_itsm.refresh_keys(c.id, after, at, 1)) THEN
        RETURN NULL;
    END IF;
    INSERT INTO @extschema@.integration_runs (namespace_id, connection_id, kind, origin, purpose, partial, requested_by)
    VALUES (c.namespace_id, c.id, 'publish', 'schedule', 'refresh', true, c.owner) RETURNING id INTO run;
    WITH k AS MATERIALIZED (SELECT * FROM pgsync_itsm.refresh_keys(c.id, after, at, most)),
    looked_at AS (UPDATE @extschema@.integration_sync_map AS m SET refreshed_at = at FROM k WHERE m.id = k.map_id)
    INSERT INTO pgsync_itsm.run_keys (run_id, entity_type, match_by, key)
    SELECT run, k.entity_type, 'key', k.key FROM k;
    RETURN run;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.refresh_some(@extschema@.integration_connections, interval, timestamptz) IS
'Queues a run that confirms some of the CIs which were not written for longer than this; returns it, NULL: nothing to confirm, or no budget';

CREATE FUNCTION pgsync_itsm.refresh_keys(connection_id uuid, after interval, at timestamptz, most integer)
RETURNS TABLE (map_id uuid, entity_type text, key text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT m.id, m.entity_type, substr(m.native_key, strpos(m.native_key, '/') + 1)
      FROM @extschema@.integration_sync_map AS m
     WHERE m.connection_id = refresh_keys.connection_id AND m.parent_id IS NULL AND pgsync_itsm.is_identified(m.entity_type)
       AND m.created_by_us AND m.state = 'linked' AND m.last_sync_hash IS NOT NULL
       AND m.last_synced_at < refresh_keys.at - refresh_keys.after
       AND coalesce(m.refreshed_at, '-infinity') < refresh_keys.at - interval '1 day'
     ORDER BY m.last_synced_at
     LIMIT refresh_keys.most;
END;
COMMENT ON FUNCTION pgsync_itsm.refresh_keys(uuid, interval, timestamptz, integer) IS 'CIs that we made and have not written for long, the oldest first';

-- When a connection reads next by itself; NULL: it does not.  Whoever started the last reading, it counts.
CREATE FUNCTION pgsync_itsm.next_reading(connection_id uuid, every interval, at timestamptz) RETURNS timestamptz
LANGUAGE sql STABLE
RETURN CASE WHEN every IS NOT NULL
            THEN coalesce((SELECT max(r.created_at) FROM @extschema@.integration_runs AS r
                            WHERE r.connection_id = next_reading.connection_id AND r.kind = 'subscribe' AND r.purpose IS NULL) + every, at) END;
COMMENT ON FUNCTION pgsync_itsm.next_reading(uuid, interval, timestamptz) IS 'When what was changed on the platform is to be read next';

CREATE FUNCTION pgsync_itsm.run_schedule(c @extschema@.integration_connections, at timestamptz) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s record := pgsync_itsm.schedule_of(c);
    quiet timestamptz := pgsync_itsm.blackout_end(s.blackout, s.zone, at);
    daily timestamptz := pgsync_itsm.slot_before(s.daily_at, s.zone, at);
    reconcile timestamptz := pgsync_itsm.slot_before(s.reconcile_at, s.zone, at);
    reading bigint;
    run bigint;
BEGIN
    -- Before a connection's first publish nothing is sent by itself.  What lies ahead was written by a clock that has
    -- been set back since.
    IF c.first_publish_at IS NULL OR c.scheduled_at IS NULL OR c.scheduled_at > at + interval '1 day' THEN
        c.scheduled_at := at;
    END IF;
    IF c.first_publish_at IS NULL OR c.reconciled_at IS NULL OR c.reconciled_at > at + interval '1 day' THEN
        c.reconciled_at := at;
    END IF;
    -- Read, merge, write: what was changed there comes before what is sent.
    IF quiet IS NULL AND pgsync_itsm.next_reading(c.id, s.read_every, at) <= at AND NOT EXISTS (
            SELECT FROM @extschema@.integration_runs AS r WHERE r.connection_id = c.id AND r.kind = 'subscribe' AND r.status IN ('queued', 'planning')) THEN
        INSERT INTO @extschema@.integration_runs (namespace_id, connection_id, kind, origin, requested_by)
        VALUES (c.namespace_id, c.id, 'subscribe', 'schedule', c.owner) RETURNING id INTO reading;
    END IF;
    IF quiet IS NULL AND c.first_publish_at IS NOT NULL AND c.sync_direction <> 'subscribe' THEN
        IF reconcile <= c.reconciled_at OR reconcile < pgsync_itsm.reconcile_due(c.reconciled_at, s.reconcile_every) THEN
            reconcile := NULL;
        END IF;
        IF daily > c.scheduled_at OR reconcile IS NOT NULL THEN
            -- however many were missed, they are made up for by one
            IF NOT pgsync_itsm.schedule_waits(c.id) THEN
                INSERT INTO @extschema@.integration_runs (namespace_id, connection_id, kind, origin, purpose, requested_by)
                VALUES (c.namespace_id, c.id, 'publish', 'schedule', CASE WHEN reconcile IS NOT NULL THEN 'reconcile' END, c.owner) RETURNING id INTO run;
            END IF;
            c.scheduled_at := greatest(c.scheduled_at, daily);
            c.reconciled_at := greatest(c.reconciled_at, reconcile);
        ELSE
            run := pgsync_itsm.refresh_some(c, s.refresh_after, at);
        END IF;
    END IF;
    UPDATE @extschema@.integration_connections AS x
       SET scheduled_at = c.scheduled_at, reconciled_at = c.reconciled_at, blackout_until = quiet,
           next_run_at = pgsync_itsm.next_scheduled(c, at),
           look_at = least(pgsync_itsm.slot_after(s.daily_at, s.zone, at), pgsync_itsm.slot_after(s.reconcile_at, s.zone, at), quiet,
                           pgsync_itsm.blackout_next(s.blackout, s.zone, at),
                           CASE WHEN s.read_every IS NOT NULL THEN greatest(pgsync_itsm.next_reading(c.id, s.read_every, at), at + interval '1 second') END,
                           -- what only waits for other runs to end is not left for an hour
                           CASE WHEN s.refresh_after IS NOT NULL AND run IS NULL AND pgsync_itsm.is_busy(c.id) THEN at + interval '10 seconds' END,
                           at + interval '1 hour')
     WHERE x.id = c.id;
    RETURN coalesce(run, reading);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.run_schedule(@extschema@.integration_connections, timestamptz) IS
'Queues what the schedule of a connection says is due at this time, and notes when to look again; returns the run, NULL: none';

CREATE FUNCTION pgsync_itsm.run_schedules(at timestamptz DEFAULT clock_timestamp()) RETURNS SETOF bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c @extschema@.integration_connections;
    run bigint;
BEGIN
    -- Whose row somebody else has open is looked at next time.
    FOR c IN SELECT * FROM @extschema@.integration_connections AS x
              WHERE x.is_active AND x.paused_at IS NULL AND (x.look_at IS NULL OR x.look_at <= at OR x.look_at > at + interval '2 hours')
              ORDER BY x.id FOR UPDATE SKIP LOCKED LOOP
        run := pgsync_itsm.run_schedule(c, at);
        IF run IS NOT NULL THEN
            RETURN NEXT run;
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.run_schedules(timestamptz) IS 'Queues what is due, of all connections that were to be looked at by now; returns the runs';

CREATE FUNCTION @extschema@.itsm_schedule(connection_id uuid, sync_schedule text DEFAULT NULL, daily_at text DEFAULT NULL, time_zone text DEFAULT NULL,
                                          reconcile_at text DEFAULT NULL, blackout text DEFAULT NULL) RETURNS timestamptz
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    c @extschema@.integration_connections := pgsync_itsm.own_connection(connection_id);
    s record;
    upcoming timestamptz;
BEGIN
    IF sync_schedule IS NOT NULL AND sync_schedule NOT IN ('manual', 'daily', 'on_change') THEN
        RAISE EXCEPTION 'invalid schedule "%"', sync_schedule USING ERRCODE = 'invalid_parameter_value', HINT = 'Allowed are: manual, daily, on_change.';
    END IF;
    -- before anything is changed: an empty text is the default again
    FOR s IN SELECT v.name, v.value FROM (VALUES ('time_zone', time_zone), ('daily_at', daily_at), ('reconcile_at', reconcile_at), ('blackout', blackout))
              AS v(name, value) WHERE v.value IS NOT NULL LOOP
        PERFORM @extschema@.itsm_set(c.id, s.name, nullif(s.value, ''));
    END LOOP;
    upcoming := pgsync_itsm.change_schedule(c.id, sync_schedule);
    c := pgsync_itsm.own_connection(c.id);
    RAISE NOTICE '%', CASE
        WHEN NOT c.is_active THEN format('it holds once the connection is active: SELECT itsm_activate(%L);', c.id)
        WHEN c.first_publish_at IS NULL THEN format('it holds after the first publish: SELECT itsm_publish(%L);', c.namespace_id)
        WHEN upcoming IS NOT NULL THEN format('the next run is at %s', upcoming)
        WHEN c.sync_schedule = 'on_change' THEN 'changes are sent as they come'
        ELSE 'nothing is sent by itself' END;
    RETURN upcoming;
END
$$;
COMMENT ON FUNCTION @extschema@.itsm_schedule(uuid, text, text, text, text, text) IS
'Says when a connection publishes by itself (manual, daily, on_change), at which times of day in which time zone, when it reconciles, and when nothing is sent (Mon-Fri 08:00-18:00; 2026-12-20..2027-01-05). NULL: as before; empty: the default. Returns when the next run is';
