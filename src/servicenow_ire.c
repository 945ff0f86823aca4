/*
 * servicenow_ire.c
 *	  Identification and Reconciliation: CIs and the relationships between
 *	  them in one payload, and what became of each CI (servicenow-api 5).
 *
 * HTTP 200 means nothing here: every result item is read on its own, found by
 * inputIndices.  What became of relationships is servicenow_relation.c.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "servicenow.h"

/* Nothing refused may be parked there and merged later (design section 7). */
#define IRE_OPTIONS "partial_payloads:false,partial_commits:true,deduplicate_payloads:true,generate_summary:true"

/* --------------------------------------------------------------- building */

static void
fill_request(const AdapterConnection *conn, StringInfo body, AdapterRequest *request)
{
	StringInfoData path;

	initStringInfo(&path);
	appendStringInfoString(&path, "/api/now/identifyreconcile/enhanced?sysparm_data_source=");
	servicenow_query_encode(&path, conn->source_name);
	appendStringInfoString(&path, "&options=");
	servicenow_query_encode(&path, IRE_OPTIONS);
	request->method = "POST";
	request->api = "identifyreconcile";
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

/*
 * Neither class nor values of an end are in question here: a CI whose class
 * was changed there keeps it (servicenow-api 5.7).
 */
static void
append_reference(StringInfo buf, const ServicenowSlot *slot)
{
	json_append_comma(buf);
	appendStringInfoChar(buf, '{');
	json_append_member(buf, "className", slot->class_name);
	json_append_member(buf, "internal_id", slot->sys_id);
	appendStringInfoString(buf, ",\"values\":{");
	json_append_member(buf, "sys_id", slot->sys_id);
	appendStringInfoString(buf, "},\"settings\":{\"updateWithoutUpgrade\":true,\"updateWithoutDowngrade\":true,"
								"\"updateWithoutSwitch\":true}}");
}

/* Bytes of a reference with its texts, and of a relationship without its kind, generously. */
#define REFERENCE_BYTES 300
#define RELATION_BYTES 32

/* The part of a relationship that is the same for all of its kind; they come in long rows. */
typedef struct KindText
{
	const AdapterItem *of;
	StringInfoData	   text;
} KindText;

static const StringInfoData *
kind_text(KindText *kind, const AdapterConnection *conn, const AdapterItem *item)
{
	if (kind->of != NULL && strcmp(kind->of->entity_type, item->entity_type) == 0 &&
		strcmp(kind->of->rel_type, item->rel_type) == 0)
		return &kind->text;
	if (kind->of == NULL)
		initStringInfo(&kind->text);
	kind->of = item;
	resetStringInfo(&kind->text);
	appendStringInfoString(&kind->text, ",\"type\":");
	json_append_string(&kind->text, item->rel_type);
	appendStringInfoString(&kind->text, ",\"sys_rel_source_info\":{");
	json_append_member(&kind->text, "source_name", conn->source_name);
	json_append_member(&kind->text, "source_feed", item->entity_type);
	appendStringInfoString(&kind->text, "}}");
	return &kind->text;
}

static void
append_number(StringInfo buf, int number)
{
	char digits[12];

	appendBinaryStringInfo(buf, digits, pg_ltoa(number, digits));
}

static void
append_relations(StringInfo buf, const ServicenowCargo *cargo)
{
	KindText kind = {0};

	for (int i = 0; i < cargo->nitems; i++)
	{
		const ServicenowPlace *place = &cargo->places[i];
		const StringInfoData  *text;

		if (place->state != CARGO_TRAVELS || place->child < 0)
			continue;
		text = kind_text(&kind, cargo->conn, &cargo->items[i]);
		json_append_comma(buf);
		appendStringInfoString(buf, "{\"parent\":");
		append_number(buf, cargo->slots[place->slot].position);
		appendStringInfoString(buf, ",\"child\":");
		append_number(buf, cargo->slots[place->child].position);
		appendBinaryStringInfo(buf, text->data, text->len);
	}
}

/* A payload while it is being filled. */
typedef struct Filling
{
	ServicenowCargo *cargo;
	int				 max_cis;
	int				 max_bytes;
	int				 relation_bytes;
	KindText		 kind;
	int				*lengths; /* of the text before each item */
	StringInfoData	 body;	  /* the records */
} Filling;

static bool
is_too_much(const Filling *filling)
{
	const ServicenowCargo *cargo = filling->cargo;
	int64				   references = cargo->nslots - cargo->nrecords;

	return cargo->nslots > filling->max_cis ||
		   filling->body.len + references * REFERENCE_BYTES + filling->relation_bytes > filling->max_bytes;
}

static void
print_item(Filling *filling, int i)
{
	const ServicenowCargo *cargo = filling->cargo;
	const AdapterItem	  *item = &cargo->items[i];
	const ServicenowPlace *place = &cargo->places[i];

	if (place->state != CARGO_TRAVELS)
		return;
	if (place->child >= 0)
		filling->relation_bytes += RELATION_BYTES + kind_text(&filling->kind, cargo->conn, item)->len;
	else
	{
		json_append_comma(&filling->body);
		append_item(&filling->body, cargo->conn, item, &place->payload);
	}
}

/*
 * Where to cut if item i does not fit: before the first item of its bundle, so
 * that an application and what belongs to it travel together, unless the
 * bundle is all there is.
 */
static int
cut_before(const Filling *filling, const AdapterItem *items, int i)
{
	int first = i;

	while (items[i].bundle != 0 && first > 0 && items[first - 1].bundle == items[i].bundle)
		first--;
	return first > 0 && (filling->cargo->places[first].slots_before > 0) ? first : i;
}

/* Loads and prints items until one does not fit.  The first that can travel always does. */
static void
fill(Filling *filling, const AdapterItem *items, int nitems)
{
	ServicenowCargo *cargo = filling->cargo;

	for (int i = 0; i < nitems; i++)
	{
		filling->lengths[i] = filling->body.len;
		if (servicenow_cargo_load(cargo) == CARGO_STRANDED && i > 0)
		{
			servicenow_cargo_unload(cargo, i);
			return;
		}
		print_item(filling, i);
		if (cargo->places[i].slots_before > 0 && is_too_much(filling))
		{
			servicenow_cargo_unload(cargo, cut_before(filling, items, i));
			filling->body.len = filling->lengths[cargo->nitems];
			return;
		}
	}
}

/* Fills the request with as many of the items as fit; nused counts those that do not travel, too. */
void
servicenow_ire_build(const AdapterConnection *conn, const AdapterItem *items, int nitems, AdapterRequest *request)
{
	Filling			 filling = {0};
	ServicenowCargo *cargo = servicenow_cargo_new(conn, items, nitems);

	filling.cargo = cargo;
	filling.max_cis = payload_limit(conn, items);
	filling.max_bytes = servicenow_limit(conn, "batch_bytes", 4000000, 9000000);
	filling.lengths = palloc(sizeof(int) * nitems);
	initStringInfo(&filling.body);
	appendStringInfoString(&filling.body, "{\"items\":[");
	fill(&filling, items, nitems);
	request->nused = cargo->nitems;
	if (cargo->nslots == 0)
	{
		servicenow_request_nothing(request);
		return;
	}
	servicenow_cargo_close(cargo);
	for (int i = 0; i < cargo->nslots; i++)
	{
		if (cargo->slots[i].record < 0)
			append_reference(&filling.body, &cargo->slots[i]);
	}
	appendStringInfoString(&filling.body, "],\"relations\":[");
	append_relations(&filling.body, cargo);
	appendStringInfoString(&filling.body, "]}");
	fill_request(conn, &filling.body, request);
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
			int64 index = json_value_int(json_item(indices, j), -1);

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

/* Sets the outcome if the result has errors (servicenow-api 5.6). */
bool
servicenow_ire_errors(struct json_object *result, AdapterOutcome *outcome)
{
	struct json_object *errors = json_member(result, "errors");
	struct json_object *error;
	const char		   *code;
	const char		   *words;
	const char		   *hint = "";

	if (json_count(errors) == 0 && json_int(result, "errorCount", 0) <= 0)
		return false;
	error = primary_error(errors);
	code = json_scalar(error, "error");
	words = json_scalar(error, "message");
	if (code == NULL || code[0] == '\0')
		code = "UNKNOWN_ERROR";
	if (words != NULL && strstr(words, "data source") != NULL)
		hint = " (itsm_prepare_instance() registers the data source)";
	servicenow_answer_rule(outcome, "ire", json_to_server(code),
						   adapter_text("%s: %s%s", code, words ? words : "no message", hint));
	return true;
}

/* Was it found by our own native key? */
bool
servicenow_ire_by_native_key(struct json_object *result)
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
	if (!servicenow_is_creation(item) || item->attempts < 2 || !servicenow_ire_by_native_key(result))
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

/*
 * What the engine says that it did, as an outcome; false, with the outcome
 * set, if that is no success.
 */
bool
servicenow_ire_operation(const char *operation, AdapterOutcome *outcome)
{
	const AdapterRule *rule = servicenow_rule("ire", operation);

	outcome->kind = adapter_rule_kind(rule);
	if (outcome->kind == OUTCOME_DONE || outcome->kind == OUTCOME_UNCHANGED)
	{
		outcome->operation = operation_word(operation);
		return true;
	}
	if (strcmp(rule->match, "*") == 0)
		servicenow_answer_rule(outcome, "ire", "UNKNOWN_OPERATION",
							   adapter_text("the platform did \"%s\", which was not asked", operation));
	else
		servicenow_answer_rule(outcome, "ire", rule->match, NULL);
	return false;
}

/* Fields that a reconciliation rule keeps for another source (servicenow-api 5.4). */
static void
read_masked(const ServicenowPayload *payload, struct json_object *result, AdapterOutcome *outcome)
{
	struct json_object *masked = json_member(result, "maskedAttributes");
	StringInfoData		object;
	StringInfoData		words;

	if (json_count(masked) == 0)
		return;
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
	adapter_add_text(&outcome->message, adapter_text("another data source owns there: %s", words.data));
}

static void
read_remarks(const ServicenowPayload *payload, struct json_object *result, AdapterOutcome *outcome)
{
	const char *warning = json_scalar(json_item(json_member(result, "warnings"), 0), "message");
	const char *info = json_scalar(json_item(json_member(result, "info"), 0), "message");

	if (payload->dropped != NULL)
		adapter_add_text(&outcome->message, adapter_text("never sent: %s", payload->dropped));
	read_masked(payload, result, outcome);
	if (warning != NULL)
		adapter_add_text(&outcome->message, adapter_text("warning: %s", warning));
	if (info != NULL)
		adapter_add_text(&outcome->message, adapter_text("%s", info));
}

/* What the log keeps of a result that went well: what there is to wonder at, not how the CI was found. */
static const char *
short_excerpt(struct json_object *result, const char *operation, const AdapterOutcome *outcome)
{
	static const char *const remarks[] = {"maskedAttributes", "warnings", "info"};
	StringInfoData			 buf;
	bool					 any = false;

	for (int i = 0; i < (int) lengthof(remarks); i++)
		any = any || json_count(json_member(result, remarks[i])) > 0;
	if (!any)
		return psprintf("{\"operation\":\"%s\",\"sysId\":\"%s\"}", operation, outcome->external_id);
	initStringInfo(&buf);
	appendStringInfo(&buf, "{\"operation\":\"%s\",\"sysId\":\"%s\"", operation, outcome->external_id);
	for (int i = 0; i < (int) lengthof(remarks); i++)
	{
		struct json_object *remark = json_member(result, remarks[i]);

		if (json_count(remark) > 0)
			appendStringInfo(&buf, ",\"%s\":%s", remarks[i], json_print(remark));
	}
	appendStringInfoChar(&buf, '}');
	return buf.len <= ADAPTER_MAX_EXCERPT ? json_to_server(buf.data) : adapter_excerpt(result);
}

/* A result without errors: what was done, and to which CI? */
static void
read_success(const AdapterItem *item, const ServicenowPayload *payload, struct json_object *result,
			 AdapterOutcome *outcome)
{
	const char *operation = json_scalar(result, "operation");
	const char *sys_id = json_scalar(result, "sysId");

	if (operation == NULL || operation[0] == '\0')
		servicenow_answer_rule(outcome, "item", "NO_ANSWER", NULL);
	else if (!servicenow_ire_operation(operation, outcome))
		return;
	else if (!servicenow_query_is_sys_id(sys_id))
		servicenow_answer_rule(outcome, "item", "NO_ANSWER", NULL);
	else if (item->external_id != NULL && pg_strcasecmp(item->external_id, sys_id) != 0)
		servicenow_answer_rule(outcome, "item", "OTHER_RECORD",
							   adapter_text("the platform wrote to %s instead of %s", sys_id, item->external_id));
	else
	{
		outcome->external_id = json_to_server(sys_id);
		outcome->external_table = servicenow_answer_table(json_scalar(result, "className"), item->external_table);
		outcome->excerpt = short_excerpt(result, operation, outcome);
		read_repetition(item, result, outcome);
		read_remarks(payload, result, outcome);
	}
}

static void
read_item(const AdapterItem *item, const ServicenowPayload *payload, struct json_object *result,
		  AdapterOutcome *outcome)
{
	if (result == NULL)
	{
		servicenow_answer_rule(outcome, "batch", "NO_ANSWER", NULL);
		return;
	}
	if (!servicenow_ire_errors(result, outcome))
		read_success(item, payload, result, outcome);
	if (outcome->external_id != NULL)
		return;
	outcome->operation = NULL;
	outcome->excerpt = adapter_excerpt(result);
}

/* Who of two keeps a CI that both got: the one it was known for, else the one that made it. */
static int
claim_on_ci(const AdapterItem *item, const AdapterOutcome *outcome)
{
	if (item->external_id != NULL)
		return 2;
	return outcome->operation != NULL && strcmp(outcome->operation, "create") == 0 ? 1 : 0;
}

static void
lose_ci(const AdapterItem *keeper, AdapterOutcome *outcome)
{
	servicenow_answer_rule(
		outcome, "item", "MERGED",
		adapter_text("the platform took it for the same CI as %s: %s", keeper->native_key, outcome->external_id));
	outcome->operation = outcome->external_id = outcome->not_taken = NULL;
}

/*
 * Two records must never be one CI (design section 13): where the platform
 * merged them, by de-duplication or by name, only one of them keeps it.
 */
static void
part_merged(const ServicenowCargo *cargo, AdapterOutcome *outcomes)
{
	const AdapterItem *items = cargo->items;
	ServicenowIndex	  *keepers = servicenow_index_new(cargo->nrecords);

	for (int i = 0; i < cargo->nitems; i++)
	{
		int keeper;

		if (cargo->places[i].child >= 0 || outcomes[i].external_id == NULL || items[i].native_key == NULL)
			continue;
		keeper = servicenow_index_find(keepers, outcomes[i].external_id);
		if (keeper < 0 || strcmp(items[keeper].native_key, items[i].native_key) == 0)
			servicenow_index_set(keepers, outcomes[i].external_id, i);
		else if (claim_on_ci(&items[i], &outcomes[i]) > claim_on_ci(&items[keeper], &outcomes[keeper]))
		{
			servicenow_index_set(keepers, outcomes[i].external_id, i);
			lose_ci(&items[i], &outcomes[keeper]);
		}
		else
			lose_ci(&items[keeper], &outcomes[i]);
	}
}

/* Fills the outcomes of all items that travelled; the cargo is closed. */
void
servicenow_ire_read(const ServicenowCargo *cargo, struct json_object *root, AdapterOutcome *outcomes)
{
	struct json_object **by_input = servicenow_ire_results(json_path(root, "result.items"), cargo->nslots);

	for (int i = 0; i < cargo->nitems; i++)
	{
		const ServicenowPlace *place = &cargo->places[i];

		if (place->state == CARGO_TRAVELS && place->child < 0)
			read_item(&cargo->items[i], &place->payload, by_input[cargo->slots[place->slot].position], &outcomes[i]);
	}
	part_merged(cargo, outcomes);
	servicenow_relation_read(cargo, root, by_input, outcomes);
}
