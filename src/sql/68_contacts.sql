-- Users, contacts, groups, teams: who is whom, and what becomes of a role here that somebody was given there.
--
-- Users are matched to contacts by e-mail, groups to teams by exact name.  A contact is made here only if a role of ours refers
-- to its user there; a team never is.

-- What a field of kind user or group, read there, is here.
CREATE UNLOGGED TABLE pgsync_itsm.intake_refs (
    run_id      bigint NOT NULL,
    kind        text NOT NULL,
    external_id text NOT NULL,
    key         text,
    made        boolean NOT NULL DEFAULT false,
    reason      text,
    PRIMARY KEY (run_id, kind, external_id)
);
COMMENT ON TABLE pgsync_itsm.intake_refs IS 'Work space: users and groups that changed fields refer to, and the contact or team here; made: it has to be made first';

-- Roles -------------------------------------------------------------------------------------------------

-- A field whose value is a row elsewhere: {"role": table, "record": column of our key, "holder": column of the contact's,
-- "primary": column that says who it is, "set": {column: value}}.
CREATE FUNCTION pgsync_itsm.writer_roles(columns jsonb) RETURNS TABLE (field text, role jsonb)
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT c.key, c.value FROM jsonb_each(columns) AS c WHERE jsonb_typeof(c.value) = 'object' AND c.value ? 'role';
END;
COMMENT ON FUNCTION pgsync_itsm.writer_roles(jsonb) IS 'Fields of a writer that are written as rows of a table of roles';

CREATE FUNCTION pgsync_itsm.check_role(field text, role jsonb) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    col text;
BEGIN
    IF NOT role ?& ARRAY['record', 'holder', 'primary'] OR jsonb_typeof(coalesce(role -> 'set', '{}')) <> 'object' THEN
        RAISE EXCEPTION 'the role for % must name record, holder and primary', field USING ERRCODE = 'invalid_parameter_value',
            HINT = 'As in {"role": "public.application_contacts", "record": "application_id", "holder": "contact_id", "primary": "is_primary", "set": {"role_type": "business_owner"}}.';
    ELSIF to_regclass(role ->> 'role') IS NULL THEN
        RAISE EXCEPTION 'the role for %: there is no table or view %', field, role ->> 'role' USING ERRCODE = 'undefined_table', HINT = 'Name it with its schema.';
    END IF;
    FOR col IN SELECT role ->> c FROM unnest(ARRAY['record', 'holder', 'primary']) AS c UNION ALL SELECT jsonb_object_keys(coalesce(role -> 'set', '{}')) LOOP
        IF pgsync_itsm.column_type(role ->> 'role', col) IS NULL THEN
            RAISE EXCEPTION 'the role for %: % has no column "%"', field, role ->> 'role', col USING ERRCODE = 'undefined_column';
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.check_role(text, jsonb) IS 'Raises a clear error for a role that could not be written';

-- $1: the record's key (asked: a list), $2: {"holder": key}.  The former one keeps its row and is not the primary one any more.
CREATE FUNCTION pgsync_itsm.compose_role(role jsonb, what text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    rel CONSTANT text := to_regclass(role ->> 'role')::text;
    record_type CONSTANT text := pgsync_itsm.column_type(role ->> 'role', role ->> 'record');
    holder_type CONSTANT text := pgsync_itsm.column_type(role ->> 'role', role ->> 'holder');
    fixed CONSTANT text := coalesce((SELECT string_agg(format(' AND t.%I = %L::%s', e.key, e.value, pgsync_itsm.column_type(role ->> 'role', e.key)), '' ORDER BY e.key)
                                       FROM jsonb_each_text(role -> 'set') AS e), '');
BEGIN
    IF role IS NULL THEN
        RETURN NULL;
    ELSIF rel IS NULL OR record_type IS NULL OR holder_type IS NULL THEN
        RAISE EXCEPTION 'the table of roles % or a column of it is not there', role ->> 'role' USING ERRCODE = 'undefined_table', HINT = 'SELECT itsm_set_writer(...); tells where it is now.';
    END IF;
    CASE what
        WHEN 'role look' THEN
            RETURN format('SELECT t.%1$I::text, string_agg(t.%2$I::text, '','' ORDER BY t.%2$I::text), NULL::json FROM %3$s AS t WHERE t.%1$I = ANY ($1::%4$s[]) AND t.%5$I%6$s GROUP BY 1',
                role ->> 'record', role ->> 'holder', rel, record_type, role ->> 'primary', fixed);
        WHEN 'role free' THEN
            RETURN format('WITH freed AS (UPDATE %s AS t SET %I = false WHERE t.%I = $1::%s AND t.%I AND t.%I <> ($2::json ->> ''holder'')::%s%s RETURNING 1) SELECT count(*)::text FROM freed',
                rel, role ->> 'primary', role ->> 'record', record_type, role ->> 'primary', role ->> 'holder', holder_type, fixed);
        WHEN 'role set' THEN
            RETURN format('WITH raised AS (UPDATE %s AS t SET %I = true WHERE t.%I = $1::%s AND t.%I = ($2::json ->> ''holder'')::%s%s RETURNING 1) SELECT count(*)::text FROM raised',
                rel, role ->> 'primary', role ->> 'record', record_type, role ->> 'holder', holder_type, fixed);
        WHEN 'role add' THEN
            RETURN format('INSERT INTO %s AS t (%I, %I, %I%s) VALUES ($1::%s, ($2::json ->> ''holder'')::%s, true%s) RETURNING t.%I::text',
                rel, role ->> 'record', role ->> 'holder', role ->> 'primary', (SELECT string_agg(format(', %I', e.key), '' ORDER BY e.key) FROM jsonb_each_text(role -> 'set') AS e),
                record_type, holder_type,
                (SELECT string_agg(format(', %L::%s', e.value, pgsync_itsm.column_type(role ->> 'role', e.key)), '' ORDER BY e.key) FROM jsonb_each_text(role -> 'set') AS e), role ->> 'holder');
    END CASE;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.compose_role(jsonb, text) IS 'The statements of a role: look (who is the primary one), free (nobody else is), set (who has it already is), add';

-- Noted with what the columns hold, for the same purpose.
CREATE FUNCTION pgsync_itsm.roles_look(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    WITH roles AS MATERIALIZED (
        SELECT t.entity_type, t.keys, r.field
          FROM (SELECT k.entity_type, array_agg(k.key) AS keys FROM pgsync_itsm.run_keys AS k WHERE k.run_id = run.id AND k.match_by = 'key' GROUP BY k.entity_type) AS t
         CROSS JOIN LATERAL pgsync_itsm.writer_roles((pgsync_itsm.writer_of(run.connection_id, t.entity_type)).columns) AS r
    ), holders AS MATERIALIZED (
        SELECT r.entity_type, r.field, h.key, h.name FROM roles AS r
         CROSS JOIN LATERAL pgsync_itsm.intake_read(run.connection_id, r.entity_type, 'role look', r.keys, '{}', ARRAY[r.field]) AS h
    )
    INSERT INTO pgsync_itsm.merge_before AS b (run_id, entity_type, key, columns)
    SELECT run.id, r.entity_type, k.key, jsonb_object_agg(r.field, coalesce(h.name, ''))::json
      FROM roles AS r CROSS JOIN LATERAL unnest(r.keys) AS k(key)
      LEFT JOIN holders AS h ON h.entity_type = r.entity_type AND h.field = r.field AND h.key = k.key
     GROUP BY r.entity_type, k.key
    ON CONFLICT (run_id, entity_type, key) DO UPDATE SET columns = (coalesce(b.columns, '{}')::jsonb || excluded.columns::jsonb)::json;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.roles_look(@extschema@.integration_runs) IS 'Notes who has the roles that may be written';

CREATE FUNCTION pgsync_itsm.write_role(connection_id uuid, entity_type text, key text, field text, holder text, before text) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    w record;
    what text;
BEGIN
    IF before IS NOT NULL AND before <> coalesce((SELECT h.name FROM pgsync_itsm.intake_read(connection_id, entity_type, 'role look', ARRAY[key], '{}', ARRAY[field]) AS h), '') THEN
        RETURN 'it was changed here meanwhile';
    END IF;
    FOREACH what IN ARRAY ARRAY['role free', 'role set', 'role add'] LOOP
        SELECT * INTO w FROM pgsync_itsm.intake_write(connection_id, entity_type, what, ARRAY[field], ARRAY[key], ARRAY[json_build_object('holder', holder)::text], ARRAY['{}']);
        IF w.reason IS NOT NULL THEN
            RETURN w.reason;
        END IF;
        EXIT WHEN what = 'role set' AND w.key <> '0';
    END LOOP;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.write_role(uuid, text, text, text, text, text) IS
'Makes a contact the primary holder of a role of a record, unless another is that than before (NULL: whoever is); NULL if that was written, else why not';

-- All of a record's fields are written, or none is.
CREATE FUNCTION pgsync_itsm.try_write_record(run @extschema@.integration_runs, item @extschema@.integration_run_items, fields text[], locals text[], before text[], OUT ok boolean, OUT reason text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    roles text[] := ARRAY(SELECT r.field FROM pgsync_itsm.writer_roles((pgsync_itsm.writer_of(run.connection_id, item.entity_type)).columns) AS r WHERE r.field = ANY (fields));
    key CONSTANT text := substr(item.native_key, length(item.entity_type) + 2);
    f record;
BEGIN
    IF roles = '{}' THEN
        SELECT t.ok, t.reason INTO ok, reason FROM pgsync_itsm.try_write(run.connection_id, item.entity_type, key, fields, locals, before) AS t;
        RETURN;
    END IF;
    IF NOT fields <@ roles THEN
        SELECT w.reason INTO reason FROM (SELECT array_agg(u.field ORDER BY u.n) AS fields, array_agg(u.value ORDER BY u.n) AS locals,
                                                 CASE WHEN before IS NOT NULL THEN array_agg(u.held ORDER BY u.n) END AS before
                                            FROM unnest(fields, locals, before) WITH ORDINALITY AS u(field, value, held, n) WHERE u.field <> ALL (roles)) AS p
         CROSS JOIN LATERAL pgsync_itsm.try_write(run.connection_id, item.entity_type, key, p.fields, p.locals, p.before) AS w;
    END IF;
    FOR f IN SELECT u.field, u.value, u.held FROM unnest(fields, locals, before) WITH ORDINALITY AS u(field, value, held, n) WHERE u.field = ANY (roles) ORDER BY u.n LOOP
        EXIT WHEN reason IS NOT NULL;
        -- made in this run
        f.value := coalesce(f.value, (SELECT m.key FROM @extschema@.integration_intake_map AS m
                                       WHERE m.connection_id = run.connection_id AND m.external_id = item.payload ->> f.field AND m.kind = 'contact' AND m.state = 'linked'));
        reason := CASE WHEN f.value IS NULL THEN format('%s: its contact could not be made here', f.field)
                       ELSE pgsync_itsm.write_role(run.connection_id, item.entity_type, key, f.field, f.value, f.held) END;
    END LOOP;
    IF reason IS NOT NULL THEN
        RAISE EXCEPTION '%', reason USING ERRCODE = 'IT001';
    END IF;
    ok := true;
EXCEPTION WHEN query_canceled THEN
    RAISE;
WHEN others THEN
    ok := false;
    reason := left(CASE SQLSTATE WHEN 'IT001' THEN SQLERRM ELSE format('%s (%s)', SQLERRM, SQLSTATE) END, 500);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.try_write_record(@extschema@.integration_runs, @extschema@.integration_run_items, text[], text[], text[]) IS
'Writes the columns and roles of a record, as one: what is against it is a reason';

-- Who is whom ---------------------------------------------------------------------------------------------

CREATE FUNCTION pgsync_itsm.refs_wanted(run @extschema@.integration_runs) RETURNS TABLE (kind text, external_id text, what text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT CASE v.kind WHEN 'user' THEN 'contact' ELSE 'group' END, v.external_id, min(format('%s of %s', v.field, v.label))
      FROM (SELECT f.kind, b.body ->> f.field AS external_id, f.field, m.published_name AS label
              FROM @extschema@.integration_inbox AS b
              JOIN @extschema@.integration_sync_map AS m ON m.connection_id = b.connection_id AND m.external_id = b.external_id AND m.parent_id IS NULL AND m.state = 'linked'
             CROSS JOIN LATERAL pgsync_itsm.merge_fields(b.connection_id, m.entity_type, m.external_table) AS f
             WHERE b.connection_id = (refs_wanted.run).connection_id AND b.state = 'new' AND b.body IS NOT NULL AND f.kind IN ('user', 'group')
               AND b.body ->> f.field <> '' AND b.body ->> f.field IS DISTINCT FROM b.before ->> f.field AND pgsync_itsm.is_written(b.connection_id, m.entity_type, f.field)
            UNION ALL
            SELECT f.kind, i.payload ->> f.field, f.field, i.label
              FROM @extschema@.integration_run_items AS i
             CROSS JOIN LATERAL pgsync_itsm.merge_fields(i.connection_id, i.entity_type, i.external_table) AS f
             WHERE i.run_id = (refs_wanted.run).id AND i.state = 'planned' AND i.step = 'in' AND f.kind IN ('user', 'group') AND i.payload ->> f.field <> '') AS v
     GROUP BY 1, 2;
END;
COMMENT ON FUNCTION pgsync_itsm.refs_wanted(@extschema@.integration_runs) IS 'Users and groups there that a run has to know here, and for what';

-- Two of one e-mail, there or here, are nobody.
CREATE FUNCTION pgsync_itsm.ref_reason(kind text, seen boolean, by text, active boolean, there bigint, here bigint, blocked boolean) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN NOT seen THEN format('the %s there has not been read: see the setting read_tables', CASE kind WHEN 'contact' THEN 'user' ELSE kind END)
    WHEN kind = 'contact' AND by = '' THEN 'the user there has no e-mail'
    WHEN kind = 'contact' AND there > 1 THEN format('%s users there have the e-mail %s', there, by)
    WHEN here > 1 THEN format('%s %s here have the %s %s', here, CASE kind WHEN 'contact' THEN 'contacts' ELSE 'teams' END, CASE kind WHEN 'contact' THEN 'e-mail' ELSE 'name' END, by)
    WHEN blocked THEN format('the %s here is not active: %s', CASE kind WHEN 'contact' THEN 'contact' ELSE 'team' END, by)
    WHEN here = 0 AND kind = 'group' THEN format('no team here is called "%s"', by)
    WHEN here = 0 AND NOT active THEN format('the user there is not active, and no contact here has the e-mail %s', by) END;
COMMENT ON FUNCTION pgsync_itsm.ref_reason(text, boolean, text, boolean, bigint, bigint, boolean) IS 'Why a user or group there is nobody here; NULL: it is somebody, or can be made';

CREATE FUNCTION pgsync_itsm.refs_find(run @extschema@.integration_runs, ref_kind text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    def @extschema@.integration_intakes := pgsync_itsm.intake_of(run.connection_id, ref_kind);
    col text := (SELECT c.col FROM pgsync_itsm.intake_kinds() AS k JOIN LATERAL pgsync_itsm.writer_columns(def.columns) AS c ON c.field = k.match_field WHERE k.kind = ref_kind);
BEGIN
    IF def.id IS NULL THEN
        INSERT INTO pgsync_itsm.intake_refs (run_id, kind, external_id, reason)
        SELECT run.id, ref_kind, w.external_id, format('no table of %ss here is known: itsm_set_intake()', ref_kind) FROM pgsync_itsm.refs_wanted(run) AS w WHERE w.kind = ref_kind;
        RETURN;
    END IF;
    WITH wanted AS MATERIALIZED (
        SELECT w.external_id, w.what, x.external_id IS NOT NULL AS seen, coalesce(x.attrs ->> 'active', 'true') <> 'false' AS active, x.attrs, x.name, x.external_table,
               btrim(coalesce(CASE ref_kind WHEN 'contact' THEN x.attrs ->> 'email' ELSE x.name END, '')) AS by,
               coalesce((SELECT substr(m.native_key, length('contact/') + 1) FROM @extschema@.integration_sync_map AS m
                          WHERE m.external_id = w.external_id AND m.connection_id = run.connection_id AND m.parent_id IS NULL AND m.entity_type = 'contact' AND m.state = 'linked' AND ref_kind = 'contact'
                          ORDER BY m.created_at LIMIT 1),
                        (SELECT m.key FROM @extschema@.integration_intake_map AS m
                          WHERE m.connection_id = run.connection_id AND m.external_id = w.external_id AND m.kind = ref_kind AND m.state = 'linked')) AS known
          FROM pgsync_itsm.refs_wanted(run) AS w
          LEFT JOIN @extschema@.integration_external_records AS x ON x.connection_id = run.connection_id AND x.external_id = w.external_id
         WHERE w.kind = ref_kind
    ), rows AS MATERIALIZED (
        SELECT r.key, r.name, r.columns ->> col AS exactly, coalesce(r.columns ->> (def.gone ->> 'column') = def.gone ->> 'value', false) AS blocked
          FROM pgsync_itsm.intake_read(run.connection_id, ref_kind, 'rows', ARRAY(SELECT lower(w.by) FROM wanted AS w WHERE w.by <> ''), ARRAY(SELECT w.known FROM wanted AS w WHERE w.known IS NOT NULL)) AS r
    ), found AS MATERIALIZED (
        SELECT w.*, k.key IS NOT NULL AS is_known, coalesce(k.key, h.key) AS key, CASE WHEN k.key IS NOT NULL THEN 1 ELSE h.n END AS here, coalesce(k.blocked, h.blocked, false) AS blocked,
               CASE WHEN k.key IS NOT NULL OR ref_kind <> 'contact' THEN 1 ELSE (SELECT count(*) FROM @extschema@.integration_external_records AS o
                  WHERE o.connection_id = run.connection_id AND o.external_table = 'sys_user' AND lower(btrim(o.attrs ->> 'email')) = lower(w.by)
                    AND (coalesce(o.attrs ->> 'active', 'true') <> 'false' OR o.external_id = w.external_id)) END AS there
          FROM wanted AS w
          LEFT JOIN rows AS k ON k.key = w.known
         CROSS JOIN LATERAL (SELECT count(*) AS n, min(r.key) AS key, bool_and(r.blocked) AS blocked FROM rows AS r
                              WHERE r.name = lower(w.by) AND (ref_kind = 'contact' OR r.exactly = w.by)) AS h
    ), kept AS (
        INSERT INTO pgsync_itsm.intake_refs (run_id, kind, external_id, key, made, reason)
        SELECT run.id, ref_kind, f.external_id, CASE WHEN r.reason IS NULL THEN f.key END, r.reason IS NULL AND f.key IS NULL, r.reason
          FROM found AS f CROSS JOIN LATERAL (SELECT pgsync_itsm.ref_reason(ref_kind, f.seen, f.by, f.active, f.there, f.here, f.blocked) AS reason) AS r
        RETURNING external_id, made
    )
    INSERT INTO pgsync_itsm.intake_there AS t (run_id, external_id, kind, external_table, label, attrs, hash, name_key, action, reason)
    SELECT run.id, f.external_id, 'contact', f.external_table, left(coalesce(nullif(f.name, ''), f.by), 300), f.attrs, pgsync_itsm.intake_hash(f.attrs), lower(f.by), 'CREATE', format('named there as %s', left(f.what, 200))
      FROM found AS f JOIN kept AS k ON k.external_id = f.external_id WHERE k.made
    ON CONFLICT (run_id, external_id) DO UPDATE SET action = 'CREATE', key = NULL, reason = excluded.reason, attrs = excluded.attrs;
    PERFORM pgsync_itsm.intake_values(run, 'contact', ARRAY(SELECT t.external_id FROM pgsync_itsm.intake_there AS t WHERE t.run_id = run.id AND t.kind = 'contact' AND t.action = 'CREATE'));
EXCEPTION WHEN query_canceled THEN
    RAISE;
WHEN others THEN
    INSERT INTO pgsync_itsm.intake_refs (run_id, kind, external_id, reason)
    SELECT run.id, ref_kind, w.external_id, left(format('%s (%s)', SQLERRM, SQLSTATE), 300) FROM pgsync_itsm.refs_wanted(run) AS w WHERE w.kind = ref_kind;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.refs_find(@extschema@.integration_runs, text) IS 'Finds the contacts of users, or the teams of groups, that changed fields refer to; a table that cannot be read is a reason';

CREATE FUNCTION pgsync_itsm.refs_look(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM pgsync_itsm.intake_refs AS r WHERE r.run_id = run.id;
    PERFORM pgsync_itsm.refs_find(run, w.kind) FROM (SELECT DISTINCT x.kind FROM pgsync_itsm.refs_wanted(run) AS x) AS w;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.refs_look(@extschema@.integration_runs) IS 'Looks who here the users and groups are that changed fields refer to';

CREATE FUNCTION pgsync_itsm.merge_local(run_id bigint, connection_id uuid, entity_type text, class text, field text, kind text, value_map jsonb, theirs text, OUT value text, OUT known boolean, OUT reason text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF kind NOT IN ('user', 'group') OR theirs = '' AND NOT EXISTS (SELECT FROM pgsync_itsm.writer_roles((pgsync_itsm.writer_of(connection_id, entity_type)).columns) AS r WHERE r.field = merge_local.field) THEN
        SELECT l.value, l.known INTO value, known FROM pgsync_itsm.local_value(connection_id, class, field, kind, value_map, theirs) AS l;
    ELSIF theirs = '' THEN
        known := false;
        reason := 'nobody is named there any more: who is here stays';
    ELSE
        SELECT r.key, r.reason IS NULL AND (r.key IS NOT NULL OR r.made), r.reason INTO value, known, reason
          FROM pgsync_itsm.intake_refs AS r WHERE r.run_id = merge_local.run_id AND r.kind = CASE merge_local.kind WHEN 'user' THEN 'contact' ELSE 'group' END AND r.external_id = theirs;
        known := coalesce(known, false);
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.merge_local(bigint, uuid, text, text, text, text, jsonb, text) IS 'local_value(), and of users and groups their contact or team; known without a value: it is made first';

-- Matching ------------------------------------------------------------------------------------------------

-- Users that no contact is known of yet, and that one has the e-mail of.
CREATE FUNCTION pgsync_itsm.contact_candidates(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET jit = off
AS $$
DECLARE
    def @extschema@.integration_intakes := pgsync_itsm.intake_of(run.connection_id, 'contact');
BEGIN
    IF def.id IS NULL OR 'contact' <> ALL (pgsync_itsm.wanted_types(run.connection_id)) THEN
        RETURN;
    END IF;
    INSERT INTO pgsync_itsm.intake_here (run_id, relation, key, name_key, columns)
    SELECT run.id, def.relation, r.key, r.name, r.columns
      FROM pgsync_itsm.intake_read(run.connection_id, 'contact', 'rows', ARRAY(
               SELECT DISTINCT lower(btrim(u.attrs ->> 'email')) FROM @extschema@.integration_external_records AS u
                WHERE u.connection_id = run.connection_id AND u.target = 'sys_user' AND btrim(u.attrs ->> 'email') <> '')) AS r
    ON CONFLICT DO NOTHING;
    WITH users AS MATERIALIZED (
        SELECT u.*, lower(btrim(u.attrs ->> 'email')) AS email, count(*) OVER (PARTITION BY lower(btrim(u.attrs ->> 'email'))) AS there
          FROM @extschema@.integration_external_records AS u
         WHERE u.connection_id = run.connection_id AND u.target = 'sys_user' AND btrim(u.attrs ->> 'email') <> '' AND coalesce(u.attrs ->> 'active', 'true') <> 'false'
    ), contacts AS MATERIALIZED (
        SELECT h.name_key, count(*) AS n, min(h.key) AS key FROM pgsync_itsm.intake_here AS h WHERE h.run_id = run.id AND h.relation = def.relation GROUP BY 1
    ), known AS MATERIALIZED (
        SELECT m.external_id, m.entity_id FROM @extschema@.integration_sync_map AS m WHERE m.connection_id = run.connection_id AND m.entity_type = 'contact'
    )
    INSERT INTO pgsync_itsm.intake_there (run_id, external_id, kind, external_table, label, attrs, hash, name_key, key, state, note, action, reason)
    SELECT run.id, u.external_id, 'contact', u.external_table, left(coalesce(nullif(u.name, ''), u.email), 300), u.attrs, pgsync_itsm.intake_hash(u.attrs), u.email,
           CASE WHEN v.verdict IS NULL THEN c.key END, m.state, m.note, CASE WHEN v.verdict IS NULL THEN 'MATCH' ELSE 'MISMATCH' END, coalesce(v.verdict, 'a contact here has its e-mail')
      FROM users AS u
      JOIN contacts AS c ON c.name_key = u.email
      LEFT JOIN @extschema@.integration_intake_map AS m ON m.connection_id = run.connection_id AND m.external_id = u.external_id
     CROSS JOIN LATERAL (SELECT CASE WHEN u.there > 1 THEN format('%s users there have the e-mail %s', u.there, u.email)
                                     WHEN c.n > 1 THEN format('%s contacts here have the e-mail %s', c.n, u.email) END AS verdict) AS v
     WHERE NOT EXISTS (SELECT FROM known AS k WHERE k.external_id = u.external_id)
       AND NOT (v.verdict IS NULL AND EXISTS (SELECT FROM known AS k WHERE k.entity_id = pgsync_itsm.entity_id('contact', c.key)));
EXCEPTION WHEN query_canceled THEN
    RAISE;
WHEN others THEN
    -- what cannot be read is reported where it is needed
    NULL;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.contact_candidates(@extschema@.integration_runs) IS 'Puts users that a contact here has the e-mail of into the work space; two of one e-mail are left alone';

-- From here on what is changed of the user there is merged like any other record.
CREATE FUNCTION pgsync_itsm.contacts_map(run @extschema@.integration_runs, ids bigint[]) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    INSERT INTO @extschema@.integration_sync_map
        (connection_id, namespace_id, entity_type, entity_id, native_key, external_id, external_table, external_url, published_name, sync_direction, created_by_us, last_synced_at)
    SELECT i.connection_id, i.namespace_id, 'contact', pgsync_itsm.entity_id('contact', m.key), 'contact/' || m.key, i.external_id, 'sys_user',
           c.instance_url || '/sys_user.do?sys_id=' || i.external_id, i.label, 'subscribed', false, now()
      FROM @extschema@.integration_run_items AS i
      JOIN @extschema@.integration_connections AS c ON c.id = i.connection_id
      JOIN @extschema@.integration_intake_map AS m ON m.connection_id = i.connection_id AND m.external_id = i.external_id
     WHERE i.id = ANY (contacts_map.ids) AND i.entity_type = 'contact' AND i.step = 'in contacts' AND i.state = 'done'
    ON CONFLICT (connection_id, entity_id, entity_type) DO NOTHING;
END;
COMMENT ON FUNCTION pgsync_itsm.contacts_map(@extschema@.integration_runs, bigint[]) IS 'Puts contacts that were matched, or made here, into the map';
