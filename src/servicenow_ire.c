/*
 * servicenow_ire.c
 *	  Identification and Reconciliation: CIs in one payload, and what became
 *	  of each (servicenow-api 5).
 *
 * HTTP 200 means nothing here: every result item is read on its own, found by
 * inputIndices.  Relationships are servicenow_relation.c.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include "servicenow.h"

/* Nothing refused may be parked there and merged later (design section 7). */
#define IRE_OPTIONS "partial_payloads:false,partial_commits:true,deduplicate_payloads:true,generate_summary:true"

/* --------------------------------------------------------------- building */

/* Method, path and limits of a payload that stands in body. */
void
servicenow_ire_request(const AdapterConnection *conn, StringInfo body, AdapterRequest *request)
{
	StringInfoData path;

	initStringInfo(&path);
	appendStringInfoString(&path, "/api/now/identifyreconcile/enhanced?sysparm_data_source=");
	servicenow_query_encode(&path, conn->source_name);
	appendStringInfoString(&path, "&options=");
	servicenow_query_encode(&path, IRE_OPTIONS);
	request->method = "POST";
	request->path = path.data;
	request->content_type = "application/json";
	request->body = body->data;
	request->body_len = body->len;
	request->writes = true;
	request->timeout_ms = SERVICENOW_IRE_TIMEOUT;
}

/*
 * One CI.  No recency timestamp: with one, the platform may skip an item in
 * silence (servicenow-api 5.2).
 */
static void
append_item(StringInfo buf, const AdapterConnection *conn, const AdapterItem *item, const ServicenowPayload *payload)
{
	appendStringInfoChar(buf, '{');
	json_append_member(buf, "className", item->external_table);
	appendStringInfo(buf, ",\"internal_id\":\"" INT64_FORMAT "\",\"values\":{", item->item_id);
	servicenow_payload_append(buf, payload);
	if (item->external_id != NULL)
		json_append_member(buf, "sys_id", item->external_id);
	appendStringInfoChar(buf, '}');
	if (item->native_key != NULL)
	{
		appendStringInfoString(buf, ",\"sys_object_source_info\":{");
		json_append_member(buf, "source_name", conn->source_name);
		json_append_member(buf, "source_native_key", item->native_key);
		json_append_member(buf, "source_feed", item->entity_type);
		appendStringInfoChar(buf, '}');
	}
	if (!servicenow_is_creation(item))
		appendStringInfoString(buf, ",\"settings\":{\"updateWithoutDowngrade\":true}");
	appendStringInfoChar(buf, '}');
}

/*
 * What failed as a whole is sent in smaller parts, so that one record cannot
 * hold back the others of its payload for ever.
 */
static int
payload_limit(const AdapterConnection *conn, const AdapterItem *items)
{
	int limit = servicenow_limit(conn, "batch_items", 500, 500);

	if (items[0].attempts >= 6)
		limit /= 100;
	else if (items[0].attempts >= 4)
		limit /= 10;
	return Max(limit, 1);
}

/* Fills the request with as many of the items as fit; nused counts refused ones too. */
void
servicenow_ire_build(const AdapterConnection *conn, const AdapterItem *items, int nitems, AdapterRequest *request)
{
	int			   limit = payload_limit(conn, items);
	int			   bytes = servicenow_limit(conn, "batch_bytes", 4000000, 9000000);
	int			   count = 0;
	StringInfoData body;
	StringInfoData one;

	initStringInfo(&body);
	initStringInfo(&one);
	appendStringInfoString(&body, "{\"items\":[");
	for (request->nused = 0; request->nused < nitems; request->nused++)
	{
		const AdapterItem *item = &items[request->nused];
		ServicenowPayload  payload;

		servicenow_payload_open(conn, item, &payload);
		if (payload.refusal_class != NULL)
			continue;
		resetStringInfo(&one);
		append_item(&one, conn, item, &payload);
		if (count > 0 && (count >= limit || body.len + one.len + 16 > bytes))
			break;
		json_append_comma(&body);
		appendBinaryStringInfo(&body, one.data, one.len);
		count++;
	}
	appendStringInfoString(&body, "]}");
	if (count == 0)
		servicenow_request_nothing(request);
	else
		servicenow_ire_request(conn, &body, request);
}

/* ---------------------------------------------------------------- reading */

static bool
has_input_indices(struct json_object *result)
{
	return json_count(json_member(result, "inputIndices")) > 0;
}

static bool
says_nothing_was_written(struct json_object *result)
{
	return json_count(json_member(result, "errors")) > 0 || !servicenow_query_is_sys_id(json_scalar(result, "sysId"));
}

/*
 * The result of each input, by inputIndices; NULL where there is none.  Some
 * refusals come without indices (servicenow-api 5.5, the live sample): those
 * are taken by position, but never a success, whose order is not promised.
 */
struct json_object **
servicenow_ire_results(struct json_object *results, int ninputs)
{
	struct json_object **by_input = palloc0(sizeof(struct json_object *) * Max(ninputs, 1));
	int					 count = json_count(results);

	for (int i = 0; i < count; i++)
	{
		struct json_object *result = json_item(results, i);
		struct json_object *indices = json_member(result, "inputIndices");

		for (int j = 0; j < json_count(indices); j++)
		{
			const char *text = json_value_text(json_item(indices, j));
			int			index = text != NULL && text[0] >= '0' && text[0] <= '9' ? atoi(text) : -1;

			if (index >= 0 && index < ninputs)
				by_input[index] = result;
		}
		if (!has_input_indices(result) && count == ninputs && by_input[i] == NULL &&
			(ninputs == 1 || says_nothing_was_written(result)))
			by_input[i] = result;
	}
	return by_input;
}

/* The error that explains the others: not one that only follows from another item's. */
static struct json_object *
primary_error(struct json_object *errors)
{
	for (int i = 0; i < json_count(errors); i++)
	{
		const char *code = json_scalar(json_item(errors, i), "error");

		if (code == NULL || strcmp(code, "ABANDONED") != 0)
			return json_item(errors, i);
	}
	return json_item(errors, 0);
}

/*
 * Sets the outcome if the result has errors (servicenow-api 5.6).  Lock
 * time-outs pass, and what was abandoned for another item's sake may do better
 * in other company; everything else stays as it is.
 */
bool
servicenow_ire_errors(struct json_object *result, AdapterOutcome *outcome)
{
	struct json_object *errors = json_member(result, "errors");
	struct json_object *error = primary_error(errors);
	const char		   *code;
	const char		   *words;
	const char		   *hint = "";
	OutcomeKind			kind = OUTCOME_DEAD;

	if (json_count(errors) == 0 && json_int(result, "errorCount", 0) <= 0)
		return false;
	code = json_scalar(error, "error");
	words = json_scalar(error, "message");
	if (code == NULL || code[0] == '\0')
		code = "UNKNOWN_ERROR";
	if (strcmp(code, "LOCK_TIMEOUT") == 0 || strcmp(code, "ABANDONED") == 0)
		kind = OUTCOME_RETRY;
	if (words != NULL && strstr(words, "data source") != NULL)
		hint = " (itsm_prepare_instance() registers the data source)";
	servicenow_answer_fail(outcome, kind, json_to_server(code),
						   servicenow_answer_text("%s: %s%s", code, words ? words : "no message", hint));
	return true;
}

/* Was it found by our own native key? */
static bool
found_by_native_key(struct json_object *result)
{
	struct json_object *attempts = json_member(result, "identificationAttempts");

	for (int i = 0; i < json_count(attempts); i++)
	{
		const char *info = json_scalar(json_item(attempts, i), "info");
		const char *outcome = json_scalar(json_item(attempts, i), "attemptResult");

		if (info != NULL && strncmp(info, "sys_object_source", strlen("sys_object_source")) == 0)
			return outcome != NULL && strcmp(outcome, "MATCHED") == 0;
	}
	return false;
}

/*
 * A repeated creation that finds its own native key there: the plan did not,
 * so an earlier attempt made the CI and its answer was lost.
 */
static void
read_repetition(const AdapterItem *item, struct json_object *result, AdapterOutcome *outcome)
{
	if (!servicenow_is_creation(item) || item->attempts < 2 || !found_by_native_key(result))
		return;
	outcome->kind = OUTCOME_DONE;
	outcome->operation = "create";
	outcome->message = "an earlier attempt had arrived";
}

static const char *
operation_word(const char *operation)
{
	if (strcmp(operation, "INSERT") == 0)
		return "create";
	if (strncmp(operation, "UPDATE", strlen("UPDATE")) == 0)
		return "update";
	return NULL;
}

/* Fields that a reconciliation rule keeps for another source (servicenow-api 5.4). */
static void
read_masked(const ServicenowPayload *payload, struct json_object *result, AdapterOutcome *outcome)
{
	struct json_object *masked = json_member(result, "maskedAttributes");
	StringInfoData		object;
	StringInfoData		words;

	initStringInfo(&object);
	initStringInfo(&words);
	appendStringInfoChar(&object, '{');
	for (int i = 0; i < json_count(masked); i++)
	{
		const char *name = json_value_text(json_item(masked, i));
		const char *sent = name ? servicenow_payload_value(payload, name) : NULL;

		if (sent == NULL)
			continue;
		json_append_member(&object, name, sent);
		appendStringInfo(&words, "%s%s", words.len > 0 ? ", " : "", name);
	}
	if (words.len == 0)
		return;
	appendStringInfoChar(&object, '}');
	outcome->not_taken = json_to_server(object.data);
	servicenow_answer_add(&outcome->message, servicenow_answer_text("another data source owns there: %s", words.data));
}

static void
read_remarks(const ServicenowPayload *payload, struct json_object *result, AdapterOutcome *outcome)
{
	const char *warning = json_scalar(json_item(json_member(result, "warnings"), 0), "message");
	const char *info = json_scalar(json_item(json_member(result, "info"), 0), "message");

	if (payload->dropped != NULL)
		servicenow_answer_add(&outcome->message, servicenow_answer_text("never sent: %s", payload->dropped));
	read_masked(payload, result, outcome);
	if (warning != NULL)
		servicenow_answer_add(&outcome->message, servicenow_answer_text("warning: %s", warning));
	if (info != NULL)
		servicenow_answer_add(&outcome->message, servicenow_answer_text("%s", info));
}

/* A result without errors: what was done, and to which CI? */
static void
read_success(const AdapterItem *item, const ServicenowPayload *payload, struct json_object *result,
			 AdapterOutcome *outcome)
{
	const char *operation = json_scalar(result, "operation");
	const char *sys_id = json_scalar(result, "sysId");
	const char *class_name = json_scalar(result, "className");

	if (operation != NULL && strncmp(operation, "INSERT_", strlen("INSERT_")) == 0)
		servicenow_answer_fail(outcome, OUTCOME_DEAD, json_to_server(operation),
							   "the platform parked it as incomplete and made no CI");
	else if (operation == NULL || operation[0] == '\0' || !servicenow_query_is_sys_id(sys_id))
		servicenow_answer_fail(outcome, OUTCOME_RETRY, "NO_ANSWER", "the answer does not say what became of it");
	else if (item->external_id != NULL && pg_strcasecmp(item->external_id, sys_id) != 0)
		servicenow_answer_fail(
			outcome, OUTCOME_DEAD, "OTHER_RECORD",
			servicenow_answer_text("the platform wrote to %s instead of %s", sys_id, item->external_id));
	else if (operation_word(operation) == NULL && strcmp(operation, "NO_CHANGE") != 0)
		servicenow_answer_fail(outcome, OUTCOME_DEAD, "UNKNOWN_OPERATION",
							   servicenow_answer_text("the platform did \"%s\", which was not asked", operation));
	else
	{
		outcome->kind = operation_word(operation) != NULL ? OUTCOME_DONE : OUTCOME_UNCHANGED;
		outcome->operation = operation_word(operation);
		outcome->external_id = json_to_server(sys_id);
		outcome->external_table = servicenow_answer_table(class_name, item->external_table);
		read_repetition(item, result, outcome);
		read_remarks(payload, result, outcome);
	}
}

static void
read_item(const AdapterConnection *conn, const AdapterItem *item, struct json_object *result, AdapterOutcome *outcome)
{
	ServicenowPayload payload;

	if (result == NULL)
	{
		servicenow_answer_fail(outcome, OUTCOME_RETRY, "NO_ANSWER", "the answer does not mention it");
		return;
	}
	servicenow_payload_open(conn, item, &payload);
	if (!servicenow_ire_errors(result, outcome))
		read_success(item, &payload, result, outcome);
	outcome->excerpt = servicenow_answer_excerpt(result);
}

/* Who of two keeps a CI that both got: the one it was known for, else the one that made it. */
static int
claim_on_ci(const AdapterItem *item, const AdapterOutcome *outcome)
{
	if (item->external_id != NULL)
		return 2;
	return outcome->operation != NULL && strcmp(outcome->operation, "create") == 0 ? 1 : 0;
}

/*
 * Two records must never be one CI (design section 13): where the platform
 * merged them, by de-duplication or by name, only one of them keeps it.
 */
static void
part_merged(const AdapterItem *items, int nitems, AdapterOutcome *outcomes)
{
	for (int i = 1; i < nitems; i++)
	{
		for (int j = 0; j < i && outcomes[i].external_id != NULL; j++)
		{
			int loser = claim_on_ci(&items[i], &outcomes[i]) > claim_on_ci(&items[j], &outcomes[j]) ? j : i;

			if (outcomes[j].external_id == NULL || strcmp(outcomes[i].external_id, outcomes[j].external_id) != 0 ||
				items[i].native_key == NULL || items[j].native_key == NULL ||
				strcmp(items[i].native_key, items[j].native_key) == 0)
				continue;
			servicenow_answer_fail(&outcomes[loser], OUTCOME_DEAD, "MERGED",
								   servicenow_answer_text("the platform took it for the same CI as %s: %s",
														  items[loser == i ? j : i].native_key,
														  outcomes[loser].external_id));
			outcomes[loser].operation = outcomes[loser].external_id = outcomes[loser].not_taken = NULL;
		}
	}
}

/* Fills the outcomes of all items that were not refused before sending. */
void
servicenow_ire_read(const AdapterConnection *conn, const AdapterItem *items, int nitems, struct json_object *root,
					AdapterOutcome *outcomes)
{
	struct json_object **by_input;
	int					*inputs = palloc(sizeof(int) * nitems);
	int					 ninputs = 0;

	for (int i = 0; i < nitems; i++)
		inputs[i] = servicenow_payload_refused(conn, &items[i], &outcomes[i]) ? -1 : ninputs++;
	by_input = servicenow_ire_results(json_path(root, "result.items"), ninputs);
	for (int i = 0; i < nitems; i++)
	{
		if (inputs[i] >= 0)
			read_item(conn, &items[i], by_input[inputs[i]], &outcomes[i]);
	}
	part_merged(items, nitems, outcomes);
}
