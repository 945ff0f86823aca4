-- Schedules, with a time that the test chooses: times of day on days when clocks change, black-outs, what is caught up on,
-- what is not doubled; and what a reconciliation and a refresh make of records that are unchanged here.
\set SHOW_CONTEXT never
SELECT current_database() AS main \gset
SET client_min_messages = warning;
DROP DATABASE IF EXISTS regress_itsm_schedule;
CREATE DATABASE regress_itsm_schedule TEMPLATE template0;
\c regress_itsm_schedule
CREATE SCHEMA itsm;
SET client_min_messages = warning;
CREATE EXTENSION pgsync_itsm SCHEMA itsm;
SET search_path = public, itsm;
SET timezone = 'UTC';
SET datestyle = 'ISO';
\set acme '''00000000-0000-4000-8000-000000000001'''
\set ns '''11111111-1111-4111-8111-111111111111'''

-- The clocks of Toronto go from 02:00 to 03:00 on 8 March 2026 and from 02:00 back to 01:00 on 1 November.
CREATE FUNCTION all_slots(times text, zone text, since timestamptz, till timestamptz) RETURNS SETOF timestamptz LANGUAGE plpgsql AS $$
BEGIN
    LOOP
        since := pgsync_itsm.slot_after(times, zone, since);
        EXIT WHEN since > till;
        RETURN NEXT since;
    END LOOP;
END $$;
SELECT s AS utc, s AT TIME ZONE 'America/Toronto' AS there FROM all_slots('02:30', 'America/Toronto', '2026-03-06 12:00Z', '2026-03-10 12:00Z') AS s;
SELECT s AS utc, s AT TIME ZONE 'America/Toronto' AS there FROM all_slots('01:30', 'America/Toronto', '2026-10-30 12:00Z', '2026-11-03 12:00Z') AS s;
SELECT s AS utc, s AT TIME ZONE 'Asia/Kolkata' AS there FROM all_slots('6:00, 18:00', 'Asia/Kolkata', '2026-01-01 00:00Z', '2026-01-02 12:00Z') AS s;
-- a day, wherever it is
SELECT pgsync_itsm.slot_before('00:00', z, '2026-06-15 12:00Z') AT TIME ZONE z AS last, pgsync_itsm.slot_after('00:00', z, '2026-06-15 12:00Z') AT TIME ZONE z AS next, z
  FROM unnest(ARRAY['Pacific/Kiritimati', 'Etc/GMT+12', 'UTC']) AS z;
SELECT v, pgsync_itsm.is_time_list(v) FROM unnest(ARRAY['02:00', '2:05', '06:00, 18:00', '24:00', '12', '12:60', '', ',', '1:00,', 'now']) AS v;

-- Black-outs
SELECT part, days, opens, closes, first_day, last_day
  FROM pgsync_itsm.parse_blackout('Mon-Fri 08:00-18:00; sat, sun 22:00-06:00;; 00:00-24:00; Sat-Mon 1:00-2:00; 2026-12-20..2027-01-05; 2026-07-01; Someday 08:00-09:00; Mon-Wed-Fri 1:00-2:00; 2026-13-01; 2026-02-02..2026-01-01; 25:00-26:00; never');
CREATE FUNCTION quiet(value text, zone text, at timestamptz) RETURNS text LANGUAGE sql AS
$$ SELECT coalesce(pgsync_itsm.blackout_end(value, zone, at) AT TIME ZONE zone || '', 'no') $$;
SELECT at AT TIME ZONE 'Europe/Berlin' AS there, quiet('Mon-Fri 08:00-18:00; 2026-12-24..2026-12-26', 'Europe/Berlin', at) AS until,
       pgsync_itsm.blackout_next('Mon-Fri 08:00-18:00; 2026-12-24..2026-12-26', 'Europe/Berlin', at) AT TIME ZONE 'Europe/Berlin' AS next
  FROM unnest(ARRAY['2026-11-25 06:59Z', '2026-11-25 07:00Z', '2026-11-25 16:59:59Z', '2026-11-25 17:00Z', '2026-11-28 12:00Z',
                    '2026-12-23 22:59Z', '2026-12-23 23:00Z', '2026-12-25 12:00Z', '2026-12-26 23:00Z']::timestamptz[]) AS at;
-- over midnight; one after another; around the clock
SELECT quiet('Fri 22:00-06:00', 'UTC', '2026-11-28 05:00Z') AS friday_night, quiet('Fri 22:00-06:00', 'UTC', '2026-11-27 05:00Z') AS not_thursday,
       quiet('Mon 08:00-12:00; Mon 12:00-18:00', 'UTC', '2026-11-23 09:00Z') AS joined,
       pgsync_itsm.blackout_end('00:00-24:00', 'UTC', '2026-11-23 09:00Z') > '2026-12-20'::timestamptz AS for_long,
       quiet(NULL, 'UTC', now()) AS none, quiet('', 'UTC', now()) AS empty;

-- Settings that cannot be
INSERT INTO integration_connections (id, namespace_id, platform, instance_url, settings, is_active)
VALUES (:acme, :ns, 'servicenow', 'https://acme.service-now.com', '{"default_owner": "owner"}', true);
SELECT itsm_set(:acme, 'daily_at', 'noon');
SELECT itsm_set(:acme, 'time_zone', 'Mars/Olympus');
SELECT itsm_set(:acme, 'blackout', 'Mon-Fri 08:00-18:00; weekends');
SELECT itsm_set(:acme, 'reconcile_every', '1 hour');
SELECT itsm_set(:acme, 'refresh_after', 'soon');
SELECT itsm_set(:acme, 'blackout_stops', 'some');
SELECT itsm_schedule(:acme, 'hourly');
SELECT itsm_schedule('99999999-9999-4999-8999-999999999999', 'daily');
SELECT itsm_schedule(:acme, 'daily', daily_at => '2:00 pm');
SELECT sync_schedule, settings ? 'daily_at' AS set FROM integration_connections;

-- What is due.  A run ends at once here: nobody plans it.
CREATE FUNCTION due(at timestamptz, stays boolean DEFAULT false) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    ids bigint[] := ARRAY(SELECT pgsync_itsm.run_schedules(at));
    words text;
BEGIN
    SELECT string_agg(concat_ws(' ', r.kind, r.origin, r.purpose, CASE WHEN r.partial THEN (SELECT count(*) FROM pgsync_itsm.run_keys AS k WHERE k.run_id = r.id) END), ', ')
      INTO words FROM integration_runs AS r WHERE r.id = ANY (ids);
    IF NOT stays THEN
        UPDATE integration_runs SET status = 'done' WHERE status = 'queued';
    END IF;
    RETURN coalesce(words, '');
END $$;
\set QUIET on
SET client_min_messages = notice;
SELECT itsm_schedule(:acme, 'daily', daily_at => '02:30', time_zone => 'America/Toronto');
SET client_min_messages = warning;
UPDATE integration_connections SET scheduled_at = NULL;
-- before the first publish nothing happens by itself, nor is it made up for
SELECT due('2026-03-05 12:00Z') AS first_look, due('2026-03-06 12:00Z') AS next_day;
UPDATE integration_connections SET first_publish_at = '2026-03-06 13:00Z';
SELECT due('2026-03-06 13:00Z') AS published;
SELECT next_run_at FROM integration_connections;
SELECT next_run_at, look_at FROM integration_connections;
-- looked at when something is due, not before
SELECT due('2026-03-07 07:29Z') AS too_early, due('2026-03-07 07:30Z') AS on_time, due('2026-03-07 07:31Z') AS once;
SELECT due('2026-03-08 07:29Z') AS spring, due('2026-03-08 07:30Z') AS spring_on_time, due('2026-03-08 08:00Z') AS spring_once;
-- three nights without a server: one run
SELECT due('2026-03-12 15:00Z') AS made_up_for, due('2026-03-12 16:01Z') AS once;
SELECT next_run_at FROM integration_connections;
-- seven days after the first publish a run compares what is there as well
SELECT due('2026-03-13 06:30Z') AS not_quite, due('2026-03-14 06:30Z') AS seven_days;
-- a clock that jumps ahead by a year and back again, or an hour back
SELECT due('2027-03-14 12:00Z') AS a_year_on, due('2026-03-14 12:01Z') AS back, due('2026-03-15 06:30Z') AS as_usual, due('2026-03-15 05:45Z') AS an_hour_back, due('2026-03-15 06:31Z') AS again;
-- a run that is not through yet, or that nobody has approved, is not doubled
SELECT due('2026-03-16 06:30Z', true) AS stays, due('2026-03-17 06:30Z', true) AS not_doubled;
UPDATE integration_runs SET status = 'needs_approval', planned_at = now() WHERE status = 'queued';
SELECT due('2026-03-18 06:30Z') AS waits_for_approval;
UPDATE integration_runs SET planned_at = now() - interval '8 days' WHERE status = 'needs_approval';
SELECT due('2026-03-19 06:30Z') AS makes_room;
SELECT status, error_message FROM integration_runs WHERE status = 'cancelled';
-- a preview, a partial run, a hand-made publish keep it from nothing
INSERT INTO integration_runs (namespace_id, connection_id, kind, status) VALUES (:ns, :acme, 'preview', 'planned'), (:ns, :acme, 'publish', 'running');
SELECT due('2026-03-20 06:30Z') AS beside_others;
UPDATE integration_runs SET status = 'done';
-- paused, inactive: made up for once; subscribed: nothing to publish
UPDATE integration_connections SET paused_at = now();
SELECT due('2026-03-23 12:00Z') AS paused;
UPDATE integration_connections SET paused_at = NULL, is_active = false;
SELECT due('2026-03-24 12:00Z') AS inactive;
SELECT itsm_activate(:acme);
SELECT due('2026-03-25 12:00Z') AS active_again, due('2026-03-25 13:30Z') AS once;
UPDATE integration_connections SET sync_direction = 'subscribe', look_at = NULL;
SELECT due('2026-03-26 12:00Z') AS subscribes;
SELECT next_run_at FROM integration_connections;
UPDATE integration_connections SET sync_direction = 'publish', look_at = NULL;

-- A black-out: what is due waits for its end
SELECT itsm_schedule(:acme, daily_at => '09:00', time_zone => 'UTC', blackout => 'Mon-Fri 08:00-18:00; 2026-04-03..2026-04-06');
UPDATE integration_connections SET scheduled_at = '2026-03-30 12:00Z', reconciled_at = '2026-03-30 12:00Z', look_at = NULL;
SELECT due('2026-03-31 07:00Z') AS before, due('2026-03-31 09:30Z') AS inside;
SELECT blackout_until, next_run_at, look_at FROM integration_connections;
SELECT due('2026-03-31 18:00Z') AS after;
SELECT blackout_until IS NULL AS over FROM integration_connections;
SELECT due('2026-03-31 18:01Z') AS once;
SELECT blackout_until, next_run_at, look_at FROM integration_connections;
SELECT due('2026-04-03 12:00Z') AS dates, due('2026-04-07 07:59Z') AS not_lost, due('2026-04-07 09:00Z') AS week_day;
SELECT pgsync_itsm.is_quiet(now() + interval '1 hour', '{}', o) AS automatic, pgsync_itsm.is_quiet(now() + interval '1 hour', '{"blackout_stops": "all"}', o) AS "all",
       pgsync_itsm.is_quiet(now() - interval '1 hour', '{"blackout_stops": "all"}', o) AS over, pgsync_itsm.is_quiet(NULL, '{}', o) AS none, o
  FROM unnest(ARRAY['call', 'schedule', 'on_change']) AS o;
-- what waits in it is said
UPDATE integration_connections SET blackout_until = now() + interval '1 hour', look_at = now() + interval '30 minutes';
INSERT INTO integration_runs (namespace_id, connection_id, kind, origin, status) VALUES (:ns, :acme, 'publish', 'on_change', 'running') RETURNING id AS held \gset
INSERT INTO integration_run_items (run_id, connection_id, namespace_id, ord, step, entity_type, entity_id, native_key, action, state)
VALUES (:held, :acme, :ns, 10, '4', 'application', md5('x')::uuid, 'application/x', 'CREATE', 'pending');
INSERT INTO integration_runs (namespace_id, connection_id, kind, origin, status) VALUES (:ns, :acme, 'publish', 'call', 'queued') RETURNING id AS mine \gset
SELECT waiting, until IS NOT NULL AS says_until FROM itsm_stat_progress WHERE run_id = :held;
SELECT what FROM pgsync_itsm.turn(true) WHERE what IN ('plan', 'write', 'lookup');
SELECT count(*) FROM pgsync_itsm.next_batch(:acme, false, 0, true);
UPDATE integration_connections SET blackout_until = NULL;
SELECT what, run_id = :held AS held FROM pgsync_itsm.turn(true) WHERE what IN ('plan', 'write', 'lookup');
SELECT count(*) FROM pgsync_itsm.next_batch(:acme, false, 0, true);
DELETE FROM integration_run_items;
UPDATE integration_runs SET status = 'done';
SELECT itsm_schedule(:acme, blackout => '');
SELECT settings ? 'blackout' AS still FROM integration_connections;

-- On change, and beside it at night: only every seven days, on the day
SELECT itsm_schedule(:acme, 'on_change', reconcile_at => '01:00') IS NOT NULL AS has_next;
UPDATE integration_connections SET reconciled_at = '2026-05-01 01:00Z', look_at = NULL;
SELECT due('2026-05-02 02:00Z') AS next_night, due('2026-05-07 02:00Z') AS sixth, due('2026-05-08 00:59Z') AS not_yet, due('2026-05-08 01:00Z') AS seventh, due('2026-05-08 01:30Z') AS once;
SELECT next_run_at FROM integration_connections;
SELECT itsm_set(:acme, 'reconcile_every', '');
SELECT due('2026-06-08 02:00Z') AS never;
SELECT next_run_at FROM integration_connections;
-- by hand only: nothing, unless a time is given
SELECT itsm_set(:acme, 'reconcile_every', NULL), itsm_set(:acme, 'reconcile_at', NULL), itsm_schedule(:acme, 'manual');
UPDATE integration_connections SET reconciled_at = '2026-05-01 01:00Z', look_at = NULL;
SELECT due('2026-06-09 04:00Z') AS manual;
SELECT next_run_at FROM integration_connections;
SELECT itsm_schedule(:acme, reconcile_at => '04:30') IS NOT NULL AS has_next;
UPDATE integration_connections SET look_at = NULL;
SELECT due('2026-06-09 04:30Z') AS reconciles;

-- Two connections: each has its own
INSERT INTO integration_connections (namespace_id, platform, name, instance_url, settings, is_active, first_publish_at, sync_schedule, scheduled_at, reconciled_at)
VALUES (:ns, 'servicenow', 'second', 'https://beta.service-now.com', '{"daily_at": "05:00", "time_zone": "UTC"}', true, now(), 'daily', '2026-06-09 06:00Z', '2026-06-09 06:00Z');
SELECT due('2026-06-10 05:00Z') AS one_of_two;
DELETE FROM integration_connections WHERE name = 'second';

-- Records that are unchanged here.  Four applications, published and agreed.
CREATE TABLE apps (key text, name text, about text);
INSERT INTO apps VALUES ('a', 'Alpha', 'first'), ('b', 'Beta', 'second'), ('c', 'Gamma', 'third'), ('d', 'Delta', 'fourth');
SELECT itsm_set_source(:acme, 'application', 'SELECT key, name, about AS short_description, ''apm'' AS management_classification FROM public.apps', 'text');
CREATE TABLE there (id text, attrs json);
CREATE FUNCTION answer(run bigint) RETURNS void LANGUAGE sql
    AS $$
        INSERT INTO pgsync_itsm.lookup_rows (run_id, kind, target, key, external_id, external_table, attrs)
        SELECT run, l.kind, l.target, k.key, md5(l.kind || '/' || k.key), NULL, NULL
          FROM pgsync_itsm.lookups AS l, unnest(l.keys) AS k(key)
         WHERE l.run_id = run AND l.state = 'pending' AND l.kind IN ('user', 'group', 'company', 'relation_type', 'contract_model')
        UNION ALL
        SELECT run, l.kind, l.target, t.id, t.id, l.target, t.attrs
          FROM pgsync_itsm.lookups AS l, there AS t WHERE l.run_id = run AND l.state = 'pending' AND l.kind = 'record' AND t.id = ANY (l.keys);
        UPDATE pgsync_itsm.lookups SET state = 'done' WHERE run_id = run
    $$;
CREATE PROCEDURE plan(run bigint) LANGUAGE plpgsql
    AS $$
    DECLARE
        what text;
    BEGIN
        UPDATE integration_runs SET status = 'planning' WHERE id = run;
        LOOP
            what := pgsync_itsm.plan_step(run);
            COMMIT;
            EXIT WHEN what = 'done';
            IF what = 'wait' THEN
                PERFORM answer(run);
            END IF;
        END LOOP;
    END
    $$;
-- The platform takes all of it, and has it.
CREATE FUNCTION agree(run bigint) RETURNS void LANGUAGE sql
    AS $$
        SELECT pgsync_itsm.settle_map(r.connection_id, array_agg(ROW(i.id, 'done', CASE i.action WHEN 'CREATE' THEN 'create' ELSE 'update' END,
                   coalesce(i.external_id, md5(i.native_key)), i.external_table, NULL, NULL, NULL, NULL, NULL, NULL, NULL, i.step, i.action, false)::pgsync_itsm.answer))
          FROM integration_run_items AS i JOIN integration_runs AS r ON r.id = i.run_id WHERE i.run_id = run AND i.state = 'pending' GROUP BY r.connection_id;
        DELETE FROM there AS t USING integration_run_items AS i WHERE i.run_id = run AND i.state = 'pending' AND t.id = md5(i.native_key) AND i.action = 'CREATE';
        INSERT INTO there SELECT md5(i.native_key), i.payload FROM integration_run_items AS i WHERE i.run_id = run AND i.state = 'pending' AND i.action = 'CREATE';
        UPDATE there AS t SET attrs = pgsync_itsm.merged(t.attrs, i.payload) FROM integration_run_items AS i WHERE i.run_id = run AND i.state = 'pending' AND i.action = 'UPDATE' AND t.id = i.external_id;
        UPDATE integration_run_items SET state = 'done' WHERE run_id = run AND state = 'pending';
        UPDATE integration_runs SET status = 'done' WHERE id = run
    $$;
CREATE FUNCTION new_run(why text) RETURNS bigint LANGUAGE sql
    AS $$ INSERT INTO integration_runs (namespace_id, connection_id, kind, origin, purpose, confirm) SELECT namespace_id, id, 'publish', 'schedule', why, true FROM integration_connections RETURNING id $$;
CREATE VIEW items AS
    SELECT i.run_id, i.label, i.action, i.state, i.reason, (SELECT string_agg(f.field || '=' || left(f.value, 12), ' ' ORDER BY f.field) FROM json_each_text(i.payload) AS f(field, value)
            WHERE f.field IN ('name', 'short_description')) AS sends FROM integration_run_items AS i ORDER BY i.label;
SELECT itsm_set(:acme, 'reference_ttl', '10 years');
SELECT new_run(NULL) AS run \gset
CALL plan(:run);
SELECT status, to_create FROM integration_runs WHERE id = :run;
SELECT agree(:run);
SELECT new_run(NULL) AS run \gset
CALL plan(:run);
SELECT status, unchanged, to_update FROM integration_runs WHERE id = :run;
UPDATE integration_runs SET status = 'done';

-- Alpha's description is edited there, Beta is gone, Gamma's number is theirs anyway: an ordinary plan sees nothing of that
UPDATE there SET attrs = pgsync_itsm.merged(attrs, '{"short_description": "edited there"}') WHERE attrs ->> 'name' = 'Alpha';
DELETE FROM there WHERE attrs ->> 'name' = 'Beta';
UPDATE there SET attrs = pgsync_itsm.merged(attrs, '{"number": "BA0001"}') WHERE attrs ->> 'name' = 'Gamma';
SELECT new_run(NULL) AS run \gset
CALL plan(:run);
SELECT count(*) AS seen FROM integration_run_items WHERE run_id = :run;
UPDATE integration_runs SET status = 'done';
-- a reconciliation does, and holds both
SELECT new_run('reconcile') AS run \gset
CALL plan(:run);
SELECT label, action, state, reason, sends FROM items WHERE run_id = :run;
SELECT unchanged, held FROM integration_runs WHERE id = :run;
UPDATE integration_runs SET status = 'done';
-- told to, it writes what is agreed
SELECT itsm_set(:acme, 'on_edited', 'overwrite');
SELECT new_run('reconcile') AS run \gset
CALL plan(:run);
SELECT label, action, state, reason, sends FROM items WHERE run_id = :run;
SELECT agree(:run);
SELECT attrs ->> 'short_description' AS there FROM there WHERE attrs ->> 'name' = 'Alpha';
-- after which all is as it was agreed, and nothing is left to do but for what is gone
SELECT new_run('reconcile') AS run \gset
CALL plan(:run);
SELECT label, action, state, reason FROM items WHERE run_id = :run;
UPDATE integration_runs SET status = 'done';
SELECT itsm_set(:acme, 'on_edited', NULL);
-- a field that is only for the platform to say is no difference
UPDATE integration_sync_map SET last_agreed = pgsync_itsm.merged(last_agreed, '{"comments": "ours"}') WHERE published_name = 'Gamma';
UPDATE there SET attrs = pgsync_itsm.merged(attrs, '{"comments": "theirs"}') WHERE attrs ->> 'name' = 'Gamma';
SELECT new_run('reconcile') AS run \gset
CALL plan(:run);
SELECT label, action, state, reason FROM items WHERE run_id = :run;
UPDATE integration_runs SET status = 'done';

-- Refreshing: what was not written for 45 days, the oldest first, and what is edited there is not undone
UPDATE integration_sync_map SET last_synced_at = CASE published_name WHEN 'Delta' THEN now() - interval '44 days' ELSE now() - interval '50 days' END;
UPDATE there SET attrs = pgsync_itsm.merged(attrs, '{"short_description": "edited again"}') WHERE attrs ->> 'name' = 'Alpha';
UPDATE integration_connections SET sync_schedule = 'on_change', scheduled_at = now(), reconciled_at = now(), look_at = NULL;
-- no budget: half of the hour's requests are used
INSERT INTO pgsync_itsm.connection_pace (connection_id, state, slots, rules, limits, used, resets, subs, apis, api_rules)
VALUES (:acme, 'active', 2, '{all}', '{100}', '{50}', ARRAY[now() + interval '30 minutes'], '{0}', '{}', '{}');
SELECT due(now()) AS no_budget;
UPDATE pgsync_itsm.connection_pace SET used = '{49}';
UPDATE integration_connections SET look_at = NULL;
SELECT due(now(), true) AS budget;
SELECT id AS run FROM integration_runs WHERE purpose = 'refresh' \gset
CALL plan(:run);
SELECT label, action, state, regexp_replace(reason, '\d{4}-\d\d-\d\d', 'then') AS reason, sends FROM items WHERE run_id = :run;
SELECT agree(:run);
SELECT published_name, last_synced_at = now() OR last_synced_at > now() - interval '1 hour' AS confirmed, last_agreed ->> 'short_description' AS agreed FROM integration_sync_map ORDER BY 1;
-- the edit is still seen for what it is, and what could not be confirmed is left for a day
SELECT attrs ->> 'short_description' AS there FROM there WHERE attrs ->> 'name' = 'Alpha';
UPDATE integration_connections SET look_at = NULL;
SELECT due(now()) AS nothing_left;
UPDATE integration_sync_map SET last_synced_at = now() - interval '50 days' WHERE published_name = 'Beta';
SELECT due(now() + interval '2 hours') AS not_again_today, due(now() + interval '25 hours') AS tomorrow;
SELECT new_run(NULL) AS run \gset
CALL plan(:run);
SELECT unchanged, to_update FROM integration_runs WHERE id = :run;
SELECT new_run('reconcile') AS run \gset
CALL plan(:run);
SELECT label, action, reason FROM items WHERE run_id = :run;
UPDATE integration_runs SET status = 'done';
-- renamed there: not confirmed under the old name
UPDATE integration_sync_map SET last_synced_at = now() - interval '50 days', refreshed_at = NULL WHERE published_name = 'Delta';
UPDATE there SET attrs = pgsync_itsm.merged(attrs, '{"name": "Delta 2"}') WHERE attrs ->> 'name' = 'Delta';
UPDATE integration_connections SET look_at = NULL;
SELECT due(now(), true) AS renamed;
SELECT max(id) AS run FROM integration_runs WHERE purpose = 'refresh' \gset
CALL plan(:run);
SELECT label, action FROM items WHERE run_id = :run;
UPDATE integration_runs SET status = 'done';
-- off, and by hand only
SELECT itsm_set(:acme, 'refresh_after', '');
UPDATE integration_sync_map SET last_synced_at = now() - interval '1 year', refreshed_at = NULL;
SELECT due(now()) AS off;
SELECT itsm_set(:acme, 'refresh_after', NULL);
UPDATE integration_connections SET sync_schedule = 'manual', look_at = NULL;
SELECT due(now()) AS manual;
-- only what we made
UPDATE integration_connections SET sync_schedule = 'on_change', look_at = NULL;
UPDATE integration_sync_map SET created_by_us = false;
SELECT due(now()) AS not_ours;
-- Reading: every so often, before what is sent, whoever began the last one; not for who only publishes, nor unasked by hand
DELETE FROM integration_runs;
UPDATE integration_connections SET sync_schedule = 'on_change', sync_direction = 'publish', settings = '{"default_owner": "owner"}', look_at = NULL, first_publish_at = now();
CREATE FUNCTION due_at(at timestamptz) RETURNS text LANGUAGE sql AS $$
    UPDATE integration_connections SET look_at = NULL, reconciled_at = at, scheduled_at = at;
    SELECT count(*) FROM pgsync_itsm.run_schedules(at);
    SELECT string_agg(r.kind || ' ' || r.status, ', ' ORDER BY r.id) FROM integration_runs AS r;
$$;
SELECT due_at('2026-06-01 10:00Z') AS only_publishes;
UPDATE integration_connections SET sync_direction = 'both';
SELECT due_at('2026-06-01 10:00Z') AS reads;
SELECT due_at('2026-06-01 10:20Z') AS not_twice;
UPDATE integration_runs SET status = 'done', created_at = '2026-06-01 10:00Z';
SELECT due_at('2026-06-01 10:14Z') AS not_yet, look_at FROM integration_connections;
SELECT due_at('2026-06-01 10:15Z') AS again;
UPDATE integration_runs SET status = 'done', created_at = '2026-06-01 10:15Z';
UPDATE integration_connections SET sync_schedule = 'manual';
SELECT due_at('2026-06-01 12:00Z') AS by_hand_only;
UPDATE integration_connections SET settings = settings || '{"read_every": "1 hour"}';
SELECT due_at('2026-06-01 12:00Z') AS asked_for;
UPDATE integration_runs SET status = 'done', created_at = '2026-06-01 12:00Z';
UPDATE integration_connections SET settings = settings || '{"blackout": "00:00-24:00"}';
SELECT due_at('2026-06-01 15:00Z') AS not_in_a_blackout;
UPDATE integration_connections SET sync_schedule = 'daily', settings = '{"read_every": ""}';
SELECT due_at('2026-06-01 15:00Z') AS off;

\c :main
DROP DATABASE regress_itsm_schedule;
