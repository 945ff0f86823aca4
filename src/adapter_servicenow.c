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
	ROUTE_IRE,	  /* Identification and Reconciliation: CIs and relationships between them */
	ROUTE_BATCH,  /* Table API, many in a Batch */
	ROUTE_CALL,	  /* one call an item */
	ROUTE_RECHECK /* is it there? many in a Batch */
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
	request->api = "table";
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
bool
servicenow_relation_by_ire(const AdapterConnection *conn, const char *entity_type)
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
	return servicenow_relation_by_ire(conn, entity_type);
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
		return ROUTE_IRE;
	return create && servicenow_relation_by_ire(conn, entity_type) ? ROUTE_IRE : ROUTE_BATCH;
}

/* -------------------------------------------------------------------- lanes */

/*
 * Kinds that may share a request with others: those of one group do, if they
 * take the same route.  Companies and users come before what refers to them,
 * each in a lane of its own; what is not listed travels with its own kind only.
 */
static const struct
{
	const char *entity_type;
	const char *action;
	int			group;
} kinds[] = {
	{"application", "CREATE", 0},
	{"application", "UPDATE", 0},
	{"deployment_profile", "CREATE", 0},
	{"deployment_profile", "UPDATE", 0},
	{"it_service", "CREATE", 0},
	{"it_service", "UPDATE", 0},
	{"software_package", "CREATE", 0},
	{"software_package", "UPDATE", 0},
	{"consumes", "CREATE", 0},
	{"depends_on", "CREATE", 0},
	{"runs_on", "CREATE", 0},
	{"sends_data_to", "CREATE", 0},
	{"company", "CREATE", 1},
	{"company", "UPDATE", 1},
	{"contact", "CREATE", 2},
	{"contact", "UPDATE", 2},
	{"software_product", "CREATE", 0},
	{"software_product", "UPDATE", 0},
	{"contract", "CREATE", 0},
	{"contract", "UPDATE", 0},
	{"covers", "CREATE", 0},
	{"covers", "UPDATE", 0},
	{"application", "CLEAR", 0},
	{"deployment_profile", "CLEAR", 0},
	{"it_service", "CLEAR", 0},
	{"software_package", "CLEAR", 0},
	{"software_product", "CLEAR", 0},
	{"contract", "CLEAR", 0},
	{"company", "CLEAR", 0},
	{"contact", "CLEAR", 0},
	{"consumes", "DELETE", 0},
	{"depends_on", "DELETE", 0},
	{"runs_on", "DELETE", 0},
	{"sends_data_to", "DELETE", 0},
	{"covers", "DELETE", 0},
	/* only in a rollback, which takes one entity type after another */
	{"contract", "DELETE", 3},
	{"deployment_profile", "DELETE", 3},
	{"application", "DELETE", 3},
	{"software_package", "DELETE", 3},
	{"software_product", "DELETE", 3},
	{"it_service", "DELETE", 3},
	{"contact", "DELETE", 3},
	{"company", "DELETE", 3},
};

/* The group of a kind; -1 if it shares with nobody. */
static int
group_of(const char *entity_type, const char *action)
{
	for (int i = 0; i < (int) lengthof(kinds); i++)
	{
		if (strcmp(kinds[i].entity_type, entity_type) == 0 && strcmp(kinds[i].action, action) == 0)
			return kinds[i].group;
	}
	return -1;
}

/* Looking for records changes nothing, so the order does not matter there. */
static void
fill_kinds(const AdapterConnection *conn, const char *entity_type, const char *action, bool in_doubt, AdapterLane *lane)
{
	Route route = route_of(conn, entity_type, action, in_doubt);
	int	  group = group_of(entity_type, action);

	if (group < 0 || route == ROUTE_CALL)
	{
		lane->entity_types[0] = entity_type;
		lane->actions[0] = action;
		lane->nkinds = 1;
		return;
	}
	for (int i = 0; i < (int) lengthof(kinds); i++)
	{
		if (route_of(conn, kinds[i].entity_type, kinds[i].action, in_doubt) != route ||
			(kinds[i].group != group && route != ROUTE_RECHECK))
			continue;
		Assert(lane->nkinds < ADAPTER_MAX_KINDS);
		lane->entity_types[lane->nkinds] = kinds[i].entity_type;
		lane->actions[lane->nkinds] = kinds[i].action;
		lane->nkinds++;
	}
}

/* A rate-limit rule is about one resource (servicenow-api 8). */
static const char *
api_name(const AdapterConnection *conn, const char *entity_type, const char *action, bool in_doubt)
{
	switch (route_of(conn, entity_type, action, in_doubt))
	{
		case ROUTE_IRE:
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
 * By number CIs are limited, relationships by bytes only: eight for each CI is
 * what a portfolio has, and what an answer may still hold.
 */
static void
lane_of(const AdapterConnection *conn, const char *entity_type, const char *action, bool in_doubt, AdapterLane *lane)
{
	int cis = servicenow_limit(conn, "batch_items", 500, 500);

	memset(lane, 0, sizeof(*lane));
	fill_kinds(conn, entity_type, action, in_doubt, lane);
	lane->api = api_name(conn, entity_type, action, in_doubt);
	switch (route_of(conn, entity_type, action, in_doubt))
	{
		case ROUTE_IRE:
			/* room for the CIs that relationships point at, and that are there already */
			lane->max_records = Max(cis - cis / 25, 1);
			lane->max_items = cis * 9;
			lane->ends_inside = true;
			break;
		case ROUTE_BATCH:
		case ROUTE_RECHECK:
			lane->max_records = lane->max_items = Min(cis, SERVICENOW_BATCH_SUBS);
			break;
		case ROUTE_CALL:
			lane->max_records = lane->max_items = 1;
			break;
	}
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
	ServicenowCall	  call;
	ServicenowPayload payload;

	request->nused = 1;
	servicenow_payload_open(conn, item, &payload);
	if (payload.refusal_class != NULL)
	{
		servicenow_request_nothing(request);
		return;
	}
	if (servicenow_instance_takes(conn, item))
		servicenow_instance_call(conn, item, &payload, &call);
	else
		servicenow_table_call(conn, item, &payload, &call);
	request->method = call.method;
	request->api = servicenow_instance_takes(conn, item) ? "instance" : "table";
	request->path = call.url;
	request->body = call.body;
	request->body_len = call.body != NULL ? strlen(call.body) : 0;
	request->content_type = "application/json";
	request->writes = true;
	request->timeout_ms = SERVICENOW_TABLE_TIMEOUT;
}

/* One item's part in a Batch. */
typedef struct Part
{
	ServicenowPayload payload;
	char			 *url;	 /* of a look for the record */
	bool			  sends; /* there is a sub-request for it */
} Part;

/* Building and reading must agree on what has a sub-request. */
static void
open_part(const AdapterConnection *conn, const AdapterItem *item, Route route, Part *part)
{
	part->url = NULL;
	servicenow_payload_open(conn, item, &part->payload);
	part->sends = part->payload.refusal_class == NULL;
	if (part->sends && route == ROUTE_RECHECK)
	{
		part->url = servicenow_recheck_url(conn, item, &part->payload);
		part->sends = part->url != NULL;
	}
}

static void
add_sub(const AdapterConnection *conn, const AdapterItem *item, const Part *part, ServicenowBatch *batch)
{
	ServicenowCall call;

	if (part->url != NULL)
	{
		servicenow_batch_add(batch, "GET", part->url, NULL);
		return;
	}
	servicenow_table_call(conn, item, &part->payload, &call);
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
		Part			   part;

		if (batch.subs > 0 && (batch.subs >= SERVICENOW_BATCH_SUBS || batch.body.len + room > bytes))
			break;
		open_part(conn, item, route, &part);
		if (part.sends)
			add_sub(conn, item, &part, &batch);
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
		case ROUTE_IRE:
			servicenow_ire_build(conn, items, nitems, request);
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

/* What never was in the payload. */
static void
read_stayed(const ServicenowPlace *place, AdapterOutcome *outcome)
{
	if (place->state == CARGO_WAITS)
		adapter_fail(outcome, OUTCOME_RELEASE, NULL, NULL);
	else if (place->state == CARGO_STRANDED)
		servicenow_answer_rule(outcome, "item", "END_MISSING", NULL);
	else
		servicenow_payload_refused(&place->payload, outcome);
}

static void
read_ire(const AdapterConnection *conn, const AdapterItem *items, int nitems, const AdapterResponse *response,
		 ServicenowAnswer *answer, AdapterOutcome *outcomes)
{
	ServicenowCargo *cargo = servicenow_cargo_new(conn, items, nitems);

	for (int i = 0; i < nitems; i++)
	{
		if (servicenow_cargo_load(cargo) != CARGO_TRAVELS)
			read_stayed(&cargo->places[i], &outcomes[i]);
	}
	if (cargo->nslots == 0)
		return;
	servicenow_cargo_close(cargo);
	servicenow_answer_whole(response, "Identification and Reconciliation", nitems, answer);
	if (answer->verdict != RESPONSE_READABLE)
		return;
	if (json_is_object(json_member(answer->root, "result")))
		servicenow_ire_read(cargo, answer->root, outcomes);
	else
		servicenow_answer_unusable(answer, "the answer has no result");
}

/* A sub-request that nobody executed goes again at no cost, unless none at all was. */
static void
read_unserviced(const ServicenowSub *sub, int serviced, AdapterOutcome *outcome)
{
	if (sub->state == SUB_MISSING)
		servicenow_answer_rule(outcome, "batch", "NO_ANSWER", NULL);
	else if (serviced == 0)
		servicenow_answer_rule(outcome, "batch", "UNSERVICED", NULL);
	else
		adapter_fail(outcome, OUTCOME_RELEASE, NULL, NULL);
}

static void
read_sub(const AdapterConnection *conn, const AdapterItem *item, const Part *part, const ServicenowSub *sub,
		 AdapterOutcome *outcome)
{
	ServicenowAnswer answer;

	if (part->url != NULL)
		servicenow_recheck_read(conn, item, &part->payload, sub, outcome);
	else
	{
		servicenow_answer_record(&sub->reply, servicenow_table_layer(item), true, &answer);
		servicenow_table_read(conn, item, &part->payload, &answer, sub->raw, outcome);
	}
	if (outcome->kind == OUTCOME_RETRY && sub->reply.retry_after_s > 0)
		outcome->retry_after_s = (int) sub->reply.retry_after_s;
}

/* Opens all parts, sets the outcomes of what was never sent, and returns how many were. */
static int
open_parts(const AdapterConnection *conn, const AdapterItem *items, int nitems, Route route, Part *parts,
		   AdapterOutcome *outcomes)
{
	int sent = 0;

	for (int i = 0; i < nitems; i++)
	{
		open_part(conn, &items[i], route, &parts[i]);
		if (parts[i].sends)
			sent++;
		else if (!servicenow_payload_refused(&parts[i].payload, &outcomes[i]))
			servicenow_answer_rule(&outcomes[i], "item", "NO_KEY", NULL);
	}
	return sent;
}

static void
read_batch(const AdapterConnection *conn, const AdapterItem *items, int nitems, Route route,
		   const AdapterResponse *response, ServicenowAnswer *answer, AdapterOutcome *outcomes, AdapterReport *report)
{
	Part		  *parts = palloc(sizeof(Part) * nitems);
	int			   sent = open_parts(conn, items, nitems, route, parts, outcomes);
	int			   serviced;
	ServicenowSub *sub;

	if (sent == 0)
		return;
	servicenow_answer_whole(response, "the Batch API", nitems, answer);
	if (answer->verdict != RESPONSE_READABLE)
		return;
	sub = servicenow_batch_open(answer->root, sent, &serviced, report);
	for (int i = 0; i < nitems; i++)
	{
		if (!parts[i].sends)
			continue;
		if (sub->state == SUB_SERVICED)
			read_sub(conn, &items[i], &parts[i], sub, &outcomes[i]);
		else
			read_unserviced(sub, serviced, &outcomes[i]);
		sub++;
	}
}

/* One call, one answer: what is about the item is the item's, the rest the request's. */
static void
read_call(const AdapterConnection *conn, const AdapterItem *item, const AdapterResponse *response,
		  ServicenowAnswer *answer, AdapterOutcome *outcome)
{
	bool			  instance = servicenow_instance_takes(conn, item);
	const char		 *envelope;
	ServicenowPayload payload;

	servicenow_payload_open(conn, item, &payload);
	if (servicenow_payload_refused(&payload, outcome))
		return;
	servicenow_answer_record(response, servicenow_table_layer(item), false, answer);
	envelope = servicenow_answer_envelope(answer->root);
	if (answer->verdict != RESPONSE_READABLE)
		return;
	if (instance && response->status == 403 && envelope != NULL && strstr(envelope, "User Not Authorized") != NULL)
		servicenow_answer_whole(response, "the CMDB Instance API", 1, answer);
	else if (instance)
		servicenow_instance_read(item, &payload, answer, outcome);
	else
		servicenow_table_read(conn, item, &payload, answer, NULL, outcome);
}

static ResponseVerdict
read_answer(const AdapterConnection *conn, const AdapterItem *items, const AdapterRequest *request,
			const AdapterResponse *response, AdapterOutcome *outcomes, AdapterReport *report)
{
	Route			 route = route_of(conn, items[0].entity_type, items[0].action, items[0].in_doubt);
	ServicenowAnswer answer = {.verdict = RESPONSE_READABLE};

	memset(outcomes, 0, sizeof(AdapterOutcome) * request->nused);
	switch (route)
	{
		case ROUTE_IRE:
			read_ire(conn, items, request->nused, response, &answer, outcomes);
			break;
		case ROUTE_BATCH:
		case ROUTE_RECHECK:
			read_batch(conn, items, request->nused, route, response, &answer, outcomes, report);
			break;
		case ROUTE_CALL:
			read_call(conn, items, response, &answer, outcomes);
			break;
	}
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
	.rules = servicenow_rules,
	.nrules = SERVICENOW_RULES,
	.lookup_api = "batch",
	.dry_run_api = "identifyreconcile",
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
