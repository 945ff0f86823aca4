/*
 * servicenow_dryrun.c
 *	  What identification and reconciliation would do, without its doing it.
 *
 * The payload is the one that would be sent (servicenow_ire.c), the endpoint
 * another (servicenow-api 5.1).  A dry run is a look-up: its keys are native
 * keys, its documents the records, its rows what became of each of them.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include "servicenow.h"

#define DRY_RUN_PATH "/api/now/identifyreconcile/queryEnhanced"

/* An answer tells of a CI how it was found, in a few hundred bytes; more than this is not looked at. */
#define MAX_WORDS 500

/* Reads a record's document into the item that would be claimed for it. */
static void
read_document(const AdapterLookup *lookup, int i, AdapterItem *item)
{
	const char *text = lookup->documents != NULL ? lookup->documents[i] : NULL;
	const char *reason = NULL;
	JsonDoc	   *doc = text != NULL ? json_doc_parse(text, strlen(text), &reason) : NULL;

	memset(item, 0, sizeof(*item));
	item->item_id = i;
	item->native_key = lookup->keys[i];
	item->entity_type = "";
	item->action = "CREATE";
	item->attempts = 1;
	if (doc == NULL)
		return;
	if (json_text(doc->root, "entity_type") != NULL)
		item->entity_type = json_text(doc->root, "entity_type");
	item->external_table = json_text(doc->root, "class");
	item->external_id = json_text(doc->root, "external_id");
	if (item->external_id != NULL)
		item->action = "UPDATE";
	if (json_is_object(json_member(doc->root, "payload")))
		item->payload = json_print(json_member(doc->root, "payload"));
}

static AdapterItem *
read_documents(const AdapterLookup *lookup)
{
	AdapterItem *items = palloc(sizeof(AdapterItem) * Max(lookup->nkeys, 1));

	for (int i = 0; i < lookup->nkeys; i++)
		read_document(lookup, i, &items[i]);
	return items;
}

/* The request for one look-up: nused is 1, whatever of its records fits. */
void
servicenow_dryrun_build(const AdapterConnection *conn, const AdapterLookup *lookup, AdapterRequest *request)
{
	if (lookup->nkeys == 0)
		servicenow_request_nothing(request);
	else
		servicenow_ire_build(conn, read_documents(lookup), lookup->nkeys, request);
	if (request->body != NULL)
		request->path = psprintf("%s%s", DRY_RUN_PATH, strchr(request->path, '?'));
	request->nused = 1;
	request->writes = false;
}

/* ---------------------------------------------------------------- reading */

/* The columns by which a CI was found, as the last attempt that matched names them. */
static void
append_found_by(StringInfo attrs, struct json_object *result)
{
	struct json_object *attempts = json_member(result, "identificationAttempts");
	StringInfoData		columns;

	initStringInfo(&columns);
	for (int i = 0; i < json_count(attempts); i++)
	{
		struct json_object *attempt = json_item(attempts, i);
		struct json_object *names = json_member(attempt, "attributes");
		const char		   *outcome = json_scalar(attempt, "attemptResult");

		if (outcome == NULL || strcmp(outcome, "MATCHED") != 0)
			continue;
		resetStringInfo(&columns);
		for (int j = 0; j < json_count(names) && columns.len < MAX_WORDS; j++)
		{
			const char *name = json_value_text(json_item(names, j));

			appendStringInfo(&columns, "%s%s", columns.len > 0 ? ", " : "", name != NULL ? name : "?");
		}
	}
	if (columns.len > 0)
		json_append_member(attrs, "found_by", columns.data);
	if (servicenow_ire_by_native_key(result))
		json_append_member(attrs, "native", "true");
}

static void
append_masked(StringInfo attrs, struct json_object *result)
{
	struct json_object *masked = json_member(result, "maskedAttributes");
	StringInfoData		names;

	if (json_count(masked) == 0)
		return;
	initStringInfo(&names);
	for (int i = 0; i < json_count(masked); i++)
	{
		const char *name = json_value_text(json_item(masked, i));

		if (name != NULL)
			appendStringInfo(&names, "%s%s", names.len > 0 ? "," : "", name);
	}
	json_append_member(attrs, "masked", names.data);
}

/* What would become of a record as members of an object: error, message, outcome; or how it is found and what is masked. */
static void
append_verdict(StringInfo attrs, struct json_object *result)
{
	AdapterOutcome outcome = {0};

	if (!servicenow_ire_errors(result, &outcome))
	{
		append_found_by(attrs, result);
		append_masked(attrs, result);
		return;
	}
	json_append_member(attrs, "error", json_to_utf8(outcome.error_class));
	json_append_member(attrs, "message", json_to_utf8(outcome.message));
	json_append_member(attrs, "outcome", outcome.kind == OUTCOME_RETRY ? "retry" : "dead");
}

/* More than one record of ours in one result: they would become one CI. */
static bool
is_merged(const ServicenowCargo *cargo, struct json_object *result)
{
	struct json_object *indices = json_member(result, "inputIndices");
	int					records = 0;

	for (int i = 0; i < json_count(indices); i++)
		records += json_value_int(json_item(indices, i), -1) < cargo->nrecords;
	return records > 1;
}

static void
read_result(const ServicenowCargo *cargo, int i, struct json_object *result, AdapterLookupRow *row)
{
	const char	  *operation = json_scalar(result, "operation");
	const char	  *sys_id = json_scalar(result, "sysId");
	bool		   made = operation != NULL && strncmp(operation, "INSERT", strlen("INSERT")) == 0;
	StringInfoData attrs;

	initStringInfo(&attrs);
	appendStringInfoChar(&attrs, '{');
	append_verdict(&attrs, result);
	if (is_merged(cargo, result))
		json_append_member(&attrs, "merged", "true");
	appendStringInfoChar(&attrs, '}');
	row->key = json_to_server(cargo->items[i].native_key);
	/* an id that a dry run gives to what it would make is nobody's (servicenow-api 5.5) */
	if (!made && servicenow_query_is_sys_id(sys_id))
		row->external_id = json_to_server(sys_id);
	row->external_table = servicenow_answer_table(json_scalar(result, "className"), cargo->items[i].external_table);
	row->label = operation != NULL && operation[0] != '\0' ? json_to_server(operation) : NULL;
	row->attrs = json_to_server(attrs.data);
}

/* A record that must not be sent at all. */
static void
read_refused(const ServicenowCargo *cargo, int i, AdapterLookupRow *row)
{
	StringInfoData attrs;

	initStringInfo(&attrs);
	appendStringInfoChar(&attrs, '{');
	json_append_member(&attrs, "error", cargo->places[i].payload.refusal_class);
	json_append_member(&attrs, "message", cargo->places[i].payload.refusal);
	json_append_member(&attrs, "outcome", "dead");
	appendStringInfoChar(&attrs, '}');
	row->key = json_to_server(cargo->items[i].native_key);
	row->external_table =
		cargo->items[i].external_table != NULL ? json_to_server(cargo->items[i].external_table) : NULL;
	row->attrs = json_to_server(attrs.data);
}

static void
read_results(const ServicenowCargo *cargo, struct json_object *root, AdapterLookupResult *found)
{
	struct json_object **results = servicenow_ire_results(json_path(root, "result.items"), cargo->nslots);

	for (int i = 0; i < cargo->nitems; i++)
	{
		const ServicenowPlace *place = &cargo->places[i];
		struct json_object	  *result = place->slot >= 0 ? results[cargo->slots[place->slot].position] : NULL;
		AdapterLookupRow	  *row = &found->rows[found->nrows];

		memset(row, 0, sizeof(*row));
		if (place->state != CARGO_TRAVELS)
			read_refused(cargo, i, row);
		else if (result != NULL)
			read_result(cargo, i, result, row);
		else
			continue;
		found->nrows++;
	}
}

/*
 * One row a record that the answer tells of; without one, the answer does not
 * mention it.  The verdict is about the request.
 */
ResponseVerdict
servicenow_dryrun_read(const AdapterConnection *conn, const AdapterLookup *lookup, const AdapterResponse *response,
					   AdapterLookupResult *found, AdapterReport *report)
{
	AdapterItem		*items = read_documents(lookup);
	AdapterRequest	 request = {0};
	ServicenowCargo *cargo;
	ServicenowAnswer answer = {.verdict = RESPONSE_READABLE};

	found->kinds[0] = OUTCOME_DONE;
	if (lookup->nkeys == 0)
		return RESPONSE_READABLE;
	/* what travelled is what building says */
	servicenow_ire_build(conn, items, lookup->nkeys, &request);
	cargo = servicenow_cargo_new(conn, items, request.nused);
	for (int i = 0; i < request.nused; i++)
		servicenow_cargo_load(cargo);
	servicenow_cargo_close(cargo);
	found->rows = palloc(sizeof(AdapterLookupRow) * Max(request.nused, 1));
	if (cargo->nslots > 0)
		servicenow_answer_whole(response, "Identification and Reconciliation", lookup->nkeys, &answer);
	if (answer.verdict == RESPONSE_READABLE && cargo->nslots > 0 && !json_is_object(json_member(answer.root, "result")))
		servicenow_answer_unusable(&answer, "the answer has no result");
	report->error_class = answer.error_class;
	report->message = answer.message;
	if (answer.verdict == RESPONSE_READABLE)
		read_results(cargo, answer.root, found);
	return answer.verdict;
}
