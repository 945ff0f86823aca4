/*
 * servicenow_relation.c
 *	  Relationships through Identification and Reconciliation
 *	  (servicenow-api 5.2, 5.5).
 *
 * The ends stand in the payload as items of class and sys_id and nothing else,
 * each once, so that no CI is written twice by payloads in flight.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include "servicenow.h"

/* The CIs of a payload; ends[2*i] and ends[2*i+1] are item i's parent and child, -1 if it was refused. */
typedef struct Ends
{
	int			 ncis;
	const char **sys_ids;
	const char **classes;
	int			*ends;
} Ends;

static Ends *
ends_new(int nitems)
{
	Ends *ends = palloc0(sizeof(Ends));

	ends->sys_ids = palloc(sizeof(char *) * nitems * 2);
	ends->classes = palloc(sizeof(char *) * nitems * 2);
	ends->ends = palloc(sizeof(int) * nitems * 2);
	return ends;
}

/* Position of a CI; the last ones are the likeliest, as items come sorted by parent. */
static int
find_ci(const Ends *ends, const char *sys_id)
{
	for (int i = ends->ncis - 1; i >= 0; i--)
	{
		if (strcmp(ends->sys_ids[i], sys_id) == 0)
			return i;
	}
	return -1;
}

static int
find_or_add_ci(Ends *ends, const char *sys_id, const char *class_name)
{
	int at = find_ci(ends, sys_id);

	if (at >= 0)
		return at;
	ends->sys_ids[ends->ncis] = sys_id;
	ends->classes[ends->ncis] = class_name != NULL ? class_name : "cmdb_ci";
	return ends->ncis++;
}

/* How many CIs an item would add. */
static int
new_cis(const Ends *ends, const AdapterItem *item)
{
	return (find_ci(ends, item->parent_external_id) < 0 ? 1 : 0) + (find_ci(ends, item->child_external_id) < 0 ? 1 : 0);
}

static void
add_ends(Ends *ends, const AdapterItem *item, int i)
{
	ends->ends[2 * i] = find_or_add_ci(ends, item->parent_external_id, item->parent_table);
	ends->ends[2 * i + 1] = find_or_add_ci(ends, item->child_external_id, item->child_table);
}

/*
 * Neither class nor values of an end are in question here: a CI whose class
 * was changed there keeps it (servicenow-api 5.7).
 */
static void
append_ci(StringInfo buf, const char *sys_id, const char *class_name)
{
	json_append_comma(buf);
	appendStringInfoChar(buf, '{');
	json_append_member(buf, "className", class_name);
	json_append_member(buf, "internal_id", sys_id);
	appendStringInfoString(buf, ",\"values\":{");
	json_append_member(buf, "sys_id", sys_id);
	appendStringInfoString(buf, "},\"settings\":{\"updateWithoutUpgrade\":true,\"updateWithoutDowngrade\":true,"
								"\"updateWithoutSwitch\":true}}");
}

static void
append_relation(StringInfo buf, const AdapterConnection *conn, const AdapterItem *item, int parent, int child)
{
	appendStringInfo(buf, "{\"parent\":%d,\"child\":%d", parent, child);
	json_append_member(buf, "type", item->rel_type);
	appendStringInfoString(buf, ",\"sys_rel_source_info\":{");
	json_append_member(buf, "source_name", conn->source_name);
	json_append_member(buf, "source_feed", item->entity_type);
	appendStringInfoString(buf, "}}");
}

/* Bytes of a CI in the payload, over its two texts, generously. */
#define CI_BYTES 200

/* Fills the request with as many relationships as fit: CIs by number, all by bytes (design section 14). */
void
servicenow_relation_build(const AdapterConnection *conn, const AdapterItem *items, int nitems, AdapterRequest *request)
{
	int			   limit = Max(servicenow_limit(conn, "batch_items", 500, 500), 2);
	int			   bytes = servicenow_limit(conn, "batch_bytes", 4000000, 9000000);
	int			   count = 0;
	Ends		  *ends = ends_new(nitems);
	StringInfoData body;
	StringInfoData relations;

	initStringInfo(&body);
	initStringInfo(&relations);
	appendStringInfoChar(&relations, '[');
	for (request->nused = 0; request->nused < nitems; request->nused++)
	{
		const AdapterItem *item = &items[request->nused];

		if (servicenow_payload_refused(conn, item, NULL))
			continue;
		if (count > 0 &&
			(ends->ncis + new_cis(ends, item) > limit || relations.len + (ends->ncis + 3) * CI_BYTES > bytes))
			break;
		add_ends(ends, item, request->nused);
		json_append_comma(&relations);
		append_relation(&relations, conn, item, ends->ends[2 * request->nused], ends->ends[2 * request->nused + 1]);
		count++;
	}
	appendStringInfoString(&body, "{\"items\":[");
	for (int i = 0; i < ends->ncis; i++)
		append_ci(&body, ends->sys_ids[i], ends->classes[i]);
	appendStringInfo(&body, "],\"relations\":%s]}", relations.data);
	if (count == 0)
		servicenow_request_nothing(request);
	else
		servicenow_ire_request(conn, &body, request);
}

/* ---------------------------------------------------------------- reading */

/* A relationship that did not come about because of an end says what ails the end. */
static bool
blame_end(struct json_object **cis, const int *ends, AdapterOutcome *outcome)
{
	static const char *const words[] = {"its parent", "its child"};

	for (int i = 0; i < 2; i++)
	{
		struct json_object *ci = cis[ends[i]];

		if (ci == NULL || !servicenow_ire_errors(ci, outcome))
			continue;
		outcome->message = psprintf("%s was refused: %s", words[i], outcome->message);
		return true;
	}
	return false;
}

static void
read_relation(struct json_object *result, struct json_object **cis, const int *ends, AdapterOutcome *outcome)
{
	const char *operation = json_scalar(result, "operation");
	const char *sys_id = json_scalar(result, "sysId");

	outcome->excerpt = servicenow_answer_excerpt(result);
	if (result != NULL && servicenow_ire_errors(result, outcome))
	{
		if (strcmp(outcome->error_class, "ABANDONED") == 0)
			blame_end(cis, ends, outcome);
		return;
	}
	if (operation == NULL)
	{
		if (!blame_end(cis, ends, outcome))
			servicenow_answer_fail(outcome, OUTCOME_RETRY, "NO_ANSWER", "the answer does not mention it");
		return;
	}
	if (strncmp(operation, "INSERT_", strlen("INSERT_")) == 0)
	{
		servicenow_answer_fail(outcome, OUTCOME_DEAD, json_to_server(operation),
							   "the platform parked it as incomplete and made no relationship");
		return;
	}
	outcome->kind = strcmp(operation, "NO_CHANGE") == 0 ? OUTCOME_UNCHANGED : OUTCOME_DONE;
	if (outcome->kind == OUTCOME_DONE)
		outcome->operation = strcmp(operation, "INSERT") == 0 ? "create" : "update";
	outcome->external_table = "cmdb_rel_ci";
	if (servicenow_query_is_sys_id(sys_id))
		outcome->external_id = json_to_server(sys_id);
}

/* Fills the outcomes of all relationships that were not refused before sending. */
void
servicenow_relation_read(const AdapterConnection *conn, const AdapterItem *items, int nitems, struct json_object *root,
						 AdapterOutcome *outcomes)
{
	Ends				*ends = ends_new(nitems);
	int					*inputs = palloc(sizeof(int) * nitems);
	int					 ninputs = 0;
	struct json_object **relations;
	struct json_object **cis;

	for (int i = 0; i < nitems; i++)
	{
		inputs[i] = -1;
		if (servicenow_payload_refused(conn, &items[i], &outcomes[i]))
			continue;
		add_ends(ends, &items[i], i);
		inputs[i] = ninputs++;
	}
	relations = servicenow_ire_results(json_path(root, "result.relations"), ninputs);
	cis = servicenow_ire_results(json_path(root, "result.items"), ends->ncis);
	for (int i = 0; i < nitems; i++)
	{
		if (inputs[i] >= 0)
			read_relation(relations[inputs[i]], cis, &ends->ends[2 * i], &outcomes[i]);
	}
}
