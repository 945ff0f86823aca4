/*
 * adapter_servicenow.c
 *	  The ServiceNow adapter: which way each item travels, and what the answer
 *	  says about the request as a whole.
 *
 * Pure, as adapter.h demands; the ways themselves are servicenow_*.c.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include "servicenow.h"

#define MAX_LOOKUPS 50

typedef enum Route
{
	ROUTE_CIS,		 /* Identification and Reconciliation, items */
	ROUTE_RELATIONS, /* the same, relationships between known CIs */
	ROUTE_BATCH,	 /* Table API, many in a Batch */
	ROUTE_CALL,		 /* one call an item */
	ROUTE_RECHECK	 /* is it there? many in a Batch */
} Route;

static bool
is_one_of(const char *text, const char *const *list)
{
	for (; *list != NULL; list++)
	{
		if (strcmp(text, *list) == 0)
			return true;
	}
	return false;
}

bool
servicenow_is_ci(const char *entity_type)
{
	static const char *const types[] = {"application", "deployment_profile", "it_service", "software_package", NULL};

	return is_one_of(entity_type, types);
}

/* Relationships between CIs; what a contract covers is a row of another table. */
bool
servicenow_is_relation(const char *entity_type)
{
	static const char *const types[] = {"consumes", "depends_on", "runs_on", "sends_data_to", NULL};

	return is_one_of(entity_type, types);
}

bool
servicenow_is_creation(const AdapterItem *item)
{
	return strcmp(item->action, "CREATE") == 0 && item->external_id == NULL;
}

int
servicenow_limit(const AdapterConnection *conn, const char *name, int fallback, int high)
{
	int64 limit = json_int(conn->settings, name, fallback);

	return limit >= 1 && limit <= high ? (int) limit : fallback;
}

void
servicenow_request_nothing(AdapterRequest *request)
{
	request->method = "GET";
	request->path = servicenow_query_list_url("sys_properties", "name=instance_name", "name", 1);
	request->timeout_ms = SERVICENOW_TABLE_TIMEOUT;
	request->writes = false;
}

/* ------------------------------------------------------------------- routes */

static bool
by_ire(const AdapterConnection *conn)
{
	return strcmp(conn->write_api, "ire") == 0;
}

/*
 * Identification takes relationships between CIs only. A software model is
 * none (servicenow-api 10.4), so runs_on_as = relation writes its row straight
 * into cmdb_rel_ci.
 */
static bool
relation_by_ire(const AdapterConnection *conn, const char *entity_type)
{
	const char *runs_on_as = adapter_setting(conn, "runs_on_as");

	if (!by_ire(conn) || !servicenow_is_relation(entity_type))
		return false;
	return strcmp(entity_type, "runs_on") != 0 || runs_on_as == NULL || strcmp(runs_on_as, "relation") != 0;
}

/* What goes through identification may be repeated, and so may what names its record; a Table POST may not. */
static bool
idempotent(const AdapterConnection *conn, const char *entity_type, const char *action)
{
	if (strcmp(action, "CREATE") != 0 || servicenow_is_ci(entity_type))
		return true;
	return relation_by_ire(conn, entity_type);
}

static Route
route_of(const AdapterConnection *conn, const char *entity_type, const char *action, bool in_doubt)
{
	bool create = strcmp(action, "CREATE") == 0;

	if (in_doubt && !idempotent(conn, entity_type, action))
		return ROUTE_RECHECK;
	if (!by_ire(conn))
		return ROUTE_CALL;
	if (servicenow_is_ci(entity_type) && (create || strcmp(action, "UPDATE") == 0))
		return ROUTE_CIS;
	if (create && relation_by_ire(conn, entity_type))
		return ROUTE_RELATIONS;
	return ROUTE_BATCH;
}

/* A rate-limit rule is about one resource (servicenow-api 8). */
static const char *
api_name(const AdapterConnection *conn, const char *entity_type, const char *action, bool in_doubt)
{
	switch (route_of(conn, entity_type, action, in_doubt))
	{
		case ROUTE_CIS:
		case ROUTE_RELATIONS:
			return "identifyreconcile";
		case ROUTE_BATCH:
		case ROUTE_RECHECK:
			return "batch";
		case ROUTE_CALL:
			break;
	}
	return servicenow_is_ci(entity_type) && strcmp(action, "CLEAR") != 0 && strcmp(action, "DELETE") != 0 ? "instance"
																										  : "table";
}

/*
 * Links to shared records bring few new CIs each, so more of them fit than
 * CIs; an application and its profiles are a tree, where they do not.
 */
static void
lane_of(const AdapterConnection *conn, const char *entity_type, const char *action, bool in_doubt, AdapterLane *lane)
{
	int cis = servicenow_limit(conn, "batch_items", 500, 500);

	memset(lane, 0, sizeof(*lane));
	lane->nkinds = 1;
	lane->entity_types[0] = entity_type;
	lane->actions[0] = action;
	lane->api = api_name(conn, entity_type, action, in_doubt);
	switch (route_of(conn, entity_type, action, in_doubt))
	{
		case ROUTE_CIS:
			lane->max_items = cis;
			break;
		case ROUTE_RELATIONS:
			lane->max_items = strcmp(entity_type, "consumes") == 0 ? cis : cis * 4;
			break;
		case ROUTE_BATCH:
		case ROUTE_RECHECK:
			lane->max_items = Min(cis, SERVICENOW_BATCH_SUBS);
			break;
		case ROUTE_CALL:
			lane->max_items = 1;
			break;
	}
	lane->max_records = lane->max_items;
}

static int
max_lookups(const AdapterConnection *conn)
{
	return MAX_LOOKUPS;
}

/* ----------------------------------------------------------------- building */

static void
build_call(const AdapterConnection *conn, const AdapterItem *item, AdapterRequest *request)
{
	ServicenowCall call;

	request->nused = 1;
	if (servicenow_payload_refused(conn, item, NULL))
	{
		servicenow_request_nothing(request);
		return;
	}
	if (servicenow_instance_takes(conn, item))
		servicenow_instance_call(conn, item, &call);
	else
		servicenow_table_call(conn, item, &call);
	request->method = call.method;
	request->path = call.url;
	request->body = call.body;
	request->body_len = call.body != NULL ? strlen(call.body) : 0;
	request->content_type = "application/json";
	request->writes = true;
	request->timeout_ms = SERVICENOW_TABLE_TIMEOUT;
}

/* Is there a sub-request for the item?  Building and reading must agree on it. */
static bool
has_sub(const AdapterConnection *conn, const AdapterItem *item, Route route)
{
	return !servicenow_payload_refused(conn, item, NULL) &&
		   (route != ROUTE_RECHECK || servicenow_recheck_url(conn, item) != NULL);
}

static void
add_sub(const AdapterConnection *conn, const AdapterItem *item, Route route, ServicenowBatch *batch)
{
	ServicenowCall call;

	if (route == ROUTE_RECHECK)
	{
		servicenow_batch_add(batch, "GET", servicenow_recheck_url(conn, item), NULL);
		return;
	}
	servicenow_table_call(conn, item, &call);
	servicenow_batch_add(batch, call.method, call.url, call.body);
}

static void
build_batch(const AdapterConnection *conn, const AdapterItem *items, int nitems, Route route, AdapterRequest *request)
{
	int				bytes = servicenow_limit(conn, "batch_bytes", 4000000, 9000000);
	ServicenowBatch batch;

	servicenow_batch_begin(&batch);
	for (request->nused = 0; request->nused < nitems; request->nused++)
	{
		const AdapterItem *item = &items[request->nused];
		int				   room = item->payload != NULL ? (int) strlen(item->payload) * 2 + 1000 : 1000;

		if (batch.subs > 0 && (batch.subs >= SERVICENOW_BATCH_SUBS || batch.body.len + room > bytes))
			break;
		if (has_sub(conn, item, route))
			add_sub(conn, item, route, &batch);
	}
	if (batch.subs == 0)
	{
		servicenow_request_nothing(request);
		return;
	}
	servicenow_batch_end(&batch, request);
	request->writes = route == ROUTE_BATCH;
}

static void
build(const AdapterConnection *conn, const AdapterItem *items, int nitems, AdapterRequest *request)
{
	Route route = route_of(conn, items[0].entity_type, items[0].action, items[0].in_doubt);

	memset(request, 0, sizeof(*request));
	switch (route)
	{
		case ROUTE_CIS:
			servicenow_ire_build(conn, items, nitems, request);
			break;
		case ROUTE_RELATIONS:
			servicenow_relation_build(conn, items, nitems, request);
			break;
		case ROUTE_BATCH:
		case ROUTE_RECHECK:
			build_batch(conn, items, nitems, route, request);
			break;
		case ROUTE_CALL:
			build_call(conn, items, request);
			break;
	}
}

/* ------------------------------------------------------------------ reading */

/* Sets the outcomes of what was never sent; are these all? */
static bool
all_refused(const AdapterConnection *conn, const AdapterItem *items, int nitems, Route route, AdapterOutcome *outcomes)
{
	bool all = true;

	for (int i = 0; i < nitems; i++)
	{
		memset(&outcomes[i], 0, sizeof(AdapterOutcome));
		if (servicenow_payload_refused(conn, &items[i], &outcomes[i]))
			continue;
		if (route == ROUTE_RECHECK && servicenow_recheck_url(conn, &items[i]) == NULL)
			servicenow_answer_fail(&outcomes[i], OUTCOME_DEAD, "NO_KEY",
								   "it may have been created, and has no key to look for it by");
		else
			all = false;
	}
	return all;
}

/* A sub-request that nobody executed goes again at no cost, unless none at all was. */
static void
read_unserviced(const ServicenowSub *sub, int serviced, AdapterOutcome *outcome)
{
	if (sub->state == SUB_MISSING)
		servicenow_answer_fail(outcome, OUTCOME_RETRY, "NO_ANSWER", "the answer does not mention it");
	else if (serviced == 0)
		servicenow_answer_fail(outcome, OUTCOME_RETRY, "UNSERVICED", "the platform's time for a batch was not enough");
	else
		servicenow_answer_fail(outcome, OUTCOME_RELEASE, NULL, NULL);
}

static void
read_batch(const AdapterConnection *conn, const AdapterItem *items, const AdapterRequest *request, Route route,
		   struct json_object *root, AdapterOutcome *outcomes)
{
	int			   serviced;
	ServicenowSub *subs = servicenow_batch_open(root, request->subrequests, &serviced);
	int			   at = 0;

	for (int i = 0; i < request->nused && at < request->subrequests; i++)
	{
		ServicenowSub *sub = &subs[at];

		if (!has_sub(conn, &items[i], route))
			continue;
		at++;
		if (sub->state != SUB_SERVICED)
			read_unserviced(sub, serviced, &outcomes[i]);
		else if (route == ROUTE_RECHECK)
			servicenow_recheck_read(conn, &items[i], sub, &outcomes[i]);
		else
			servicenow_table_read(conn, &items[i], &sub->reply, sub->raw, &outcomes[i]);
	}
}

/* One call, one answer: what is about the item is the item's, the rest the request's. */
static void
read_call(const AdapterConnection *conn, const AdapterItem *item, const AdapterResponse *response,
		  ServicenowAnswer *answer, AdapterOutcome *outcome)
{
	bool		instance = servicenow_instance_takes(conn, item);
	const char *envelope;

	servicenow_answer_open(response, answer);
	envelope = servicenow_answer_envelope(answer->root);
	if (answer->verdict != RESPONSE_READABLE)
		return;
	if (instance && response->status == 403 && envelope != NULL && strstr(envelope, "User Not Authorized") != NULL)
	{
		servicenow_answer_whole(response, "the CMDB Instance API", answer);
		return;
	}
	if (instance)
		servicenow_instance_read(conn, item, answer, response->status, outcome);
	else
		servicenow_table_read(conn, item, response, NULL, outcome);
}

static const char *
api_of(Route route)
{
	return route == ROUTE_BATCH || route == ROUTE_RECHECK ? "the Batch API" : "Identification and Reconciliation";
}

static void
read_whole(const AdapterConnection *conn, const AdapterItem *items, const AdapterRequest *request, Route route,
		   const AdapterResponse *response, ServicenowAnswer *answer, AdapterOutcome *outcomes)
{
	bool ire = route == ROUTE_CIS || route == ROUTE_RELATIONS;

	servicenow_answer_whole(response, api_of(route), answer);
	if (answer->verdict != RESPONSE_READABLE)
		return;
	if (ire && !json_is_object(json_member(answer->root, "result")))
	{
		answer->verdict = RESPONSE_RETRY;
		answer->error_class = "BAD_RESPONSE";
		answer->message = "the answer has no result";
	}
	else if (route == ROUTE_CIS)
		servicenow_ire_read(conn, items, request->nused, answer->root, outcomes);
	else if (route == ROUTE_RELATIONS)
		servicenow_relation_read(conn, items, request->nused, answer->root, outcomes);
	else
		read_batch(conn, items, request, route, answer->root, outcomes);
}

static ResponseVerdict
read_answer(const AdapterConnection *conn, const AdapterItem *items, const AdapterRequest *request,
			const AdapterResponse *response, AdapterOutcome *outcomes, AdapterReport *report)
{
	Route			 route = route_of(conn, items[0].entity_type, items[0].action, items[0].in_doubt);
	ServicenowAnswer answer = {.verdict = RESPONSE_READABLE};

	if (all_refused(conn, items, request->nused, route, outcomes))
		return RESPONSE_READABLE;
	if (route == ROUTE_CALL)
		read_call(conn, items, response, &answer, outcomes);
	else
		read_whole(conn, items, request, route, response, &answer, outcomes);
	if (answer.verdict != RESPONSE_READABLE)
	{
		report->error_class = answer.error_class;
		report->message = answer.message;
	}
	return answer.verdict;
}

/* The same question as for nothing: one property. */
static void
build_probe(const AdapterConnection *conn, AdapterRequest *request)
{
	memset(request, 0, sizeof(*request));
	servicenow_request_nothing(request);
}

static ResponseVerdict
read_probe(const AdapterConnection *conn, const AdapterResponse *response, AdapterReport *report)
{
	ServicenowAnswer answer;

	servicenow_answer_open(response, &answer);
	report->error_class = answer.error_class;
	report->message = answer.message;
	return answer.verdict;
}

static void
build_lookup(const AdapterConnection *conn, const AdapterLookup *lookups, int nlookups, AdapterRequest *request)
{
	memset(request, 0, sizeof(*request));
	servicenow_lookup_build(conn, lookups, nlookups, request);
}

const Adapter servicenow_adapter = {
	.platform = "servicenow",
	.lookup_api = "batch",
	.probe_api = "table",
	.lane = lane_of,
	.build = build,
	.read = read_answer,
	.max_lookups = max_lookups,
	.build_lookup = build_lookup,
	.read_lookup = servicenow_lookup_read,
	.build_probe = build_probe,
	.read_probe = read_probe,
	.idempotent = idempotent,
};
