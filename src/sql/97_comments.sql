-- What \d+ says about each table and column.  Functions and views are commented where they are made.

COMMENT ON TABLE @extschema@.integration_connections IS
'One namespace''s links to one instance of one platform: address, references to sealed credentials, direction, schedule, settings; made by itsm_connect_servicenow()';
COMMENT ON COLUMN @extschema@.integration_connections.id IS 'The connection_id of every other table and function';
COMMENT ON COLUMN @extschema@.integration_connections.namespace_id IS 'Namespace whose portfolio is published; row-level security looks at it';
COMMENT ON COLUMN @extschema@.integration_connections.platform IS 'servicenow or haloitsm';
COMMENT ON COLUMN @extschema@.integration_connections.name IS 'Tells several connections of one namespace to one platform apart';
COMMENT ON COLUMN @extschema@.integration_connections.instance_url IS 'Scheme and host of the instance, without a path, as in https://acme.service-now.com';
COMMENT ON COLUMN @extschema@.integration_connections.auth_type IS 'How the platform is told who we are: oauth2, basic, api_key or client_certificate';
COMMENT ON COLUMN @extschema@.integration_connections.oauth_grant IS 'With oauth2: client_credentials, or password (with refresh); otherwise null';
COMMENT ON COLUMN @extschema@.integration_connections.client_id_vault_id IS 'Sealed OAuth client id: a row of pgsync_itsm.integration_secrets or of Supabase Vault, never the value';
COMMENT ON COLUMN @extschema@.integration_connections.client_secret_vault_id IS 'Sealed OAuth client secret, a reference as above';
COMMENT ON COLUMN @extschema@.integration_connections.username_vault_id IS 'Sealed user name of basic or password authentication, a reference as above';
COMMENT ON COLUMN @extschema@.integration_connections.password_vault_id IS 'Sealed password of basic or password authentication, a reference as above';
COMMENT ON COLUMN @extschema@.integration_connections.api_key_vault_id IS 'Sealed API key, a reference as above';
COMMENT ON COLUMN @extschema@.integration_connections.client_cert_file IS 'Path on the database server of the client certificate (PEM)';
COMMENT ON COLUMN @extschema@.integration_connections.client_key_file IS 'Path on the database server of the key of that certificate (PEM)';
COMMENT ON COLUMN @extschema@.integration_connections.sync_direction IS 'publish (we write there), subscribe (we read from there) or both';
COMMENT ON COLUMN @extschema@.integration_connections.sync_schedule IS 'When a run begins without a call: manual (never), daily, or on_change (as changes are committed)';
COMMENT ON COLUMN @extschema@.integration_connections.is_active IS 'False until itsm_activate(); nothing is sent for an inactive connection';
COMMENT ON COLUMN @extschema@.integration_connections.owner IS 'Role with whose rights the sources are read, so that row-level security and privileges hold';
COMMENT ON COLUMN @extschema@.integration_connections.session_settings IS 'Settings that are made before sources are read, for policies that need them: {"request.jwt.claims": "..."}';
COMMENT ON COLUMN @extschema@.integration_connections.settings IS 'Settings of this connection that differ from the default; names and defaults in pgsync_itsm.known_settings()';
COMMENT ON COLUMN @extschema@.integration_connections.instance_name IS 'Name that the instance gave itself when it was tested first; another name behind the same address pauses the connection until itsm_adopt()';
COMMENT ON COLUMN @extschema@.integration_connections.paused_at IS 'Since when nothing is sent although the connection is active; null: not paused. itsm_activate() ends it';
COMMENT ON COLUMN @extschema@.integration_connections.pause_class IS 'Short code of why it is paused, such as HTTP_401';
COMMENT ON COLUMN @extschema@.integration_connections.pause_reason IS 'Why it is paused, in words';
COMMENT ON COLUMN @extschema@.integration_connections.full_plan_for IS 'The value of full_plan_after that the worker has taken note of';
COMMENT ON COLUMN @extschema@.integration_connections.full_plan_from IS 'Snapshot of when the worker did: the full plan starts once every transaction of that time has ended';
COMMENT ON COLUMN @extschema@.integration_connections.full_plan_after IS 'Transactions that were open when the connection was activated or its mapping changed: once all have ended, everything is planned once in full';
COMMENT ON COLUMN @extschema@.integration_connections.scheduled_at IS 'The last time of day of the schedule that has been taken care of';
COMMENT ON COLUMN @extschema@.integration_connections.reconciled_at IS 'The time of day of the last reconciliation';
COMMENT ON COLUMN @extschema@.integration_connections.next_run_at IS 'When the schedule starts the next run; NULL: it does not';
COMMENT ON COLUMN @extschema@.integration_connections.blackout_until IS 'End of the black-out that holds now; NULL or past: none does';
COMMENT ON COLUMN @extschema@.integration_connections.look_at IS 'When the worker looks at the schedule again; NULL: at once';
COMMENT ON COLUMN @extschema@.integration_connections.first_publish_at IS 'When the first approved publish began; until then a publish waits for approval';
COMMENT ON COLUMN @extschema@.integration_connections.last_sync_at IS 'When the last run ended that was not cancelled';
COMMENT ON COLUMN @extschema@.integration_connections.last_error IS 'Last error that concerned the connection as a whole, such as a refused token';
COMMENT ON COLUMN @extschema@.integration_connections.created_at IS 'When the connection was stored';
COMMENT ON COLUMN @extschema@.integration_connections.updated_at IS 'When the row was last changed by a call';

COMMENT ON TABLE @extschema@.integration_sync_map IS
'Which record here is which record there, what was last agreed between the two, and whether we made it; one row per connection and record or relationship';
COMMENT ON COLUMN @extschema@.integration_sync_map.id IS 'Identifies the row; nothing refers to it';
COMMENT ON COLUMN @extschema@.integration_sync_map.connection_id IS 'Connection that the pair belongs to';
COMMENT ON COLUMN @extschema@.integration_sync_map.namespace_id IS 'Namespace of that connection; row-level security looks at it';
COMMENT ON COLUMN @extschema@.integration_sync_map.entity_type IS 'application, deployment_profile, it_service, software_product (model), software_package (CI of the same product), contract, contact, company, or a relationship: consumes, depends_on, runs_on, sends_data_to, covers';
COMMENT ON COLUMN @extschema@.integration_sync_map.entity_id IS 'The record''s key if that is a uuid, else a uuid derived from source and key; of a relationship: derived from its ends and type';
COMMENT ON COLUMN @extschema@.integration_sync_map.native_key IS 'Key that travels with the record as its identity there, as in application/<uuid>';
COMMENT ON COLUMN @extschema@.integration_sync_map.external_id IS 'Key there (sys_id on ServiceNow)';
COMMENT ON COLUMN @extschema@.integration_sync_map.external_table IS 'Class or table there that holds it';
COMMENT ON COLUMN @extschema@.integration_sync_map.external_number IS 'Number that the platform gave it, such as APM0001042, if it has one';
COMMENT ON COLUMN @extschema@.integration_sync_map.external_url IS 'Address that opens the record in a browser';
COMMENT ON COLUMN @extschema@.integration_sync_map.published_name IS 'Name under which it was last sent';
COMMENT ON COLUMN @extschema@.integration_sync_map.parent_id IS 'Of a relationship: entity_id of the parent end; null otherwise';
COMMENT ON COLUMN @extschema@.integration_sync_map.child_id IS 'Of a relationship: entity_id of the child end; null otherwise';
COMMENT ON COLUMN @extschema@.integration_sync_map.rel_type IS 'Of a relationship: name of its type there, as in Depends on::Used by; null otherwise';
COMMENT ON COLUMN @extschema@.integration_sync_map.sync_direction IS 'published: we write it; subscribed: it was there and is read or referred to';
COMMENT ON COLUMN @extschema@.integration_sync_map.created_by_us IS 'True when our write created it there; only such relationships are ever deleted';
COMMENT ON COLUMN @extschema@.integration_sync_map.state IS 'linked (in step); retired (retired there by us); left (deleted here and left there); gone (no longer found there)';
COMMENT ON COLUMN @extschema@.integration_sync_map.deleted_at IS 'When a DELETE of the record here was seen; NULL: not, or it is here again';
COMMENT ON COLUMN @extschema@.integration_sync_map.refreshed_at IS 'When a refresh last took this record up';
COMMENT ON COLUMN @extschema@.integration_sync_map.last_synced_at IS 'When a write or a comparison last confirmed the pair';
COMMENT ON COLUMN @extschema@.integration_sync_map.last_sync_hash IS 'Hash of the mapped values that both sides last agreed on; equal to the planned one: nothing is sent. Null for relationships, whose presence is the comparison';
COMMENT ON COLUMN @extschema@.integration_sync_map.last_sent_hash IS 'Hash of what was last sent; differs from last_sync_hash when the platform did not take all of it';
COMMENT ON COLUMN @extschema@.integration_sync_map.last_agreed IS 'Values that both sides last agreed on, field by field: the base of three-way comparisons';
COMMENT ON COLUMN @extschema@.integration_sync_map.not_taken IS 'Fields that were sent and not taken (masked, dropped, refused), with what was sent; null: all was taken';
COMMENT ON COLUMN @extschema@.integration_sync_map.source_hash IS 'Hash of the source row that last_sent_hash was made from';
COMMENT ON COLUMN @extschema@.integration_sync_map.source_version IS 'What else it was made from: hash of mapping, settings, references and companies; row and version equal, nothing can have changed';
COMMENT ON COLUMN @extschema@.integration_sync_map.created_at IS 'When the pair became known';

COMMENT ON TABLE @extschema@.integration_sync_log IS
'Append-only audit of every operation on a record there, secrets removed; kept for pgsync_itsm.log_retention. Read it through integration_sync_log_recent, _errors, _by_record and _by_run';
COMMENT ON COLUMN @extschema@.integration_sync_log.id IS 'Identifies the row';
COMMENT ON COLUMN @extschema@.integration_sync_log.connection_id IS 'Connection that the operation used; the row outlives the connection';
COMMENT ON COLUMN @extschema@.integration_sync_log.namespace_id IS 'Namespace of that connection; row-level security looks at it';
COMMENT ON COLUMN @extschema@.integration_sync_log.run_id IS 'Run that the operation was part of';
COMMENT ON COLUMN @extschema@.integration_sync_log.item_id IS 'Item of that run';
COMMENT ON COLUMN @extschema@.integration_sync_log.operation IS 'What the platform did: create, update, delete or read';
COMMENT ON COLUMN @extschema@.integration_sync_log.entity_type IS 'As in integration_sync_map';
COMMENT ON COLUMN @extschema@.integration_sync_log.entity_id IS 'As in integration_sync_map';
COMMENT ON COLUMN @extschema@.integration_sync_log.external_id IS 'Key there (sys_id on ServiceNow), if known';
COMMENT ON COLUMN @extschema@.integration_sync_log.status IS 'success, error (refused there, or given up) or skipped (not sent, because something that it needs failed)';
COMMENT ON COLUMN @extschema@.integration_sync_log.request_payload IS 'What was sent for this record; of a deletion, what was there before';
COMMENT ON COLUMN @extschema@.integration_sync_log.response_payload IS 'The part of the answer about this record, bounded in size';
COMMENT ON COLUMN @extschema@.integration_sync_log.error_class IS 'Code of the platform or HTTP_nnn; groups like errors; null on success';
COMMENT ON COLUMN @extschema@.integration_sync_log.error_message IS 'The error in words; null on success';
COMMENT ON COLUMN @extschema@.integration_sync_log.http_status IS 'HTTP status of the answer; null or 0: there was none';
COMMENT ON COLUMN @extschema@.integration_sync_log.created_at IS 'When the outcome was settled here';

COMMENT ON TABLE @extschema@.integration_queue IS
'Changes that triggers appended in the transactions of the users who made them, not collected by a worker yet; normally close to empty';
COMMENT ON COLUMN @extschema@.integration_queue.id IS 'Order of appending';
COMMENT ON COLUMN @extschema@.integration_queue.relation IS 'Table that was changed (oid of pg_class)';
COMMENT ON COLUMN @extschema@.integration_queue.op IS 'I insert, U update, D delete, T truncate';
COMMENT ON COLUMN @extschema@.integration_queue.key_column IS 'Column that the keys are values of';
COMMENT ON COLUMN @extschema@.integration_queue.keys IS 'Keys of the changed rows, as text, up to 1,000 a row';
COMMENT ON COLUMN @extschema@.integration_queue.namespace_id IS 'Namespace of the changed rows where the table has it; null: found out when collected';
COMMENT ON COLUMN @extschema@.integration_queue.xid IS 'Transaction that made the change';
COMMENT ON COLUMN @extschema@.integration_queue.at IS 'Start of that transaction';

COMMENT ON TABLE @extschema@.integration_runs IS
'Every preview, publish, subscribe, match and rollback of a connection: its state, its counts and what it cost';
COMMENT ON COLUMN @extschema@.integration_runs.id IS 'The run_id that itsm_publish() returns';
COMMENT ON COLUMN @extschema@.integration_runs.namespace_id IS 'Namespace of the connection; row-level security looks at it';
COMMENT ON COLUMN @extschema@.integration_runs.connection_id IS 'Connection that the run uses';
COMMENT ON COLUMN @extschema@.integration_runs.kind IS 'preview, publish, subscribe, match or rollback';
COMMENT ON COLUMN @extschema@.integration_runs.origin IS 'What began it: call, schedule or on_change';
COMMENT ON COLUMN @extschema@.integration_runs.status IS 'queued, planning, planned (a preview that can be applied), needs_approval (itsm_apply() sends it), running, done, failed or cancelled; done may include dead items';
COMMENT ON COLUMN @extschema@.integration_runs.phase IS 'Where planning stands; for support';
COMMENT ON COLUMN @extschema@.integration_runs.plan_lane IS 'Who plans it: NULL by its size, the worker or the planner; planner: its sources took too long for the worker; slow: they took longer than pgsync_itsm.planner_slice while others waited';
COMMENT ON COLUMN @extschema@.integration_runs.confirm IS 'True when the caller approved whatever the plan says';
COMMENT ON COLUMN @extschema@.integration_runs.purpose IS 'reconcile: what is there is compared as well; refresh: what was not written for long is confirmed; preview: what would be applied here is shown first; decision: what somebody decided of a conflict is written here; NULL: what changed is sent, or read';
COMMENT ON COLUMN @extschema@.integration_runs.partial IS 'True when only some records were looked at: changes, or a pilot';
COMMENT ON COLUMN @extschema@.integration_runs.rolls_back IS 'The run that this one undoes';
COMMENT ON COLUMN @extschema@.integration_runs.rollback_method IS 'Of a rollback: what becomes of records that the run created, retire or delete';
COMMENT ON COLUMN @extschema@.integration_runs.rollback_classes IS 'Of a rollback: exceptions from that, by entity type or table there';
COMMENT ON COLUMN @extschema@.integration_runs.applications IS 'Applications of a pilot; null: not a pilot';
COMMENT ON COLUMN @extschema@.integration_runs.in_scope IS 'Records in scope; null until planned';
COMMENT ON COLUMN @extschema@.integration_runs.to_create IS 'Records and relationships to be created, as planned';
COMMENT ON COLUMN @extschema@.integration_runs.relations_to_create IS 'How many of those to be created are relationships';
COMMENT ON COLUMN @extschema@.integration_runs.to_update IS 'Records to be updated, as planned';
COMMENT ON COLUMN @extschema@.integration_runs.to_delete IS 'Relationships, in a rollback also records, to be removed, as planned';
COMMENT ON COLUMN @extschema@.integration_runs.unchanged IS 'Records and relationships that are in step; counted, not kept as items';
COMMENT ON COLUMN @extschema@.integration_runs.matched IS 'Records and relationships that are there and become known as such (MATCH)';
COMMENT ON COLUMN @extschema@.integration_runs.held IS 'Items that wait for a person''s decision (MISMATCH)';
COMMENT ON COLUMN @extschema@.integration_runs.skipped IS 'Items not sent because of a rule, or because what they need failed';
COMMENT ON COLUMN @extschema@.integration_runs.refused IS 'Items not sent because the record changed between preview and apply';
COMMENT ON COLUMN @extschema@.integration_runs.done IS 'Items that took effect there';
COMMENT ON COLUMN @extschema@.integration_runs.warned IS 'Of these, items with a warning: a value was not taken, a reference not found';
COMMENT ON COLUMN @extschema@.integration_runs.dead IS 'Items that failed for good; itsm_requeue() tries them again';
COMMENT ON COLUMN @extschema@.integration_runs.requests IS 'HTTP requests so far, of every kind, those for tokens included';
COMMENT ON COLUMN @extschema@.integration_runs.write_requests IS 'Of these, requests that may change something there';
COMMENT ON COLUMN @extschema@.integration_runs.subrequests IS 'Calls that travelled inside Batch requests, which count as one request each';
COMMENT ON COLUMN @extschema@.integration_runs.bytes_sent IS 'Bytes of request bodies';
COMMENT ON COLUMN @extschema@.integration_runs.bytes_received IS 'Bytes of answers';
COMMENT ON COLUMN @extschema@.integration_runs.side_requests IS 'How many of the requests fetched a token or asked whether the platform is there';
COMMENT ON COLUMN @extschema@.integration_runs.request_ms IS 'Time that requests took on the wire, added up';
COMMENT ON COLUMN @extschema@.integration_runs.expected IS 'What applying a kept plan will take: requests, bytes and steps, as itsm_explain() shows them';
COMMENT ON COLUMN @extschema@.integration_runs.summary IS 'One sentence on the outcome, as CALL itsm_wait() says it';
COMMENT ON COLUMN @extschema@.integration_runs.approval_reason IS 'Why it waits, or waited, for approval';
COMMENT ON COLUMN @extschema@.integration_runs.error_code IS 'SQLSTATE or platform code of what ended the run as failed';
COMMENT ON COLUMN @extschema@.integration_runs.error_message IS 'What ended the run as failed';
COMMENT ON COLUMN @extschema@.integration_runs.error_hint IS 'What to do about it';
COMMENT ON COLUMN @extschema@.integration_runs.requested_by IS 'Role that asked for the run; of a run without a call: the worker''s role';
COMMENT ON COLUMN @extschema@.integration_runs.created_at IS 'When it was asked for';
COMMENT ON COLUMN @extschema@.integration_runs.planned_at IS 'When its plan was complete';
COMMENT ON COLUMN @extschema@.integration_runs.started_at IS 'When its items were released for sending';
COMMENT ON COLUMN @extschema@.integration_runs.finished_at IS 'When it ended: done, failed or cancelled';
COMMENT ON COLUMN @extschema@.integration_runs.cancel_requested IS 'Set by itsm_cancel(); what is on its way is settled, nothing more is sent';
COMMENT ON COLUMN @extschema@.integration_runs.cancel_by IS 'Until then answers of what is on its way are waited for';
COMMENT ON COLUMN @extschema@.integration_runs.items_removed_at IS 'When its items were removed, being older than pgsync_itsm.log_retention: it cannot be undone any more';

COMMENT ON TABLE @extschema@.integration_run_steps IS 'Progress of a run, step by step, in the order of sending';
COMMENT ON COLUMN @extschema@.integration_run_steps.run_id IS 'Run that the step belongs to';
COMMENT ON COLUMN @extschema@.integration_run_steps.namespace_id IS 'Namespace of the run; row-level security looks at it';
COMMENT ON COLUMN @extschema@.integration_run_steps.step IS 'Name of the step, as in 1b or 7a';
COMMENT ON COLUMN @extschema@.integration_run_steps.ord IS 'Position among the steps of the run';
COMMENT ON COLUMN @extschema@.integration_run_steps.title IS 'What the step does, in words';
COMMENT ON COLUMN @extschema@.integration_run_steps.status IS 'waiting, running or done';
COMMENT ON COLUMN @extschema@.integration_run_steps.total IS 'Items of the step';
COMMENT ON COLUMN @extschema@.integration_run_steps.done IS 'Items that took effect, or were so already';
COMMENT ON COLUMN @extschema@.integration_run_steps.failed IS 'Dead items';
COMMENT ON COLUMN @extschema@.integration_run_steps.skipped IS 'Items that were not sent';
COMMENT ON COLUMN @extschema@.integration_run_steps.requests IS 'HTTP requests made for the step';
COMMENT ON COLUMN @extschema@.integration_run_steps.started_at IS 'When the first item was claimed';
COMMENT ON COLUMN @extschema@.integration_run_steps.finished_at IS 'When the last item ended';

COMMENT ON TABLE @extschema@.integration_run_items IS
'One record''s or relationship''s part in a run: what is to be done, with old and new values, and what became of it. Records that are in step have none';
COMMENT ON COLUMN @extschema@.integration_run_items.id IS 'The item_id of the log';
COMMENT ON COLUMN @extschema@.integration_run_items.run_id IS 'Run that the item belongs to';
COMMENT ON COLUMN @extschema@.integration_run_items.connection_id IS 'Connection of that run';
COMMENT ON COLUMN @extschema@.integration_run_items.namespace_id IS 'Namespace of that run; row-level security looks at it';
COMMENT ON COLUMN @extschema@.integration_run_items.ord IS 'Position of its step';
COMMENT ON COLUMN @extschema@.integration_run_items.step IS 'Step in which it is sent, as in integration_run_steps';
COMMENT ON COLUMN @extschema@.integration_run_items.entity_type IS 'As in integration_sync_map';
COMMENT ON COLUMN @extschema@.integration_run_items.entity_id IS 'As in integration_sync_map';
COMMENT ON COLUMN @extschema@.integration_run_items.native_key IS 'As in integration_sync_map';
COMMENT ON COLUMN @extschema@.integration_run_items.label IS 'Name of the record, or both ends of the relationship, for people';
COMMENT ON COLUMN @extschema@.integration_run_items.bundle IS 'Number of the application that it belongs to, within the run: these travel together; NULL: it belongs to none';
COMMENT ON COLUMN @extschema@.integration_run_items.action IS 'CREATE, UPDATE, CLEAR (empty some fields), DELETE (remove a relationship that we made, in a rollback also a record), MATCH (take over what is there), MISMATCH (a person must decide), SKIP (a rule leaves it out), ERROR (cannot be sent as it is)';
COMMENT ON COLUMN @extschema@.integration_run_items.state IS 'planned, pending (waits, or is on its way: pgsync_itsm.claims), done, unchanged (was so already), dead (failed for good), skipped, held (waits for a person), refused (changed since the preview) or cancelled';
COMMENT ON COLUMN @extschema@.integration_run_items.payload IS 'Fields and values to send; null for relationships';
COMMENT ON COLUMN @extschema@.integration_run_items.old_values IS 'Values of those fields there, read before the update';
COMMENT ON COLUMN @extschema@.integration_run_items.payload_hash IS 'Hash of the mapped values, to be agreed if all are taken';
COMMENT ON COLUMN @extschema@.integration_run_items.source_hash IS 'Hash of what the source gave when it was planned: other by the time of itsm_apply(), the item is refused';
COMMENT ON COLUMN @extschema@.integration_run_items.source_version IS 'Hash of what the payload was made from besides: mapping, settings, references, companies; goes into the map with it';
COMMENT ON COLUMN @extschema@.integration_run_items.external_id IS 'Key there, once known';
COMMENT ON COLUMN @extschema@.integration_run_items.external_table IS 'Class or table there to write to';
COMMENT ON COLUMN @extschema@.integration_run_items.parent_type IS 'Of a relationship: entity_type of its parent end';
COMMENT ON COLUMN @extschema@.integration_run_items.parent_id IS 'Of a relationship: entity_id of its parent end; of a record: of what it needs first';
COMMENT ON COLUMN @extschema@.integration_run_items.child_type IS 'Of a relationship: entity_type of its child end';
COMMENT ON COLUMN @extschema@.integration_run_items.child_id IS 'Of a relationship: entity_id of its child end';
COMMENT ON COLUMN @extschema@.integration_run_items.rel_type IS 'Of a relationship: name of its type there';
COMMENT ON COLUMN @extschema@.integration_run_items.rel_type_id IS 'Key of that type there';
COMMENT ON COLUMN @extschema@.integration_run_items.bundle IS 'Same number: one application, its profiles and their relationships, which travel together where they fit; null: of no application';
COMMENT ON COLUMN @extschema@.integration_run_items.attempts IS 'Times it was sent; the one under way is counted by its claim, before the act';
COMMENT ON COLUMN @extschema@.integration_run_items.in_doubt IS 'True when it may have taken effect without our knowing: it is looked up there before it is sent again';
COMMENT ON COLUMN @extschema@.integration_run_items.unheard IS 'True when an attempt ended without an answer that could be read: if the platform now has what this creates, we made it';
COMMENT ON COLUMN @extschema@.integration_run_items.not_before IS 'Earliest time of the next attempt; null: at once';
COMMENT ON COLUMN @extschema@.integration_run_items.outcome IS 'What became of the last attempt';
COMMENT ON COLUMN @extschema@.integration_run_items.operation IS 'What the platform said it did: create, update, delete; null: nothing, or not told';
COMMENT ON COLUMN @extschema@.integration_run_items.error_class IS 'Code of the last error: the platform''s own, or HTTP_nnn';
COMMENT ON COLUMN @extschema@.integration_run_items.reason IS 'Why it is held, skipped, refused or dead, in words; names the blocker';
COMMENT ON COLUMN @extschema@.integration_run_items.warnings IS 'What was left out or not taken although the item is done';
COMMENT ON COLUMN @extschema@.integration_run_items.http_status IS 'HTTP status of the last answer';
COMMENT ON COLUMN @extschema@.integration_run_items.updated_at IS 'When its state last changed';

COMMENT ON TABLE @extschema@.integration_sources IS
'Query that yields the records of one entity type in canonical columns; stored as text and bound when it is read, so that the application''s own migrations go through';
COMMENT ON COLUMN @extschema@.integration_sources.id IS 'Identifies the row';
COMMENT ON COLUMN @extschema@.integration_sources.namespace_id IS 'Namespace of the connection that it is for; null: for all';
COMMENT ON COLUMN @extschema@.integration_sources.connection_id IS 'Connection that it is for; null: for every connection without one of its own';
COMMENT ON COLUMN @extschema@.integration_sources.entity_type IS 'Entity type that it yields';
COMMENT ON COLUMN @extschema@.integration_sources.query IS 'SELECT that yields the columns of pgsync_itsm.source_columns(), $1 in it is the namespace; run with the rights of the connection''s owner';
COMMENT ON COLUMN @extschema@.integration_sources.key_type IS 'Type of the key column; keys are given to the query as this type, so that an index serves';
COMMENT ON COLUMN @extschema@.integration_sources.origin IS 'getinsync: made by itsm_attach_getinsync() and removed by itsm_detach_getinsync(); user: made by hand';
COMMENT ON COLUMN @extschema@.integration_sources.description IS 'Where the records come from, in words';
COMMENT ON COLUMN @extschema@.integration_sources.updated_at IS 'When it was stored';

COMMENT ON TABLE @extschema@.integration_watches IS
'Tables whose changes concern an entity type, and the column that says which record; one trigger a table';
COMMENT ON COLUMN @extschema@.integration_watches.id IS 'Identifies the row';
COMMENT ON COLUMN @extschema@.integration_watches.namespace_id IS 'Null: watched for every namespace';
COMMENT ON COLUMN @extschema@.integration_watches.relation IS 'Schema-qualified name of the table';
COMMENT ON COLUMN @extschema@.integration_watches.entity_type IS 'Entity type that its changes concern';
COMMENT ON COLUMN @extschema@.integration_watches.key_column IS 'Column whose value says which record is concerned; a/b: two columns as one key; *: any change concerns the whole entity type; *a/b: so where a or b is null';
COMMENT ON COLUMN @extschema@.integration_watches.match_by IS 'key: the value is the record''s key; parent: it is the key of the record''s parent end';
COMMENT ON COLUMN @extschema@.integration_watches.owns_key IS 'True for the table that holds the record itself: a DELETE there means that the record is gone, elsewhere that it changed';
COMMENT ON COLUMN @extschema@.integration_watches.columns IS 'Columns whose update concerns the entity type; null: every column';
COMMENT ON COLUMN @extschema@.integration_watches.origin IS 'getinsync or user, as in integration_sources';

COMMENT ON TABLE @extschema@.integration_field_mappings IS
'Which target field gets which value: default rows and rows of one connection, which replace the default of the same field';
COMMENT ON COLUMN @extschema@.integration_field_mappings.id IS 'Identifies the row';
COMMENT ON COLUMN @extschema@.integration_field_mappings.namespace_id IS 'Namespace of the connection; null in default rows';
COMMENT ON COLUMN @extschema@.integration_field_mappings.connection_id IS 'Connection that the row is for; null: the default of every connection';
COMMENT ON COLUMN @extschema@.integration_field_mappings.platform IS 'servicenow or haloitsm';
COMMENT ON COLUMN @extschema@.integration_field_mappings.entity_type IS 'Entity type that is mapped';
COMMENT ON COLUMN @extschema@.integration_field_mappings.target_class IS 'Class there that the row is for; *: every class';
COMMENT ON COLUMN @extschema@.integration_field_mappings.target_field IS 'Column there';
COMMENT ON COLUMN @extschema@.integration_field_mappings.expression IS 'Column of the source, or an SQL expression over its columns, run with the rights of the connection''s owner; :setting(name) stands for a setting; null: the field is left alone';
COMMENT ON COLUMN @extschema@.integration_field_mappings.kind IS 'What the value is: text and date are sent as they are, the others are looked up there first';
COMMENT ON COLUMN @extschema@.integration_field_mappings.value_map IS 'Value here to value there, one flat object, * for all others; alternatives as in Pipeline|Operational: the first that the instance has; a value that is not in it is not sent, unless * says what it is, or * itself: sent as it is';
COMMENT ON COLUMN @extschema@.integration_field_mappings.on_unresolved IS 'When a look-up finds nothing: warn (leave the field out, say so), ignore (leave it out) or error (the record is not sent)';
COMMENT ON COLUMN @extschema@.integration_field_mappings.direction IS 'publish, subscribe or both';
COMMENT ON COLUMN @extschema@.integration_field_mappings.authority IS 'Whose value counts when the two sides differ: ours, theirs, newest, if_empty (ours where theirs is empty or was ours) or manual';
COMMENT ON COLUMN @extschema@.integration_field_mappings.condition IS 'Setting of the connection, with the values for which the row counts, as in life_cycle_write=legacy|both; null: always';
COMMENT ON COLUMN @extschema@.integration_field_mappings.ord IS 'Order of display';
COMMENT ON COLUMN @extschema@.integration_field_mappings.is_default IS 'True for rows that the extension brought: an upgrade may replace them';
COMMENT ON COLUMN @extschema@.integration_field_mappings.enabled IS 'False: the row counts as absent';
COMMENT ON COLUMN @extschema@.integration_field_mappings.updated_at IS 'When it was stored; a change plans the entity type in full';

COMMENT ON TABLE @extschema@.integration_references IS
'Cache of what names and e-mails resolved to there; believed for the setting reference_ttl, safe to empty at any time';
COMMENT ON COLUMN @extschema@.integration_references.connection_id IS 'Connection whose instance was asked';
COMMENT ON COLUMN @extschema@.integration_references.namespace_id IS 'Namespace of that connection; row-level security looks at it';
COMMENT ON COLUMN @extschema@.integration_references.kind IS 'What was asked for: user, group, company, relation_type, choice, life_cycle_stage, ...';
COMMENT ON COLUMN @extschema@.integration_references.target IS 'Class or table that the question was about; empty where the kind says all';
COMMENT ON COLUMN @extschema@.integration_references.key IS 'Name or e-mail that was asked for';
COMMENT ON COLUMN @extschema@.integration_references.external_id IS 'What it resolved to; null: nothing of that name there';
COMMENT ON COLUMN @extschema@.integration_references.external_table IS 'Class or table that holds it';
COMMENT ON COLUMN @extschema@.integration_references.label IS 'Its name there';
COMMENT ON COLUMN @extschema@.integration_references.attrs IS 'Further values that were read with it';
COMMENT ON COLUMN @extschema@.integration_references.matches IS 'How many were found; more than one is not used without a decision';
COMMENT ON COLUMN @extschema@.integration_references.fetched_at IS 'When the instance was asked';

COMMENT ON TABLE @extschema@.integration_matches IS
'Candidates for "this record here is that record there", with score and reason, and what was decided';
COMMENT ON COLUMN @extschema@.integration_matches.id IS 'Identifies the candidate';
COMMENT ON COLUMN @extschema@.integration_matches.connection_id IS 'Connection that the candidate belongs to';
COMMENT ON COLUMN @extschema@.integration_matches.namespace_id IS 'Namespace of that connection; row-level security looks at it';
COMMENT ON COLUMN @extschema@.integration_matches.run_id IS 'Run that found it';
COMMENT ON COLUMN @extschema@.integration_matches.entity_type IS 'As in integration_sync_map';
COMMENT ON COLUMN @extschema@.integration_matches.entity_id IS 'The record here';
COMMENT ON COLUMN @extschema@.integration_matches.native_key IS 'Key of the record that will travel with it';
COMMENT ON COLUMN @extschema@.integration_matches.entity_name IS 'Name of the record here';
COMMENT ON COLUMN @extschema@.integration_matches.closed_by IS 'The match whose acceptance, or whose "create new", closed this one; NULL: somebody decided on it';
COMMENT ON COLUMN @extschema@.integration_matches.duplicates IS 'How many records there have the name of this one';
COMMENT ON COLUMN @extschema@.integration_matches.external_id IS 'The record there; null with the decision create';
COMMENT ON COLUMN @extschema@.integration_matches.external_table IS 'Its class or table';
COMMENT ON COLUMN @extschema@.integration_matches.external_name IS 'Its name there when it was found';
COMMENT ON COLUMN @extschema@.integration_matches.score IS 'How alike the two are, 0 to 1';
COMMENT ON COLUMN @extschema@.integration_matches.reason IS 'What they have in common, in words';
COMMENT ON COLUMN @extschema@.integration_matches.decision IS 'proposed (nobody has decided), accepted, rejected, or create (none of them: make a new one)';
COMMENT ON COLUMN @extschema@.integration_matches.decided_by IS 'Role that decided';
COMMENT ON COLUMN @extschema@.integration_matches.decided_at IS 'When it was decided';

COMMENT ON TABLE @extschema@.integration_external_records IS
'Mirror of records that were read from the platform; a cache, safe to empty at any time';
COMMENT ON COLUMN @extschema@.integration_external_records.connection_id IS 'Connection that they were read through';
COMMENT ON COLUMN @extschema@.integration_external_records.target IS 'Table that was read: rows of the classes below it come along';
COMMENT ON COLUMN @extschema@.integration_external_records.namespace_id IS 'Namespace of that connection; row-level security looks at it';
COMMENT ON COLUMN @extschema@.integration_external_records.external_table IS 'Class or table there';
COMMENT ON COLUMN @extschema@.integration_external_records.external_id IS 'Key there (sys_id on ServiceNow)';
COMMENT ON COLUMN @extschema@.integration_external_records.name IS 'Name there';
COMMENT ON COLUMN @extschema@.integration_external_records.attrs IS 'Values that were read, field by field';
COMMENT ON COLUMN @extschema@.integration_external_records.first_seen IS 'When it was read first';
COMMENT ON COLUMN @extschema@.integration_external_records.last_seen IS 'When it was read last';
COMMENT ON COLUMN @extschema@.integration_external_records.last_changed IS 'When a reading last differed from the one before';
COMMENT ON COLUMN @extschema@.integration_external_records.updated_there_at IS 'When it was changed last, by the platform''s clock';
COMMENT ON COLUMN @extschema@.integration_external_records.updated_there_by IS 'Who changed it last there';

COMMENT ON TABLE @extschema@.integration_watermarks IS
'How far each table of the platform has been read, and whether that is proven to be all. Deletions are followed in sys_audit_delete where that may be read (its row is done), else found by sweeps of ids';
COMMENT ON COLUMN @extschema@.integration_watermarks.connection_id IS 'Connection that reads';
COMMENT ON COLUMN @extschema@.integration_watermarks.namespace_id IS 'Namespace of that connection; row-level security looks at it';
COMMENT ON COLUMN @extschema@.integration_watermarks.external_table IS 'Table there, classes below included';
COMMENT ON COLUMN @extschema@.integration_watermarks.run_id IS 'Run that reads it, or read it last';
COMMENT ON COLUMN @extschema@.integration_watermarks.state IS 'reading, done, or refused: the user may not read it';
COMMENT ON COLUMN @extschema@.integration_watermarks.reached_at IS 'Changes up to here were read: when the last pass began';
COMMENT ON COLUMN @extschema@.integration_watermarks.started_at IS 'When this pass began, or the last one';
COMMENT ON COLUMN @extschema@.integration_watermarks.window_from IS 'What changed since is read in this pass; null: all from the beginning';
COMMENT ON COLUMN @extschema@.integration_watermarks.read_at IS 'When it was read last';
COMMENT ON COLUMN @extschema@.integration_watermarks.complete IS 'Was every row shown that the platform counted; if not, nothing is concluded from what is missing';
COMMENT ON COLUMN @extschema@.integration_watermarks.rows IS 'Rows that this pass brought, overlap included';
COMMENT ON COLUMN @extschema@.integration_watermarks.changed IS 'How many of these were new or different';
COMMENT ON COLUMN @extschema@.integration_watermarks.hidden IS 'Were rows of this reading counted and not shown';
COMMENT ON COLUMN @extschema@.integration_watermarks.broken IS 'Was something missing that had been there: the table is swept';
COMMENT ON COLUMN @extschema@.integration_watermarks.expected IS 'How many rows have to follow the last page at least';
COMMENT ON COLUMN @extschema@.integration_watermarks.note IS 'What stood in the way';
COMMENT ON COLUMN @extschema@.integration_watermarks.cursor_id IS 'Where the reading is: id of the last row';
COMMENT ON COLUMN @extschema@.integration_watermarks.cursor_offset IS 'Rows to leap over behind that, which are not shown';
COMMENT ON COLUMN @extschema@.integration_watermarks.page_rows IS 'Rows asked for in one page: fewer where that takes long';
COMMENT ON COLUMN @extschema@.integration_watermarks.asked_at IS 'When the page under way was asked for';
COMMENT ON COLUMN @extschema@.integration_watermarks.swept_at IS 'When the ids of the whole table were read last';
COMMENT ON COLUMN @extschema@.integration_watermarks.swept_whole IS 'Was every id shown that the platform counted';
COMMENT ON COLUMN @extschema@.integration_watermarks.sweep_run_id IS 'Run that sweeps it now';
COMMENT ON COLUMN @extschema@.integration_watermarks.sweep_from IS 'What was not seen since, and is not met by this sweep, is missing';
COMMENT ON COLUMN @extschema@.integration_watermarks.sweep_id IS 'Where the sweep is: the last id; null: at the end';
COMMENT ON COLUMN @extschema@.integration_watermarks.sweep_hidden IS 'Were ids of this sweep counted and not shown';

COMMENT ON TABLE @extschema@.integration_conflicts IS
'Fields that both sides changed since they last agreed, waiting for a decision';
COMMENT ON COLUMN @extschema@.integration_conflicts.id IS 'The conflict_id of itsm_resolve_conflict()';
COMMENT ON COLUMN @extschema@.integration_conflicts.connection_id IS 'Connection that it belongs to';
COMMENT ON COLUMN @extschema@.integration_conflicts.namespace_id IS 'Namespace of that connection; row-level security looks at it';
COMMENT ON COLUMN @extschema@.integration_conflicts.run_id IS 'Run that found it, last';
COMMENT ON COLUMN @extschema@.integration_conflicts.label IS 'Name of the record';
COMMENT ON COLUMN @extschema@.integration_conflicts.ours_at IS 'When the record was changed here last, as far as a column says so';
COMMENT ON COLUMN @extschema@.integration_conflicts.theirs_at IS 'When it was changed there last';
COMMENT ON COLUMN @extschema@.integration_conflicts.theirs_by IS 'Who changed it there last';
COMMENT ON COLUMN @extschema@.integration_conflicts.entity_type IS 'As in integration_sync_map';
COMMENT ON COLUMN @extschema@.integration_conflicts.entity_id IS 'As in integration_sync_map';
COMMENT ON COLUMN @extschema@.integration_conflicts.field IS 'Column there';
COMMENT ON COLUMN @extschema@.integration_conflicts.base IS 'Value that both sides last agreed on';
COMMENT ON COLUMN @extschema@.integration_conflicts.ours IS 'Value here';
COMMENT ON COLUMN @extschema@.integration_conflicts.theirs IS 'Value there';
COMMENT ON COLUMN @extschema@.integration_conflicts.state IS 'open or resolved';
COMMENT ON COLUMN @extschema@.integration_conflicts.resolution IS 'How it was resolved: ours, theirs, agreed, gone (the record is not there any more), or the value that was given; while open: a run is about to write that here';
COMMENT ON COLUMN @extschema@.integration_conflicts.created_at IS 'When it was found';
COMMENT ON COLUMN @extschema@.integration_conflicts.resolved_at IS 'When it was resolved';
COMMENT ON COLUMN @extschema@.integration_conflicts.resolved_by IS 'Role that decided it';

COMMENT ON TABLE @extschema@.integration_inbox IS
'Changes that came from the platform and are not applied yet';
COMMENT ON COLUMN @extschema@.integration_inbox.id IS 'Order of arrival';
COMMENT ON COLUMN @extschema@.integration_inbox.connection_id IS 'Connection that it came through';
COMMENT ON COLUMN @extschema@.integration_inbox.namespace_id IS 'Namespace of that connection; row-level security looks at it';
COMMENT ON COLUMN @extschema@.integration_inbox.run_id IS 'Run that read it';
COMMENT ON COLUMN @extschema@.integration_inbox.origin IS 'How it came: poll, audit (the platform says that it was deleted), sweep (it is not there any more) or webhook';
COMMENT ON COLUMN @extschema@.integration_inbox.entity_type IS 'As in integration_sync_map';
COMMENT ON COLUMN @extschema@.integration_inbox.entity_id IS 'As in integration_sync_map';
COMMENT ON COLUMN @extschema@.integration_inbox.external_table IS 'Class or table of the changed record there';
COMMENT ON COLUMN @extschema@.integration_inbox.external_id IS 'Its key there';
COMMENT ON COLUMN @extschema@.integration_inbox.before IS 'What was known of it before: what both sides had agreed on, else what was read then';
COMMENT ON COLUMN @extschema@.integration_inbox.body IS 'What was received, bounded in size; a stranger''s text, never run';
COMMENT ON COLUMN @extschema@.integration_inbox.state IS 'new, applied, ignored or error';
COMMENT ON COLUMN @extschema@.integration_inbox.reason IS 'Why it was ignored, or the error';
COMMENT ON COLUMN @extschema@.integration_inbox.received_at IS 'When it arrived';

COMMENT ON TABLE @extschema@.integration_entitlements IS
'Which tier of a namespace may use which platform; no row: allowed';
COMMENT ON COLUMN @extschema@.integration_entitlements.tier IS 'Tier, as the namespace has it';
COMMENT ON COLUMN @extschema@.integration_entitlements.platform IS 'servicenow or haloitsm';
COMMENT ON COLUMN @extschema@.integration_entitlements.namespace_id IS 'Always null: entitlements are the site''s, tenants do not see them';
COMMENT ON COLUMN @extschema@.integration_entitlements.allowed IS 'False: connecting and activating are refused with a clear error';

-- Views.  What a column shares with the table below it, it shares in meaning, too.

COMMENT ON COLUMN @extschema@.integration_sync_log_errors.cause IS 'What the error class means';
COMMENT ON COLUMN @extschema@.integration_sync_log_errors.hint IS 'What to do about it; null: nothing in general';
COMMENT ON COLUMN @extschema@.integration_sync_log_by_record.succeeded IS 'Operations that took effect';
COMMENT ON COLUMN @extschema@.integration_sync_log_by_record.failed IS 'Operations that did not';
COMMENT ON COLUMN @extschema@.integration_sync_log_by_record.last_at IS 'Time of the last operation';
COMMENT ON COLUMN @extschema@.integration_sync_log_by_record.last_message IS 'Error of the last operation; null: it succeeded';
COMMENT ON COLUMN @extschema@.integration_sync_log_by_run.run_id IS 'The run, as in integration_runs.id';
COMMENT ON COLUMN @extschema@.integration_sync_log_by_run.created IS 'Records and relationships that it created there';
COMMENT ON COLUMN @extschema@.integration_sync_log_by_run.updated IS 'Records that it updated there';
COMMENT ON COLUMN @extschema@.integration_sync_log_by_run.deleted IS 'Relationships that it removed there';
COMMENT ON COLUMN @extschema@.integration_sync_log_by_run.errors IS 'Operations that failed';
COMMENT ON COLUMN @extschema@.integration_status.connection_id IS 'The connection, as in integration_connections.id';
COMMENT ON COLUMN @extschema@.integration_status.paused IS 'True when nothing is sent although the connection is active';
COMMENT ON COLUMN @extschema@.integration_status.last_run IS 'Its last run';
COMMENT ON COLUMN @extschema@.integration_status.last_run_status IS 'State of that run, as in integration_runs.status';
COMMENT ON COLUMN @extschema@.integration_status.problem IS 'What is wrong, or what it waits for; null: nothing';
COMMENT ON COLUMN @extschema@.integration_status.next_call IS 'What to call next';
COMMENT ON COLUMN @extschema@.itsm_stat_progress.run_id IS 'The run, as in integration_runs.id';
COMMENT ON COLUMN @extschema@.itsm_stat_progress.step IS 'Step that is under way, or ended last; null while planning';
COMMENT ON COLUMN @extschema@.itsm_stat_progress.age IS 'Time since the run was asked for';
COMMENT ON COLUMN @extschema@.itsm_stat_progress.waiting IS 'What holds it up: paused, circuit breaker, rate limit, backoff; null: nothing does';
COMMENT ON COLUMN @extschema@.itsm_stat_progress.until IS 'Time of day at which it goes on by itself; null: it does not wait, or somebody has to do something';
COMMENT ON COLUMN @extschema@.itsm_stat_connection.state IS
'active, inactive, paused (by an error that somebody has to repair), open (too many failures in a row: nothing is sent), half_open (one probe decides), limited (an hourly limit is used up), backoff (the platform asked for patience)';
COMMENT ON COLUMN @extschema@.itsm_stat_connection.reason IS 'Error class that led to this state';
COMMENT ON COLUMN @extschema@.itsm_stat_connection.until IS 'Time of day at which that ends by itself';
COMMENT ON COLUMN @extschema@.itsm_stat_connection.slots IS 'Requests that may be in flight at present, at most max_concurrency; null: none was sent yet';
COMMENT ON COLUMN @extschema@.itsm_stat_connection.hour_used IS 'Requests that count against the tightest hourly limit, in its present window';
COMMENT ON COLUMN @extschema@.itsm_stat_connection.hour_limit IS 'That limit: announced by the platform, or requests_per_hour; null: none is known';
COMMENT ON COLUMN @extschema@.itsm_stat_connection.connection_id IS 'The connection, as in integration_connections.id';
COMMENT ON COLUMN @extschema@.itsm_stat_connection.pending IS 'Items of running runs that wait to be sent';
COMMENT ON COLUMN @extschema@.itsm_stat_connection.sent IS 'Items of running runs that are on their way';

DO $do$
DECLARE
    c record;
BEGIN
    FOR c IN SELECT v.oid::regclass AS view, a.attname AS column, d.description
               FROM (VALUES ('integration_plan', 'integration_run_items'),
                            ('integration_sync_log_recent', 'integration_sync_log'),
                            ('integration_sync_log_errors', 'integration_sync_log'),
                            ('integration_sync_log_by_record', 'integration_sync_log'),
                            ('integration_sync_log_by_run', 'integration_runs'),
                            ('integration_status', 'integration_connections'),
                            ('itsm_stat_progress', 'integration_run_steps'),
                            ('itsm_stat_progress', 'integration_runs'),
                            ('itsm_stat_connection', 'integration_connections')) AS p (view, below)
               JOIN pg_class AS v ON v.oid = format('@extschema@.%I', p.view)::regclass
               JOIN pg_class AS t ON t.oid = format('@extschema@.%I', p.below)::regclass
               JOIN pg_attribute AS a ON a.attrelid = v.oid AND a.attnum > 0
               JOIN pg_attribute AS b ON b.attrelid = t.oid AND b.attname = a.attname AND b.attnum > 0
               JOIN pg_description AS d ON d.classoid = 'pg_class'::regclass AND d.objoid = t.oid AND d.objsubid = b.attnum
    LOOP
        IF col_description(c.view, (SELECT a.attnum FROM pg_attribute AS a WHERE a.attrelid = c.view AND a.attname = c.column)) IS NULL THEN
            EXECUTE format('COMMENT ON COLUMN %s.%I IS %L', c.view, c.column, c.description);
        END IF;
    END LOOP;
END
$do$;

-- Internal tables.

COMMENT ON TABLE pgsync_itsm.integration_secrets IS
'Sealed credentials (libsodium, key in pgsync_itsm.key_file); no view or function returns what is in them';
COMMENT ON COLUMN pgsync_itsm.integration_secrets.id IS 'What the *_vault_id columns of integration_connections refer to';
COMMENT ON COLUMN pgsync_itsm.integration_secrets.namespace_id IS 'Namespace that it belongs to; part of what is authenticated, so that a row cannot be moved to another';
COMMENT ON COLUMN pgsync_itsm.integration_secrets.purpose IS 'What it is: client_secret, password, ...; authenticated as well';
COMMENT ON COLUMN pgsync_itsm.integration_secrets.sealed IS 'Nonce and ciphertext';
COMMENT ON COLUMN pgsync_itsm.integration_secrets.created_at IS 'When it was sealed';
COMMENT ON TABLE pgsync_itsm.site IS
'One row: which cluster and database this data belongs to, the site''s own visibility condition, and where GetInSync''s tables are';
COMMENT ON TABLE pgsync_itsm.attached_objects IS
'Columns, triggers and constraints that attaching added to the application''s tables, so that detaching leaves the database as it was';
COMMENT ON TABLE pgsync_itsm.run_keys IS 'Records that a partial run is about; a full run has none. gone: deleted here while the run was under way, which may have made them there';
COMMENT ON TABLE pgsync_itsm.plan_records IS 'Work space of a plan in the making; unlogged, a plan that a crash interrupted starts again';
COMMENT ON TABLE pgsync_itsm.connection_pace IS
'How fast a connection may be talked to, as its worker last saw it: state of the circuit breaker, slots, windows of rate-limit rules. A cache, not dumped';
COMMENT ON TABLE pgsync_itsm.plan_spaces IS 'Runs whose work space is as they left it; unlogged, so that a crash empties it with the work space';
COMMENT ON TABLE pgsync_itsm.plan_links IS 'Relationships of a plan in the making; unlogged as well';
COMMENT ON TABLE pgsync_itsm.claims IS 'Items that were sent or are about to be, claim by claim: written before the act, gone with the last answer';
COMMENT ON TABLE pgsync_itsm.lookups IS 'Questions to the platform that a plan waits for; unlogged';
COMMENT ON TABLE pgsync_itsm.lookup_rows IS 'Answers to these questions; unlogged';

-- A sequence behind an identity column is a member of the extension like any other.
DO $do$
DECLARE
    s record;
BEGIN
    FOR s IN SELECT c.oid::regclass AS name, t.relname, a.attname
               FROM pg_depend AS e
               JOIN pg_class AS c ON c.oid = e.objid AND c.relkind = 'S'
               JOIN pg_depend AS i ON i.classid = e.classid AND i.objid = e.objid AND i.refclassid = e.classid
                                  AND i.deptype = 'i'
               JOIN pg_class AS t ON t.oid = i.refobjid
               JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = i.refobjsubid
              WHERE e.classid = 'pg_class'::regclass AND e.deptype = 'e'
                AND e.refclassid = 'pg_extension'::regclass
                AND e.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pgsync_itsm')
    LOOP
        EXECUTE format('COMMENT ON SEQUENCE %s IS %L', s.name, format('Numbers for %s.%s', s.relname, s.attname));
    END LOOP;
END
$do$;

COMMENT ON COLUMN @extschema@.integration_external_cis.connection_id IS 'Connection that it was read through';
COMMENT ON COLUMN @extschema@.integration_external_cis.namespace_id IS 'Namespace of that connection';
COMMENT ON COLUMN @extschema@.integration_external_cis.class IS 'Class there';
COMMENT ON COLUMN @extschema@.integration_external_cis.external_id IS 'Key there (sys_id on ServiceNow)';
COMMENT ON COLUMN @extschema@.integration_external_cis.name IS 'Name there';
COMMENT ON COLUMN @extschema@.integration_external_cis.number IS 'Number there';
COMMENT ON COLUMN @extschema@.integration_external_cis.correlation_id IS 'What says whose it is there';
COMMENT ON COLUMN @extschema@.integration_external_cis.operational_status IS 'Operational status, as stored there';
COMMENT ON COLUMN @extschema@.integration_external_cis.install_status IS 'Install status, as stored there';
COMMENT ON COLUMN @extschema@.integration_external_cis.discovery_source IS 'Source that made it, or wrote to it last';
COMMENT ON COLUMN @extschema@.integration_external_cis.entity_type IS 'Kind of the record here that is its; null: none';
COMMENT ON COLUMN @extschema@.integration_external_cis.entity_id IS 'That record, as in integration_sync_map';
COMMENT ON COLUMN @extschema@.integration_external_cis.attrs IS 'All values that were read, field by field';
COMMENT ON COLUMN @extschema@.integration_external_cis.first_seen IS 'When it was read first';
COMMENT ON COLUMN @extschema@.integration_external_cis.last_seen IS 'When it was read last';
COMMENT ON COLUMN @extschema@.integration_external_cis.last_changed IS 'When a reading last differed from the one before';
COMMENT ON COLUMN @extschema@.integration_external_cis.updated_there_at IS 'When it was changed last, by the platform''s clock';
COMMENT ON COLUMN @extschema@.integration_external_cis.updated_there_by IS 'Who changed it last there';
COMMENT ON COLUMN @extschema@.integration_external_servers.connection_id IS 'Connection that it was read through';
COMMENT ON COLUMN @extschema@.integration_external_servers.namespace_id IS 'Namespace of that connection';
COMMENT ON COLUMN @extschema@.integration_external_servers.class IS 'Class there';
COMMENT ON COLUMN @extschema@.integration_external_servers.external_id IS 'Key there (sys_id on ServiceNow)';
COMMENT ON COLUMN @extschema@.integration_external_servers.name IS 'Name there';
COMMENT ON COLUMN @extschema@.integration_external_servers.fqdn IS 'Its full name in the network';
COMMENT ON COLUMN @extschema@.integration_external_servers.ip_address IS 'Its address';
COMMENT ON COLUMN @extschema@.integration_external_servers.os IS 'Operating system';
COMMENT ON COLUMN @extschema@.integration_external_servers.os_version IS 'Version of that';
COMMENT ON COLUMN @extschema@.integration_external_servers.serial_number IS 'Serial number';
COMMENT ON COLUMN @extschema@.integration_external_servers.operational_status IS 'Operational status, as stored there';
COMMENT ON COLUMN @extschema@.integration_external_servers.virtual IS 'Is it a virtual machine';
COMMENT ON COLUMN @extschema@.integration_external_servers.attrs IS 'All values that were read, field by field';
COMMENT ON COLUMN @extschema@.integration_external_servers.first_seen IS 'When it was read first';
COMMENT ON COLUMN @extschema@.integration_external_servers.last_seen IS 'When it was read last';
COMMENT ON COLUMN @extschema@.integration_external_servers.last_changed IS 'When a reading last differed from the one before';
COMMENT ON COLUMN @extschema@.integration_external_servers.updated_there_at IS 'When it was changed last, by the platform''s clock';
COMMENT ON COLUMN @extschema@.integration_external_servers.updated_there_by IS 'Who changed it last there';
COMMENT ON COLUMN @extschema@.integration_external_users.connection_id IS 'Connection that it was read through';
COMMENT ON COLUMN @extschema@.integration_external_users.namespace_id IS 'Namespace of that connection';
COMMENT ON COLUMN @extschema@.integration_external_users.external_id IS 'Key there (sys_id on ServiceNow)';
COMMENT ON COLUMN @extschema@.integration_external_users.user_name IS 'What it signs in with';
COMMENT ON COLUMN @extschema@.integration_external_users.name IS 'Name there';
COMMENT ON COLUMN @extschema@.integration_external_users.email IS 'E-mail address';
COMMENT ON COLUMN @extschema@.integration_external_users.title IS 'Title';
COMMENT ON COLUMN @extschema@.integration_external_users.phone IS 'Phone number';
COMMENT ON COLUMN @extschema@.integration_external_users.active IS 'May it sign in';
COMMENT ON COLUMN @extschema@.integration_external_users.contact_id IS 'Contact here that is its, as entity_id of integration_sync_map';
COMMENT ON COLUMN @extschema@.integration_external_users.attrs IS 'All values that were read, field by field';
COMMENT ON COLUMN @extschema@.integration_external_users.first_seen IS 'When it was read first';
COMMENT ON COLUMN @extschema@.integration_external_users.last_seen IS 'When it was read last';
COMMENT ON COLUMN @extschema@.integration_external_users.last_changed IS 'When a reading last differed from the one before';
COMMENT ON COLUMN @extschema@.integration_external_users.updated_there_at IS 'When it was changed last, by the platform''s clock';
COMMENT ON COLUMN @extschema@.integration_external_users.updated_there_by IS 'Who changed it last there';
COMMENT ON COLUMN @extschema@.integration_external_relations.connection_id IS 'Connection that it was read through';
COMMENT ON COLUMN @extschema@.integration_external_relations.namespace_id IS 'Namespace of that connection';
COMMENT ON COLUMN @extschema@.integration_external_relations.external_id IS 'Key there (sys_id on ServiceNow)';
COMMENT ON COLUMN @extschema@.integration_external_relations.type_id IS 'Its type, a sys_id of cmdb_rel_type';
COMMENT ON COLUMN @extschema@.integration_external_relations.parent_id IS 'Its parent there';
COMMENT ON COLUMN @extschema@.integration_external_relations.parent_name IS 'Name of that, where it was read';
COMMENT ON COLUMN @extschema@.integration_external_relations.parent_class IS 'Class of that';
COMMENT ON COLUMN @extschema@.integration_external_relations.child_id IS 'Its child there';
COMMENT ON COLUMN @extschema@.integration_external_relations.child_name IS 'Name of that, where it was read';
COMMENT ON COLUMN @extschema@.integration_external_relations.child_class IS 'Class of that';
COMMENT ON COLUMN @extschema@.integration_external_relations.first_seen IS 'When it was read first';
COMMENT ON COLUMN @extschema@.integration_external_relations.last_seen IS 'When it was read last';
COMMENT ON COLUMN @extschema@.integration_external_relations.last_changed IS 'When a reading last differed from the one before';
COMMENT ON COLUMN @extschema@.integration_external_relations.updated_there_at IS 'When it was changed last, by the platform''s clock';
COMMENT ON COLUMN @extschema@.integration_external_relations.updated_there_by IS 'Who changed it last there';

COMMENT ON TABLE @extschema@.integration_writers IS
'Where records are written here that were changed on the platform. Set by itsm_set_writer() and itsm_attach_getinsync()';
COMMENT ON COLUMN @extschema@.integration_writers.id IS 'Identifies the row';
COMMENT ON COLUMN @extschema@.integration_writers.namespace_id IS 'Namespace of its connection; null: for all';
COMMENT ON COLUMN @extschema@.integration_writers.connection_id IS 'Connection that it is for; null: all';
COMMENT ON COLUMN @extschema@.integration_writers.entity_type IS 'What it writes';
COMMENT ON COLUMN @extschema@.integration_writers.relation IS 'Table or view of the user''s that holds the records';
COMMENT ON COLUMN @extschema@.integration_writers.key_column IS 'Column that holds the key, as the source gives it';
COMMENT ON COLUMN @extschema@.integration_writers.columns IS 'Field of the platform to column, or to column and an expression over value';
COMMENT ON COLUMN @extschema@.integration_writers.changed_column IS 'Column that says when a row was changed last; null: none does';
COMMENT ON COLUMN @extschema@.integration_writers.origin IS 'user, or getinsync: stored by itsm_attach_getinsync()';
COMMENT ON COLUMN @extschema@.integration_writers.updated_at IS 'When it was set';

COMMENT ON TABLE @extschema@.integration_intakes IS
'Where servers and computers of the platform are taken over into tables here. Set by itsm_set_intake() and itsm_attach_getinsync()';
COMMENT ON COLUMN @extschema@.integration_intakes.id IS 'Identifies the row';
COMMENT ON COLUMN @extschema@.integration_intakes.namespace_id IS 'Namespace of its connection; null: for all';
COMMENT ON COLUMN @extschema@.integration_intakes.connection_id IS 'Connection that it is for; null: all';
COMMENT ON COLUMN @extschema@.integration_intakes.kind IS 'What it takes over: server or computer';
COMMENT ON COLUMN @extschema@.integration_intakes.relation IS 'Table or view of the user''s that rows are added to and changed in';
COMMENT ON COLUMN @extschema@.integration_intakes.key_column IS 'Column that identifies a row; its default fills it';
COMMENT ON COLUMN @extschema@.integration_intakes.columns IS 'Field of the platform to column, or to column and an expression over value and record';
COMMENT ON COLUMN @extschema@.integration_intakes.namespace_column IS 'Column that holds the namespace; null: the table has none';
COMMENT ON COLUMN @extschema@.integration_intakes.gone IS 'Column and value that mark a row whose record is gone there, and the value when it is back; null: it stays as it is';
COMMENT ON COLUMN @extschema@.integration_intakes.links IS 'Table that links rows to records of ours, its columns, and the relationship types there that it follows; null: none';
COMMENT ON COLUMN @extschema@.integration_intakes.origin IS 'user, or getinsync: stored by itsm_attach_getinsync()';
COMMENT ON COLUMN @extschema@.integration_intakes.updated_at IS 'When it was set';

COMMENT ON TABLE @extschema@.integration_intake_map IS
'Which row here is which record there, of what is taken over. Nothing of it is published: it is apart from integration_sync_map';
COMMENT ON COLUMN @extschema@.integration_intake_map.connection_id IS 'Connection that it was read through';
COMMENT ON COLUMN @extschema@.integration_intake_map.namespace_id IS 'Namespace of that connection; row-level security looks at it';
COMMENT ON COLUMN @extschema@.integration_intake_map.external_id IS 'Key there (sys_id on ServiceNow)';
COMMENT ON COLUMN @extschema@.integration_intake_map.external_table IS 'Class there';
COMMENT ON COLUMN @extschema@.integration_intake_map.kind IS 'As in integration_intakes';
COMMENT ON COLUMN @extschema@.integration_intake_map.name IS 'Name there';
COMMENT ON COLUMN @extschema@.integration_intake_map.key IS 'Key of its row here; null: it has none yet';
COMMENT ON COLUMN @extschema@.integration_intake_map.state IS 'linked; waits: ambiguous, and left alone; gone: not there any more, or retired; left: its row here was deleted';
COMMENT ON COLUMN @extschema@.integration_intake_map.note IS 'Why it waits, was left, or counts as gone';
COMMENT ON COLUMN @extschema@.integration_intake_map.created_by_us IS 'Was the row here added by a reading';
COMMENT ON COLUMN @extschema@.integration_intake_map.applied IS 'What was taken over last, by column: only what differs from it was changed there';
COMMENT ON COLUMN @extschema@.integration_intake_map.hash IS 'What was read last, in short';
COMMENT ON COLUMN @extschema@.integration_intake_map.links IS 'Records of ours that it was linked to, by key: linked, or gone (not related there any more)';
COMMENT ON COLUMN @extschema@.integration_intake_map.taken_at IS 'When it was met first';
COMMENT ON COLUMN @extschema@.integration_intake_map.updated_at IS 'When this row was changed last';
