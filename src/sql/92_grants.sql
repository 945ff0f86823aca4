-- Who may call what: itsm_grant() gives a role a level, and exactly what that takes.
--
-- Three levels, each holds the one before it.  viewer reads; operator runs; admin connects, maps and keeps the secrets.
-- What is about all namespaces at once is the extension's owner's.  Nobody gets a right to change a table.

CREATE FUNCTION pgsync_itsm.api_levels() RETURNS TABLE (name text, level text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT u.name, v.level
      FROM (VALUES
        ('viewer', '{itsm_plan,itsm_explain,itsm_wait,itsm_readiness,itsm_readiness_detail,itsm_graph,itsm_outcomes,itsm_drift}'::text[]),
        ('operator', '{itsm_publish,itsm_preview,itsm_apply,itsm_cancel,itsm_retry,itsm_requeue,itsm_rollback,
                       itsm_match,itsm_subscribe,itsm_resolve_conflict,itsm_resolve_conflicts,itsm_accept_match,itsm_accept_matches,itsm_reject_match}'),
        ('admin', '{itsm_connect_servicenow,itsm_connect_halo,itsm_halo_setup,itsm_disconnect,itsm_activate,itsm_adopt,itsm_test_connection,itsm_prepare_instance,
                    itsm_set,itsm_schedule,itsm_set_source,itsm_set_writer,itsm_set_intake,itsm_set_filter,itsm_set_mapping,itsm_drop_mapping,itsm_set_scope,itsm_update_set,itsm_checklist}'),
        ('owner', '{itsm_attach_getinsync,itsm_detach_getinsync,itsm_watch,itsm_unwatch,itsm_secure,itsm_secure_getinsync,itsm_grant,
                    itsm_forget_namespace}')
      ) AS v(level, names), unnest(v.names) AS u(name);
END;
COMMENT ON FUNCTION pgsync_itsm.api_levels() IS 'Every function of the API and the level that calls it; owner: of the extension';

-- What these functions call in turn with the caller's rights.  A function that is missing here, or superfluous, fails the
-- regression test "tenants", which says what to write.
CREATE FUNCTION pgsync_itsm.internal_levels() RETURNS TABLE (name text, level text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT u.name, v.level
      FROM (VALUES
        ('viewer', '{adapter_outcomes,attached_schema,check_namespace,check_one_of,check_sees_namespace,choice_value,class_for,content_hash,
                      drift_fields,drift_foreign,drift_missing,drift_ours,drift_reads,drift_rows,drift_values,
                      entity_id,error_hints,explain_json,explain_part,explain_seconds,explain_steps,explain_text,getinsync_columns,
                      getinsync_query,getinsync_table,getinsync_templates,graph_connections,graph_counts,graph_dot,graph_dot_text,
                      graph_ends,graph_id,graph_keys,graph_kinds,graph_label,graph_left_out,graph_merge,graph_mermaid,
                      graph_mermaid_text,graph_model,graph_parts,graph_relation,graph_short,graph_sources,graph_states,graph_svg,
                      graph_svg_path,graph_text,graph_title,graph_types,graph_xml_text,has_columns,halo_class,is_adopted,is_halo,is_listed,is_relationship,
                      known_settings,link_ends,list_name,mapping_for,merge_fields,mirror_tables,missing_worker,namespace_exists,own_run,
                      plain_value,plan_types,platform_defaults,portfolio_read,preloaded,
                      read_source,readiness_after,readiness_checks,readiness_connections,readiness_facts,readiness_has,
                      readiness_mirrored,readiness_notes,readiness_percent,readiness_reads_as_owner,readiness_run,
                      readiness_service_classes,readiness_sources,readiness_there,relation_type,seen_connection,sees_namespace,
                      setting,source_exists,source_filter,source_row,source_setting,source_settings,visible_namespaces,wait_poll,wait_report,
                      went_through}'::text[]),
        ('operator', '{accept_match,accept_matches,check_entitled,check_platform_setting,check_rollback,mapped_fields,new_runs,queue_rollback,queue_run,reject_match,
                      release_run,requeue_items,resolve_conflict,resolve_conflicts,seen_conflict,rollback_changed,rollback_created,rollback_deleted,rollback_effects,rollback_method,rollback_ord,
                      rollback_removed,rollback_retired,rollback_rows,rollback_unknown,same_value,say_if_no_worker,seen_match,stop_run}'),
        ('admin', '{add_connection,adopt_instance,change_schedule,change_setting,check_composed,check_halo_setting,check_entity_type,check_expression,
                      check_file_right,check_mapping,check_may_change,check_may_secure,check_package,check_query,check_read_setting,
                      check_schedule_setting,check_setting,check_source_sql,check_source_text,check_url,check_value_map,
                      checklist_items,checklist_known,clean_address,clean_key_type,clean_server,connection_info,day_list,effective_settings,
                      halo_resource_server,halo_token_address,halo_wanted,is_id_list,is_interval,is_time_list,
                      keep_ids,keep_instance_name,look_up,own_connection,package_attributes,
                      package_choice,package_choice_payload,package_columns,package_element,package_gateway,package_id,
                      package_identifiers,package_record,package_rest,package_rules,package_servicenow,package_set,package_source,
                      package_stamps,package_text,package_update,parse_blackout,remove_connection,remove_mapping,secret_ref,
                      set_active,source_columns,source_row_counts,store_mapping,store_secret,store_source,store_writer,store_intake,
                      with_settings}')
      ) AS v(level, names), unnest(v.names) AS u(name);
END;
COMMENT ON FUNCTION pgsync_itsm.internal_levels() IS 'Internal functions that a level has to be allowed to call';

CREATE FUNCTION pgsync_itsm.level_rank(level text) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
RETURN array_position(ARRAY['none', 'viewer', 'operator', 'admin'], level) - 1;
COMMENT ON FUNCTION pgsync_itsm.level_rank(text) IS 'Levels in their order, 0: none; NULL: no such level, or the owner''s';

CREATE FUNCTION pgsync_itsm.level_privileges(level text) RETURNS TABLE (kind text, object text, privilege text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH members AS (
        SELECT d.classid, d.objid FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'pgsync_itsm'
         WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e')
    SELECT 'SCHEMA', format('%I', n.nspname), 'USAGE'
      FROM pg_namespace AS n
     WHERE pgsync_itsm.level_rank(level) > 0
       AND (n.nspname = 'pgsync_itsm' OR n.oid = (SELECT e.extnamespace FROM pg_extension AS e WHERE e.extname = 'pgsync_itsm'))
     UNION ALL
    SELECT 'TABLE', format('%I.%I', n.nspname, c.relname), 'SELECT'
      FROM members AS m JOIN pg_class AS c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE pgsync_itsm.level_rank(level) > 0 AND c.relname LIKE 'integration\_%' AND c.relkind IN ('r', 'v') AND n.nspname <> 'pgsync_itsm'
     UNION ALL
    SELECT 'ROUTINE', p.oid::regprocedure::text, 'EXECUTE'
      FROM members AS m JOIN pg_proc AS p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid JOIN pg_namespace AS n ON n.oid = p.pronamespace
      JOIN (SELECT a.name, a.level, false AS internal FROM pgsync_itsm.api_levels() AS a
            UNION ALL SELECT i.name, i.level, true FROM pgsync_itsm.internal_levels() AS i) AS l
        ON l.name = p.proname AND l.internal = (n.nspname = 'pgsync_itsm')
     WHERE pgsync_itsm.level_rank(l.level) <= pgsync_itsm.level_rank(level_privileges.level);
END;
COMMENT ON FUNCTION pgsync_itsm.level_privileges(text) IS 'What itsm_grant() gives for a level';

CREATE FUNCTION pgsync_itsm.check_grantee(role name) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF role IS NULL THEN
        RAISE EXCEPTION 'role must not be null' USING ERRCODE = 'null_value_not_allowed';
    ELSIF lower(role) = 'public' THEN
        RAISE EXCEPTION 'nothing is granted to PUBLIC'
            USING ERRCODE = 'invalid_grant_operation', DETAIL = 'Every role of every database user would be a member.',
                  HINT = 'CREATE ROLE itsm_viewer NOLOGIN; SELECT itsm_grant(''itsm_viewer'', ''viewer''); GRANT itsm_viewer TO ...;';
    ELSIF NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = role) THEN
        RAISE EXCEPTION 'role "%" does not exist', role
            USING ERRCODE = 'undefined_object', HINT = format('CREATE ROLE %I NOLOGIN;', role);
    ELSIF role ~ '^pg_' THEN
        RAISE EXCEPTION 'role "%" is PostgreSQL''s own', role
            USING ERRCODE = 'invalid_grant_operation', HINT = 'pg_monitor sees the itsm_stat_* views; for more, give a role of yours.';
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.check_grantee(name) IS 'Raises a clear error for a role that gets no level';

CREATE FUNCTION pgsync_itsm.revoke_levels(role name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    m record;
BEGIN
    FOR m IN SELECT DISTINCT o.kind, o.object
               FROM pg_depend AS d
               JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'pgsync_itsm'
              CROSS JOIN LATERAL (
                    SELECT 'TABLE' AS kind, c.oid::regclass::text AS object, c.relacl AS acl FROM pg_class AS c
                     WHERE d.classid = 'pg_class'::regclass AND c.oid = d.objid AND c.relkind IN ('r', 'v')
                    UNION ALL
                    SELECT 'ROUTINE', p.oid::regprocedure::text, p.proacl FROM pg_proc AS p WHERE d.classid = 'pg_proc'::regclass AND p.oid = d.objid
                    UNION ALL
                    SELECT 'SCHEMA', format('%I', n.nspname), n.nspacl FROM pg_namespace AS n WHERE d.classid = 'pg_namespace'::regclass AND n.oid = d.objid) AS o
              CROSS JOIN LATERAL aclexplode(o.acl) AS a
              WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND a.grantee = (SELECT r.oid FROM pg_roles AS r WHERE r.rolname = role)
              ORDER BY 1, 2 LOOP
        EXECUTE format('REVOKE ALL ON %s %s FROM %I', m.kind, m.object, role);
    END LOOP;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.revoke_levels(name) IS 'Takes back whatever a role has been granted on members of the extension';

-- A function that takes a text where ours takes a uuid would be preferred for a literal.
CREATE FUNCTION pgsync_itsm.warn_of_creators() RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    g record;
BEGIN
    FOR g IN SELECT n.nspname, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS grantee
               FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace CROSS JOIN LATERAL aclexplode(n.nspacl) AS a
              WHERE e.extname = 'pgsync_itsm' AND a.privilege_type = 'CREATE' AND a.grantee NOT IN (n.nspowner, e.extowner) ORDER BY 2 LOOP
        RAISE WARNING '% may create functions in schema "%" that are taken for the extension''s', g.grantee, g.nspname
            USING HINT = format('REVOKE CREATE ON SCHEMA %I FROM %s;', g.nspname, g.grantee);
    END LOOP;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.warn_of_creators() IS 'Warns of roles that may create something in the schema of the extension';

CREATE FUNCTION @extschema@.itsm_grant(role name, level text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    g record;
    r pg_roles;
BEGIN
    PERFORM pgsync_itsm.check_may_secure();
    PERFORM pgsync_itsm.check_one_of('level', level, ARRAY['none', 'viewer', 'operator', 'admin']);
    PERFORM pgsync_itsm.check_grantee(role);
    SELECT * INTO r FROM pg_roles AS x WHERE x.rolname = role;
    PERFORM pgsync_itsm.revoke_levels(role);
    FOR g IN SELECT p.kind, p.privilege, string_agg(p.object, ', ' ORDER BY p.object) AS objects
               FROM pgsync_itsm.level_privileges(level) AS p GROUP BY p.kind, p.privilege ORDER BY p.kind LOOP
        EXECUTE format('GRANT %s ON %s %s TO %I', g.privilege, g.kind, g.objects, role);
    END LOOP;
    IF level = 'none' THEN
        RAISE NOTICE 'role "%" may do nothing any more, unless it is a member of one that may', role;
        RETURN;
    END IF;
    PERFORM pgsync_itsm.warn_of_creators();
    IF r.rolsuper OR r.rolbypassrls THEN
        RAISE WARNING 'role "%" sees every namespace: row-level security does not hold for it', role;
    ELSIF pgsync_itsm.site_condition() IS NULL THEN
        RAISE NOTICE 'role "%" sees no row yet; next: SELECT itsm_secure_getinsync(); or SELECT itsm_secure(''...'');', role;
    END IF;
    IF level = 'admin' THEN
        RAISE NOTICE 'role "%" can store SQL that runs with the rights of role "%"; do not give this level to a role that tenants share', role, role;
    END IF;
END
$$;
COMMENT ON FUNCTION @extschema@.itsm_grant(name, text) IS
'Gives a role a level in place of the one that it had: viewer (reads), operator (runs as well), admin (connects, maps, keeps secrets as well), none. Which namespaces, itsm_secure() decides. After an update of the extension, call it again';
